"""Where images come from, and which of them a step takes."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgekit.bundle import Preprocessing
from edgekit.errors import InputError, UnknownNameError, UsageError
from edgekit.runtimes.preprocess import preprocess
from edgekit.training.augment import AUGMENTS, Crops, OnBatch, crop, get_augment
from edgekit.training.data import open_data
from edgekit.training.data.columns import name_classes
from edgekit.training.data.loading import Plan, evaluation_batches, training_batches
from edgekit.training.data.source import WINDOW
from edgekit.training.seeding import generator, place_seed

PHOTOS = [Crops(get_augment("photos"), 24)]


def image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Two classes of forty."""
    for number in range(80):
        image(tmp_path / "birds" / ("wren" if number % 2 else "auk") / f"{number}.png", number)
    return tmp_path / "birds"


def test_the_digits_are_all_there_and_none_is_in_both_parts() -> None:
    splits = open_data("digits")
    assert (len(splits.train), len(splits.held_out)) == (1437, 360)
    assert splits.train.labels == tuple("0123456789")
    assert {splits.train.label(i) for i in range(50)} == set(range(10))
    picture = splits.held_out.read(0)
    assert (picture.size, picture.mode) == ((8, 8), "RGB")
    assert splits.held_out.name(0) == "digit 1437"


def test_a_folder_a_class(birds: Path) -> None:
    splits = open_data(f"imagefolder:{birds}")
    assert splits.train.labels == splits.held_out.labels == ("auk", "wren")
    assert len(splits.train) + len(splits.held_out) == 80
    assert 1 <= len(splits.held_out) <= 20
    names = {s.name(i) for s in (splits.train, splits.held_out) for i in range(len(s))}
    assert len(names) == 80
    again = open_data(f"imagefolder:{birds}")
    assert again == splits
    for i in range(len(splits.train)):
        assert splits.train.labels[splits.train.label(i)] == splits.train.name(i).split("/")[0]


def test_folders_that_are_split_already(birds: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / "set" / part).mkdir(parents=True)
        for kind in ("auk", "wren"):
            (tmp_path / "set" / part / kind).mkdir()
            for file in sorted((birds / kind).iterdir())[: 5 if part == "val" else 20]:
                os.link(file, tmp_path / "set" / part / kind / file.name)
    splits = open_data(f"imagefolder:{tmp_path / 'set'}")
    assert (len(splits.train), len(splits.held_out)) == (40, 10)
    (tmp_path / "set" / "val" / "wren").rename(tmp_path / "set" / "val" / "wrens")
    with pytest.raises(UsageError, match="different classes: wren, wrens only in one of them"):
        open_data(f"imagefolder:{tmp_path / 'set'}")


def test_images_without_classes(tmp_path: Path) -> None:
    for number in range(60):
        image(tmp_path / f"{number}.jpg", number)
    splits = open_data(f"imagefolder:{tmp_path}")
    assert splits.train.labels == ()
    assert splits.train.label(0) == -1


def test_folders_that_hold_no_data_set(birds: Path, tmp_path: Path) -> None:
    for spec, says in [
        ("imagefolder:" + str(tmp_path / "none"), "no such folder"),
        ("imagefolder", "needs its folder"),
        ("digits:here", "write digits"),
    ]:
        with pytest.raises(UsageError, match=says):
            open_data(spec)
    with pytest.raises(UnknownNameError, match="unknown kind of data 'digit': did you mean digits"):
        open_data("digit")
    (birds / "owl").mkdir()
    with pytest.raises(UsageError, match="class 'owl' has no images"):
        open_data(f"imagefolder:{birds}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no folders with images, and no images"):
        open_data(f"imagefolder:{tmp_path / 'empty'}")


def test_one_file_under_two_classes_is_named(birds: Path) -> None:
    (birds / "wren" / "copy.png").write_bytes((birds / "auk" / "0.png").read_bytes())
    with pytest.raises(UsageError, match=r"auk/0.png and wren/copy.png are the same file under"):
        open_data(f"imagefolder:{birds}")


def shard(path: Path, samples: list[tuple[str, int, str]]) -> None:
    """Key, seed of the image and class of each sample."""
    with tarfile.open(path, "w") as archive:
        for key, seed, text in samples:
            pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3)).astype(np.uint8)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "png")
            for suffix, data in (("png", stream.getvalue()), ("cls", text.encode())):
                if data:
                    entry = tarfile.TarInfo(f"{key}.{suffix}")
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))


