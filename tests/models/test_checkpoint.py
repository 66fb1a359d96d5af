"""Reading checkpoints, and loading them strictly."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from edgekit.errors import CheckpointError, UnknownNameError
from edgekit.models import checkpoint
from edgekit.models.building import create
from edgekit.models.checkpoint import (
    Recorded,
    build_network,
    load_strict,
    read_checkpoint,
    read_recorded,
    save_checkpoint,
    variant_shapes,
)
from edgekit.models.zoo import VARIANTS, Variant, get_variant
from tests.models import fill_rule

State = dict[str, Tensor]
SMALL: State = {"a.weight": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}


def same(a: State, b: State) -> bool:
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def with_prefix(state: State) -> State:
    return OrderedDict((f"module.{key}", value) for key, value in state.items())


# ---------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------

LAYOUTS: dict[str, Any] = {
    "bare": SMALL,
    "prefixed": with_prefix(SMALL),
    "nested": {"state_dict": SMALL},
    "nested, prefixed": {
        "epoch": 600,
        "arch": "MicroNet",
        "state_dict": with_prefix(SMALL),
        "best_prec1": torch.tensor(46.6),
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
    },
    "beside scalars and arguments": {
        "state_dict": SMALL,
        "best_prec1": np.float64(46.6),
        "best_prec5": np.float32(70),
        "args": argparse.Namespace(lr=0.2, arch="m0"),
    },
    "torchvision's scripts": {
        "model": SMALL,
        "model_ema": {"n_averaged": torch.tensor(1), **with_prefix(SMALL)},
        "optimizer": {},
        "args": argparse.Namespace(lr=0.2),
    },
    "timm's training": {"state_dict": SMALL, "state_dict_ema": {"a.weight": torch.zeros(2, 3)}},
    "SimCLR": {"model": with_prefix(with_prefix(with_prefix(SMALL)))},
    "nested twice": {"model": {"state_dict": SMALL}},
    "parameters": {key: torch.nn.Parameter(SMALL[key], requires_grad=False) for key in SMALL},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("content", LAYOUTS.values(), ids=list(LAYOUTS))
def test_every_layout_is_read(content: Any, legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    state = read_checkpoint(path)
    assert same(state, SMALL)
    assert not any(isinstance(value, torch.nn.Parameter) for value in state.values())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_safetensors_are_recognised_by_content(name: str, tmp_path: Path) -> None:
    save_file(with_prefix(SMALL), tmp_path / name)
    assert read_checkpoint(tmp_path / name).keys() == SMALL.keys()


def test_a_prefix_on_some_keys_only_is_part_of_their_names(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.pth")
    assert set(read_checkpoint(tmp_path / "w.pth")) == {"module.a", "b"}


class Bomb:
    """Leaves a file behind when unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_is_not_executed(legacy: bool, tmp_path: Path) -> None:
    path, proof = tmp_path / "w.pth", tmp_path / "proof"
    content = {"state_dict": SMALL, "x": Bomb(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"w\.pth contains code .*mkdir.* not executed") as e:
        read_checkpoint(path)
    assert "\n" not in str(e.value)
    assert not proof.exists()
    torch.load(path, weights_only=False)  # the file is armed: this is what was prevented
    assert proof.exists()


def test_a_plain_pickle_with_code_is_not_executed(tmp_path: Path) -> None:
    path, proof = tmp_path / "w.pkl", tmp_path / "proof"
    path.write_bytes(pickle.dumps(Bomb(proof)))
    words = r"w\.pkl .* holds something other than tensors; nothing in it was executed"
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(path)
    assert not proof.exists()


def test_a_flipped_bit_in_a_weight_is_found(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"w": torch.full((1000,), 0.5)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((9,), 0.5).numpy().tobytes()) + 40] ^= 1
    path.write_bytes(data)
    assert not bool((torch.load(path, weights_only=True)["w"] == 0.5).all()), "torch takes it"
    with pytest.raises(CheckpointError, match=r"w\.pth is damaged: the checksum of 'w/data/0'"):
        read_checkpoint(path)


def test_a_whole_network_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match=r"contains code \(torch\.nn\.modules\.linear"):
        read_checkpoint(path)