def test_tar_shards(tmp_path: Path) -> None:
    for part, count in (("train-0", 30), ("train-1", 30), ("val-0", 10)):
        shard(tmp_path / f"{part}.tar", [(f"{part}/{n}", n, str(n % 3)) for n in range(count)])
    splits = open_data(f"shards:{tmp_path}")
    assert (len(splits.train), len(splits.held_out)) == (60, 10)
    assert splits.train.labels == ("class 0", "class 1", "class 2")
    assert [splits.held_out.label(n) for n in range(4)] == [0, 1, 2, 0]
    wanted = np.random.default_rng(4).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    assert np.array_equal(np.asarray(splits.train.read(34)), wanted)
    assert splits.train.name(34) == "train-1.tar/train-1/4.png"
    (tmp_path / "classes.txt").write_text("auk\nowl\nwren\n")
    assert open_data(f"shards:{tmp_path}").train.labels == ("auk", "owl", "wren")
    (tmp_path / "classes.txt").write_text("auk\nowl\n")
    with pytest.raises(UsageError, match=r"class '2' is not in classes.txt"):
        open_data(f"shards:{tmp_path}")


def test_shards_of_one_part_hold_a_tenth_out(tmp_path: Path) -> None:
    shard(tmp_path / "all.tar", [(f"{n}", n, "auk" if n % 2 else "wren") for n in range(60)])
    splits = open_data(f"shards:{tmp_path}")
    assert splits.train.labels == ("auk", "wren")
    assert len(splits.train) + len(splits.held_out) == 60
    assert splits == open_data(f"shards:{tmp_path}")