def test_a_torchscript_program_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        program = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    program.save(str(path))
    with pytest.raises(CheckpointError, match=r"w\.pt is a TorchScript program"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"w\.pth is empty"),
        (b"<html>no</html>", r"w\.pth is not a checkpoint: it starts with b'<html>"),
        (b"\x00" * 100, "is not a checkpoint"),
        (b"PK\x03\x04" + b"\x00" * 50, r"w\.pth is damaged"),
        (b"\x80\x02garbage", r"w\.pth is damaged"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{", r"w\.pth is damaged"),
        (b"\x05\x00\x00\x00\x00\x00\x00\x00{nojs", r"w\.pth is damaged"),
    ],
)
def test_what_is_no_checkpoint_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_file_cut_short_is_damaged(kind: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    state = {f"layer{i}.weight": torch.ones(40, 40) for i in range(5)}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match=r"w\.pth is damaged, cut short or no checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.ones(1)], "holds a list"),
        (torch.ones(1), "holds a Tensor"),
        ({}, "holds a dict"),
        ({"state_dict": {}}, "holds a dict"),
        ({"epoch": 3, "net": 4}, "epoch, net hold no dense tensor"),
        ({"model": {"w": 3, "v": torch.ones(1)}}, "w hold no dense tensor"),
        ({"w": torch.ones(2, 2).to_sparse()}, "w hold no dense tensor"),
        ({"w": torch.ones(2, device="meta")}, "w hold no dense tensor"),
        ({1: torch.ones(2)}, "1 hold no dense tensor"),
    ],
)
def test_what_is_no_state_dict_is_named(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"w\.pth .*{words}"):
        read_checkpoint(path)


# ---------------------------------------------------------------------------
# Parts
# ---------------------------------------------------------------------------

OTHER: State = {"a.weight": torch.zeros(2, 3)}


def under(prefix: str, state: State) -> State:
    return {f"{prefix}.{key}": value for key, value in state.items()}


SEED = {
    **under("module.student", SMALL),
    **under("module.teacher", OTHER),
    "module.queue": torch.ones(2),
}
PARTS: dict[str, tuple[Any, str]] = {
    "of a state dict": ({"state_dict": SEED}, "student"),
    "written with DataParallel's prefix": ({"state_dict": SEED}, "module.student"),
    "from the outermost": ({"state_dict": SEED}, "state_dict.student"),
    "with a prefix inside": (under("net", with_prefix(SMALL)), "net"),
    "of several components": (under("a.b.c", SMALL) | under("a.b.d", OTHER), "a.b.c"),
    "with a prefix that some keys have": (
        {"module.s.a": SMALL["n"], "s.b": SMALL["n"]},
        "module.s",
    ),
    "averaged weights": ({"model": OTHER, "model_ema": with_prefix(SMALL)}, "model_ema"),
    "that is no state_dict's": ({"student": SMALL, "teacher": OTHER}, "student"),
    "with odd characters": (under("a b/\u00e4\n", SMALL), "a b/\u00e4\n"),
    "beside what is no tensor": ({"x": 3, **under("student", SMALL)}, "student"),
}


@pytest.mark.parametrize(("content", "part"), PARTS.values(), ids=list(PARTS))
def test_a_part_is_taken_without_its_prefix(content: Any, part: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    found = read_checkpoint(tmp_path / "w.pth", part)
    wanted = {"a": SMALL["n"]} if part == "module.s" else SMALL
    assert same(found, wanted)


@pytest.mark.parametrize("part", ["nobody", "stud", "student.a.weight", "queue", "student..a", "."])
def test_an_unknown_part_is_answered_with_those_there_are(part: str, tmp_path: Path) -> None:
    torch.save({"state_dict": SEED}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "w.pth", part)
    assert str(caught.value) == (
        f"w.pth has no part {part!r}; it has student (2 tensors), teacher, queue."
    )


def test_a_hostile_part_does_not_reach_the_terminal(tmp_path: Path) -> None:
    torch.save({"\x1b[2Jx.a": torch.ones(1), "y": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "w.pth", "\x1b[31m\n" + "z" * 500)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("content", "offered"),
    [
        ({"epoch": 3, "model_ema": SMALL}, "--weights my/w.pth#model_ema"),
        ({"state_dict_ema": SMALL}, "--weights my/w.pth#state_dict_ema"),
        (
            {"student": SMALL, "teacher": OTHER, "optimizer": {}},
            "--weights my/w.pth#student or --weights my/w.pth#teacher",
        ),
    ],
)
def test_averaged_and_other_tensors_are_not_taken_unasked(
    content: Any, offered: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(
        CheckpointError, match="has no 'state_dict' or 'model', but tensors under"
    ) as e:
        read_checkpoint(tmp_path / "w.pth", spec="my/w.pth")
    assert str(e.value).endswith(f"choose with {offered}.")


def test_two_nests_are_not_chosen_between_unasked(tmp_path: Path) -> None:
    torch.save({"state_dict": SMALL, "model": OTHER}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="w.pth#state_dict or --weights .*w.pth#model"):
        read_checkpoint(tmp_path / "w.pth")
    assert same(read_checkpoint(tmp_path / "w.pth", "model"), OTHER)


def test_a_folder_and_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="cannot read .*none.pth: No such file"):
        read_checkpoint(tmp_path / "none.pth")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with path.open("wb") as file:
        file.truncate(checkpoint.MAX_BYTES + 1)  # sparse: takes no space
    with pytest.raises(CheckpointError, match="has 4,294,967,297 bytes; .* at most 4,294,967,296"):
        read_checkpoint(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 100_000)
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(1_000_000))
    with pytest.raises(CheckpointError, match="unpacks to 1,000,000 bytes; at most 100,000"):
        read_checkpoint(path)