def test_shards_that_hold_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no .tar files with images"):
        open_data(f"shards:{tmp_path}")
    (tmp_path / "a.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(UsageError, match="is not a tar shard"):
        open_data(f"shards:{tmp_path}")
    shard(tmp_path / "a.tar", [("1", 1, "x"), ("2", 2, "")])
    with pytest.raises(UsageError, match="2.png has no .cls beside it, and others have"):
        open_data(f"shards:{tmp_path}")
    shard(tmp_path / "a.tar", [("1", 1, "x")])
    with pytest.raises(UsageError, match="too few to hold a tenth out"):
        open_data(f"shards:{tmp_path}")


def test_a_shard_that_lost_its_end_names_the_image(tmp_path: Path) -> None:
    shard(tmp_path / "all.tar", [(f"{n}", n, "auk" if n % 2 else "wren") for n in range(60)])
    source = open_data(f"shards:{tmp_path}").train
    os.truncate(tmp_path / "all.tar", 2000)
    with pytest.raises(InputError):
        source.read(len(source) - 1)


@pytest.mark.parametrize("saved", ["parquet", "disk", "stream"])
def test_a_data_set_of_hugging_face(
    saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    image(tmp_path / "one.png", 5)
    data = (tmp_path / "one.png").read_bytes()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["auk", "wren"])}
    )
    parts = {
        name: datasets.Dataset.from_dict(
            {"image": [{"bytes": data, "path": None}] * count, "label": [0, 1] * (count // 2)},
            features=features,
        )
        for name, count in (("train", 8), ("test", 4))
    }
    if saved == "disk":
        datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    else:
        (tmp_path / "set").mkdir()
        for name, part in parts.items():
            part.to_parquet(tmp_path / "set" / f"{name}-0.parquet")
    splits = open_data(f"{'hf-stream' if saved == 'stream' else 'hf'}:{tmp_path / 'set'}")
    assert (tmp_path / "cache").exists() == (saved == "parquet"), "a stream is not copied"
    assert (len(splits.train), len(splits.held_out)) == (8, 4)
    assert splits.train.labels == ("auk", "wren")
    assert [splits.train.label(n) for n in range(3)] == [0, 1, 0]
    wanted = np.asarray(Image.open(tmp_path / "one.png"))
    assert np.array_equal(np.asarray(splits.train.read(2)), wanted)
    name = {"stream": "test-0.parquet group 0 row 1"}.get(saved, "test row 1")
    assert splits.held_out.name(1) == name


def test_folders_without_a_data_set_of_hugging_face(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder .data sets are not downloaded"):
        open_data(f"hf:{tmp_path / 'none'}")
    with pytest.raises(UsageError, match=r"no \*.parquet or \*.arrow in it"):
        open_data(f"hf:{tmp_path}")
    (tmp_path / "train.parquet").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read"):
        open_data(f"hf:{tmp_path}")


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """One part of 90 rows in row groups of 8, whose classes are names."""
    pa = pytest.importorskip("pyarrow")
    image(tmp_path / "one.png", 5)
    data = (tmp_path / "one.png").read_bytes()
    rows = {"image": [data] * 90, "label": [f"kind {n % 3}" for n in range(90)]}
    (tmp_path / "set").mkdir()
    pa.parquet.write_table(pa.table(rows), tmp_path / "set" / "all.parquet", row_group_size=8)
    return tmp_path / "set"


def test_row_groups_are_blocks_and_a_tenth_is_held_out(parquet: Path) -> None:
    splits = open_data(f"hf-stream:{parquet}")
    names = [part.name(n) for part in (splits.train, splits.held_out) for n in range(len(part))]
    assert len(names) == len(set(names)) == 90
    assert 0 < len(splits.held_out) < 20
    assert sum(splits.train.blocks) == len(splits.train)
    assert max(splits.train.blocks) <= 8
    assert splits.train.labels == splits.held_out.labels == ("kind 0", "kind 1", "kind 2")
    assert splits.train.read(3).size == (30, 20)
    for index in range(len(splits.train)):
        _, _, group, _, row = splits.train.name(index).split()
        assert splits.train.label(index) == (8 * int(group) + int(row)) % 3


def test_parquet_files_that_cannot_be_read(parquet: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    with pytest.raises(UsageError, match="no such folder"):
        open_data(f"hf-stream:{tmp_path / 'none'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \*.parquet in it"):
        open_data(f"hf-stream:{tmp_path / 'empty'}")
    (parquet / "test.parquet").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read"):
        open_data(f"hf-stream:{parquet}")
    pa.parquet.write_table(pa.table({"label": [1, 2]}), parquet / "all.parquet")
    with pytest.raises(UsageError, match="no column of images among label"):
        open_data(f"hf-stream:{parquet}")


@pytest.mark.parametrize(
    ("train", "held_out", "declared", "names", "numbers"),
    [
        ([2, 0], [1], (), ("class 0", "class 1", "class 2"), [(2, 0), (1,)]),
        ([1, 0], [1], ("auk", "wren"), ("auk", "wren"), [(1, 0), (1,)]),
        # A part that lacks a class has the numbers of the other one.
        (["b", "c"], ["c"], (), ("b", "c"), [(0, 1), (1,)]),
        ([None, None], [None], (), (), [(-1, -1), (-1,)]),
        ([-1], [-1], ("auk",), (), [(-1,), (-1,)]),
    ],
)
def test_classes_have_one_number_in_both_parts(
    train: list[Any], held_out: list[Any], declared: tuple[str, ...], names: Any, numbers: Any
) -> None:
    assert name_classes("d", [train, held_out], declared) == (names, numbers)


@pytest.mark.parametrize(
    ("values", "declared", "says"),
    [
        ([0, 1, -1], ("a", "b"), "d: 1 of 3 rows have no class"),
        ([0, 2], ("a", "b"), "d: class 2 is none of 2"),
        ([0, -3], (), "d: class -3 is none of 100000"),
        (["a", "c"], ("a", "b"), "d: class 'c' is not among its classes"),
    ],
)
def test_classes_that_cannot_be(values: list[Any], declared: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        name_classes("d", [values], declared)


# ---- order -------------------------------------------------------------------------------------


def test_every_image_once_an_epoch_whatever_the_processes() -> None:
    alone = list(Plan(103, 12, 7).from_step(0, 16))
    assert Plan(103, 12, 7).steps == 8
    for epoch in (alone[:8], alone[8:]):
        seen = [index for step in epoch for index, _ in step]
        assert len(set(seen)) == len(seen) == 96
    assert alone[0] != alone[8]
    shares = [list(Plan(103, 12, 7, rank, 3).from_step(0, 16)) for rank in range(3)]
    for step, wanted in enumerate(alone):
        assert [key for share in shares for key in share[step]] == wanted


def test_with_blocks_few_are_read_at_a_time() -> None:
    blocks = (20, 1, 30, 7, 25, 20, 10, 15, 5)
    block_of = np.repeat(np.arange(len(blocks)), blocks)
    plan = Plan(133, 7, 7, blocks=blocks)
    both = [index for step in plan.from_step(0, 2 * plan.steps) for index, _ in step]
    epochs = [both[:133], both[133:]]
    assert epochs[0] != epochs[1]
    for order in epochs:
        assert sorted(order) == list(range(plan.images))
        windows: list[list[int]] = []
        seen = []
        for block in block_of[order]:  # a block is not asked for again once its window is over
            if not windows or block not in windows[-1]:
                if not windows or len(windows[-1]) == WINDOW:
                    windows.append([])
                windows[-1].append(block)
                seen.append(block)
        assert sorted(seen) == list(range(len(blocks)))


@pytest.mark.parametrize("blocks", [(), (60, 43)])
def test_an_order_can_begin_anywhere(blocks: tuple[int, ...]) -> None:
    plan = Plan(103, 12, 7, blocks=blocks)
    whole = list(plan.from_step(0, 16))
    assert all(list(plan.from_step(first, 16)) == whole[first:] for first in range(16))
    assert len({place for step in whole for _, place in step}) == 16 * 12


@pytest.mark.parametrize(
    ("images", "batch", "world", "says"),
    [(10, 12, 1, "use --batch-size 5"), (100, 12, 5, "must divide"), (100, 4, 4, "two for each")],
)
def test_batches_that_cannot_be(images: int, batch: int, world: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Plan(images, batch, 0, 0, world)


def test_streams_of_draws_are_apart() -> None:
    seeds = {
        place_seed(seed, what, place)
        for seed in range(5)
        for what in range(4)
        for place in range(50)
    }
    assert len(seeds) == 5 * 4 * 50
    assert all(0 <= seed < 2**63 for seed in seeds)


# ---- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_depend_on_the_place_and_not_on_the_workers(birds: Path, workers: int) -> None:
    source = open_data(f"imagefolder:{birds}").train
    plan, row = Plan(len(source), 16, 3), get_augment("photos")
    kinds = [Crops(row, 24), Crops(replace(row, area=(0.05, 0.14)), 10, 6)]

    def read(first: int, count: int) -> list[tuple[torch.Tensor, ...]]:
        found = training_batches(source, plan, kinds, first=first, last=6, workers=count)
        return [batch.views for batch in found]

    wanted = read(0, 0)
    assert [view.shape for view in wanted[0]] == [(16, 3, 24, 24), (16, 6, 3, 10, 10)]
    assert {view.dtype for view in wanted[0]} == {torch.uint8}
    patches = wanted[0][1][0]
    assert not torch.equal(patches[0], patches[1])
    for got, want in zip(read(2, workers), wanted[2:], strict=True):
        assert all(torch.equal(*pair) for pair in zip(got, want, strict=True))


def test_corrupt_images_are_named_and_others_stand_in(birds: Path) -> None:
    source = open_data(f"imagefolder:{birds}").train
    bad = {source.name(index) for index in (0, 5)}
    for name in bad:
        (birds / name).write_bytes(b"nothing")
    plan = Plan(len(source), 16, 3)
    found = list(training_batches(source, plan, PHOTOS, first=0, last=plan.steps, workers=0))
    assert all(len(batch.images) == len(batch.classes) == 16 for batch in found)
    named = {line.partition(":")[0] for batch in found for line in batch.corrupt}
    assert named <= bad
    rule = Preprocessing(24, (20, 20), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    whole = list(evaluation_batches(source, rule, batch_size=16, workers=0))
    assert sum(len(batch.images) for batch in whole) == len(source) - 2
    assert {line.partition(":")[0] for batch in whole for line in batch.corrupt} == bad
    for index in range(len(source)):
        (birds / source.name(index)).write_bytes(b"nothing")
    with pytest.raises(InputError, match="no image of a whole batch can be read"):
        next(training_batches(source, plan, PHOTOS, first=0, last=1, workers=0))


def test_evaluation_sees_what_the_bundle_sees(birds: Path) -> None:
    source = open_data(f"imagefolder:{birds}").held_out
    rule = Preprocessing(24, (20, 20), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bicubic")
    batch = next(evaluation_batches(source, rule, batch_size=4, workers=0))
    assert np.array_equal(batch.images[0].numpy(), preprocess(source.read(0), rule)[0])


@pytest.mark.parametrize("name", AUGMENTS)
def test_every_augmentation_gives_images(name: str) -> None:
    row = get_augment(name)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    made = [crop(Image.fromarray(pixels), row, 32, generator(0, 1, n)) for n in range(8)]
    images = torch.stack([torch.from_numpy(each.copy()).permute(2, 0, 1) for each in made])
    on_batch = OnBatch(row, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    torch.manual_seed(5)
    first = on_batch(images)
    torch.manual_seed(5)
    assert torch.equal(on_batch(images), first)
    assert first.shape == (8, 3, 32, 32)
    assert first.isfinite().all()
    assert -1.01 <= float(first.min()) < float(first.max()) <= 1.01
    plain = (images.float() / 255 - 0.5) / 0.5
    assert torch.equal(first, plain) == (name == "none")


def test_a_crop_is_never_outside() -> None:
    row = get_augment("photos")
    narrow = Image.fromarray(np.zeros((400, 3, 3), np.uint8))
    for n in range(20):
        assert crop(narrow, row, 16, generator(0, 1, n)).shape == (16, 16, 3)


def test_an_unknown_augmentation() -> None:
    with pytest.raises(UnknownNameError, match="did you mean photos"):
        get_augment("photo")