# ---------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------


def test_a_saved_network_says_what_it_is(tmp_path: Path) -> None:
    path, network = tmp_path / "own.safetensors", build_network(get_variant("mobilenetv3-small"), 3)
    save_checkpoint(network, "mobilenetv3-small", path)
    assert read_recorded(path) == Recorded("mobilenetv3-small")
    assert same(
        dict(sorted(read_checkpoint(path).items())), dict(sorted(network.state_dict().items()))
    )
    before = path.read_bytes()
    save_checkpoint(network, "mobilenetv3-small", path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["own.safetensors"]


def test_a_trained_network_brings_its_classes_and_its_size(tmp_path: Path) -> None:
    path, network = tmp_path / "own.safetensors", build_network(get_variant("mobilenetv3-small"), 3)
    save_checkpoint(network, "mobilenetv3-small", path, labels=("a", "b", "c"), image_size=64)
    assert read_recorded(path) == Recorded("mobilenetv3-small", ("a", "b", "c"), 64)
    created = create("mobilenetv3-small", str(path))
    assert (created.num_classes, created.image_size) == (3, 64)
    assert created.labels == ("a", "b", "c")
    assert create("mobilenetv3-small", str(path), image_size=96).image_size == 96
    dropped = create("mobilenetv3-small", str(path), num_classes=3, drop_head=True)
    assert dropped.labels == ()
    with pytest.raises(CheckpointError, match="is to have 4: use --num-classes 3"):
        create("mobilenetv3-small", str(path), num_classes=4)


@pytest.mark.parametrize(
    "facts",
    [
        '{"labels": ["a\\tb", "c"]}',
        '{"labels": ["a\\nb"]}',
        '{"labels": 3}',
        '{"image_size": "large"}',
        '{"variant": 3}',
        '{"other": 1}',
        "[1]",
        "{",
        "[" * 100_000,
    ],
)
def test_facts_that_cannot_be_are_refused(tmp_path: Path, facts: str) -> None:
    save_file(SMALL, tmp_path / "own.safetensors", metadata={"edgekit": facts})
    with pytest.raises(CheckpointError, match="says of itself what cannot be"):
        read_recorded(tmp_path / "own.safetensors")


def test_other_files_record_nothing(m0_file: Path, tmp_path: Path) -> None:
    assert read_recorded(m0_file) == Recorded()
    save_file(SMALL, tmp_path / "plain.safetensors")
    assert read_recorded(tmp_path / "plain.safetensors") == Recorded()


def test_another_network_is_not_saved_under_an_id(tmp_path: Path) -> None:
    path, network = tmp_path / "own.safetensors", build_network(get_variant("mobilenetv3-small"))
    with pytest.raises(CheckpointError, match="what is to be saved is no mobilenetv2-x0.5: "):
        save_checkpoint(network, "mobilenetv2-x0.5", path)
    with pytest.raises(UnknownNameError, match="did you mean mobilenetv3-small"):
        save_checkpoint(network, "mobilenetv3-smal", path)
    network.classifier = torch.nn.Identity()
    with pytest.raises(CheckpointError, match="classifier.0"):
        save_checkpoint(network, "mobilenetv3-small", path)
    assert os.listdir(tmp_path) == []


def test_half_a_file_is_never_left(tmp_path: Path) -> None:
    network = build_network(get_variant("micronet-m0"))
    (tmp_path / "taken").mkdir()
    with pytest.raises(CheckpointError, match="cannot write .*taken: Is a directory"):
        save_checkpoint(network, "micronet-m0", tmp_path / "taken")
    with pytest.raises(CheckpointError, match="cannot write .*No such file or directory"):
        save_checkpoint(network, "micronet-m0", tmp_path / "none" / "own.safetensors")
    assert os.listdir(tmp_path) == ["taken"]


# ---------------------------------------------------------------------------
# Loading
# ---------------------------------------------------------------------------


def m0() -> torch.nn.Module:
    return build_network(get_variant("micronet-m0"))


@pytest.mark.parametrize("config", ["m0", "m1", "m2", "m3"])
def test_official_checkpoints_load(config: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    state = fill_rule.state(config)
    torch.save({"epoch": 1, "state_dict": with_prefix(state)}, path)
    network = build_network(get_variant(f"micronet-{config}"))
    assert load_strict(network, read_checkpoint(path), path.name) == ()
    assert same(network.state_dict(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_noted(dtype: torch.dtype, m0_state: State) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in m0_state.items()}
    network = m0()
    assert load_strict(network, state, "w.pth") == (
        f"w.pth: {dtype} converted to the network's own type",
    )
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_missing_and_left_over_keys_are_counted_and_named(m0_state: State) -> None:
    state = {k: v for k, v in m0_state.items() if "classifier" not in k}
    state["extra.weight"] = torch.ones(1)
    with pytest.raises(CheckpointError) as caught:
        load_strict(m0(), state, "w.pth")
    assert str(caught.value) == (
        "w.pth does not fit this network: 14 keys missing (classifier.0.linear.0.weight, "
        "classifier.0.linear.0.bias, classifier.0.linear.1.weight and 11 more), 1 left over "
        "(extra.weight). It fits no network of the zoo."
    )


def test_another_shape_is_named(m0_state: State) -> None:
    state = {**m0_state, "features.7.layers.1.fc.0.bias": torch.zeros(23)}
    with pytest.raises(CheckpointError, match=r"fc\.0\.bias: got \[23\], expected \[24\]"):
        load_strict(m0(), state, "w.pth")


@pytest.mark.parametrize("config", ["m1", "m2", "m3"])
def test_the_right_network_is_suggested(config: str) -> None:
    with pytest.raises(CheckpointError, match=f"It fits micronet-{config} .*1000 classes"):
        load_strict(m0(), fill_rule.state(config), "w.pth")


def test_files_older_than_counts_of_batches_load_as_if_none_had_been_seen(m0_state: State) -> None:
    old = {key: value for key, value in m0_state.items() if "num_batches" not in key}
    assert len(m0_state) - len(old) == 26
    network = m0()
    assert load_strict(network, old, "w.pth") == ()
    counts = [v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")]
    assert len(counts) == 26
    assert not any(counts)
    (first, *_) = (key for key in m0_state if "num_batches" in key)
    some_counts = {**old, first: torch.tensor(0)}
    with pytest.raises(CheckpointError, match="25 keys missing"):
        load_strict(m0(), some_counts, "w.pth")


def test_another_head_suggests_num_classes() -> None:
    state = build_network(get_variant("micronet-m0"), 37).state_dict()
    with pytest.raises(
        CheckpointError, match="It fits micronet-m0 with another head: use --num-classes 37"
    ):
        load_strict(m0(), state, "w.pth")


def test_a_released_head_in_a_network_of_another_width_says_so(m0_state: State) -> None:
    with pytest.raises(CheckpointError, match="needs no --num-classes"):
        load_strict(build_network(get_variant("micronet-m0"), 10), m0_state, "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(value: float, m0_state: State) -> None:
    key = "classifier.0.linear.0.bias"
    state = {**m0_state, key: m0_state[key].clone()}
    state[key][5] = value
    network = m0()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"NaN or infinity in 1 tensors \({key}\)"):
        load_strict(network, state, "w.pth")
    assert same(network.state_dict(), before)


def test_what_overflows_in_float_is_refused(m0_state: State) -> None:
    key = "classifier.0.linear.0.bias"
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        load_strict(m0(), {**m0_state, key: m0_state[key].double() * 1e300}, "w.pth")


def test_a_negative_variance_is_refused(m0_state: State) -> None:
    key = "classifier.0.linear.1.running_var"
    with pytest.raises(CheckpointError, match="negative variance in 1 tensors"):
        load_strict(m0(), {**m0_state, key: -m0_state[key]}, "w.pth")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_types_that_are_no_weights_are_refused(dtype: torch.dtype, m0_state: State) -> None:
    key = "classifier.0.linear.0.bias"
    with pytest.raises(CheckpointError, match=f"{key} is {dtype}, the network needs torch.float32"):
        load_strict(m0(), {**m0_state, key: m0_state[key].to(dtype)}, "w.pth")


def test_a_giant_view_of_one_number_costs_nothing(m0_state: State) -> None:
    key = "classifier.0.linear.0.bias"
    giant = torch.ones(1).expand(1 << 50)
    with pytest.raises(CheckpointError, match="of another shape"):
        load_strict(m0(), {**m0_state, key: giant}, "w.pth")


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_shapes_are_known_without_building(variant: Variant) -> None:
    state = build_network(variant).state_dict()
    assert variant_shapes(variant) == {key: tuple(value.shape) for key, value in state.items()}


def test_a_dict_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, object] = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "endless.pth")
    with pytest.raises(CheckpointError, match=r"endless\.pth is nested more than 8 deep"):
        read_checkpoint(tmp_path / "endless.pth")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors reports it with an exception that is no OSError."""
    path, network = tmp_path / "own.safetensors", build_network(get_variant("micronet-m0"), 3)
    save_checkpoint(network, "micronet-m0", path)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*No space left .* is still there"):
        save_checkpoint(network, "micronet-m0", path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
