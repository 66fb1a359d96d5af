"""`edgekit train`, `evaluate` and `export`, one after the other, and in two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edgekit.bundle import open_bundle
from edgekit.cli import main
from edgekit.errors import CheckpointError, InputError, UnknownNameError, UsageError
from edgekit.models.checkpoint import build_network, read_recorded, save_checkpoint
from edgekit.models.zoo import get_variant
from edgekit.optional import require
from edgekit.training.data import open_data
from edgekit.training.engine import Outcome
from edgekit.training.evaluation import evaluate
from edgekit.training.features import evaluate_features
from edgekit.training.networks import fresh, load_teacher
from edgekit.training.recipe import DistillRecipe, Recipe, read_recipe
from edgekit.training.runs import distill, train
from tests.training import small

State = dict[str, torch.Tensor]

TRAIN = ["train", "micronet-m0", "--data", "digits", "--imgsz", "32", "--batch-size", "256"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs: enough to be better than chance, not to be good."""
    out = tmp_path_factory.mktemp("runs") / "m0"
    assert main([*TRAIN, "--epochs", "3", "--lr", "0.1", "--ema", "0.5", "-q", "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Some of the digits as image files: five steps of 64, and as few to evaluate on."""
    root = tmp_path_factory.mktemp("few")
    digits = require("sklearn.datasets", "the digits").load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if number < 400:
            folder = root / ("train" if number < 340 else "val") / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = (image * 15).astype(np.uint8)
            Image.fromarray(pixels).convert("RGB").save(folder / f"{number}.png")
    return f"imagefolder:{root}"


def test_a_run_is_a_folder_with_all_of_it(trained: Path) -> None:
    names = set(os.listdir(trained))
    assert names == {
        "recipe.toml", "best.safetensors", "last.safetensors", "state.safetensors",
        "metrics.jsonl", "events",
    }  # fmt: skip
    recipe = Recipe(**read_recipe(trained / "recipe.toml"))
    assert (recipe.model, recipe.data, recipe.image_size, recipe.lr) == (
        "micronet-m0", "digits", 32, 0.1,
    )  # fmt: skip
    recorded = read_recorded(trained / "best.safetensors")
    assert recorded.variant == "micronet-m0"
    assert recorded.labels == tuple("0123456789")
    assert recorded.image_size == 32
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert {"top-1", "top-5"} <= set(lines[0])


def test_a_run_is_neither_overwritten_nor_begun_again(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "last.safetensors").read_bytes()
    assert main([*TRAIN, "-o", str(trained)]) == 2
    assert "--resume goes on with it, --force starts anew" in capsys.readouterr().err
    assert main(["train", "--resume", "-q", "-o", str(trained)]) == 0  # it is at its end
    assert (trained / "last.safetensors").read_bytes() == before


def test_a_refused_resume_changes_nothing(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "recipe.toml").read_bytes()
    assert main(["train", "--resume", "-q", "-o", str(trained), "--lr", "0.3"]) == 2
    assert "was trained with lr 0.1, and now it is 0.3" in capsys.readouterr().err
    assert (trained / "recipe.toml").read_bytes() == before
    assert main(["train", "--resume", "-q", "-o", str(trained), "--workers", "1"]) == 0


def test_weights_without_a_state_are_not_trained_over(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("recipe.toml", "last.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    assert main(["train", "--resume", "-q", "-o", str(tmp_path)]) == 2
    assert "has weights and no state.safetensors to go on from" in capsys.readouterr().err
    assert (tmp_path / "last.safetensors").read_bytes() == (
        trained / "last.safetensors"
    ).read_bytes()
    assert main(["train", "--resume", "--force", "-q", "-o", str(trained)]) == 2
    assert "choose one" in capsys.readouterr().err


def test_a_recipe_of_the_other_command_is_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", "--resume", "-q", "-o", str(trained)]) == 2
    assert "is a recipe of edgekit train, not of edgekit distill" in capsys.readouterr().err
    (tmp_path / "recipe.toml").write_text('method = "seed"')
    assert main(["train", "--recipe", str(tmp_path / "recipe.toml")]) == 2
    assert "is a recipe of edgekit distill, not of edgekit train" in capsys.readouterr().err


def test_nothing_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", "-o", str(tmp_path / "none")]) == 2
    assert f"no run in {tmp_path / 'none'} to resume" in capsys.readouterr().err


def test_an_interrupted_run_ends_the_line_that_it_stands_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = Outcome(3, None, interrupted=True)
    monkeypatch.setattr("edgekit.training.runs.train", lambda *_, **__: stopped)
    assert main([*TRAIN, "-o", str(tmp_path / "run")]) == 130
    assert "stopped after 3 steps, all of them saved" in capsys.readouterr().out


def test_classes_of_other_names_are_not_evaluated(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(40):
        path = tmp_path / "set" / f"kind-{number % 10}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(path)
    data = f"imagefolder:{tmp_path / 'set'}"
    assert main(["evaluate", str(trained), "--data", data]) == 2
    assert "class 0 of best.safetensors is '0', and of the data 'kind-0'" in capsys.readouterr().err


def test_what_was_trained_is_exported_and_evaluated(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, bundle = str(trained / "best.safetensors"), str(tmp_path / "b")
    assert (
        main(["export", "micronet-m0", "--weights", weights, "--target", "arm", "-q", "-o", bundle])
        == 0
    )
    with open_bundle(Path(bundle)) as opened:
        assert opened.manifest.inputs[0].shape == (1, 3, 32, 32)
        assert opened.labels() == tuple("0123456789")
        assert not opened.manifest.weights.random
    capsys.readouterr()
    assert main(["evaluate", bundle, "--data", "digits", "--weights", weights, "-q", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["accuracy"]
    assert [row["runtime"] for row in found] == ["torch", "litert", "onnxruntime"]
    assert {row["images"] for row in found} == {360}
    assert all(row["agreement"] >= 0.99 for row in found[1:])
    assert main(["evaluate", weights, "--data", "digits", "-q", "--json"]) == 0
    (alone,) = json.loads(capsys.readouterr().out)["accuracy"]
    (same,) = evaluate(trained, "digits")
    assert same.top1 == alone["top1"], "a run is its best weights"
    other = tmp_path / "other.safetensors"
    save_checkpoint(
        fresh(get_variant("micronet-m0"), 10, 32, 5), "micronet-m0", other,
        labels=tuple("0123456789"), image_size=32,
    )  # fmt: skip
    assert main(["evaluate", bundle, "--data", "digits", "--weights", str(other), "-q"]) == 2
    assert "was exported from other weights than" in capsys.readouterr().err
    assert (alone["top1"], alone["top5"]) == (found[0]["top1"], found[0]["top5"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["train", "--data", "digits"], "a run needs a model"),
        (["train", "micronet-m0"], "a run needs --data"),
        (["train", "micronet-m9", "--data", "digits"], "unknown model 'micronet-m9'"),
        (["train", "micronet-m0", "--data", "digit"], "did you mean digits"),
        (["train", "micronet-m0", "--data", "digits", "--lr", "-1"], "lr is -1"),
        (["train", "micronet-m0", "--data", "digits", "--imgsz", "5"], "5"),
        (
            ["evaluate", "none.safetensors", "--data", "digits"],
            "no weights, run or bundle at none",
        ),
        (["evaluate", "none", "--data", "digits"], "no weights, run or bundle at none"),
    ],
)
def test_what_cannot_be_is_one_line(
    line: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(line) in (1, 2)
    (printed,) = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
    assert says in printed
    assert os.listdir(tmp_path) == []


def in_two_processes(*line: str, module: str = "edgekit") -> subprocess.CompletedProcess[str]:
    """Really distributed, with gloo between them."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", "0", "-m", module, *line,
    ]  # fmt: skip
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_are_one_run(trained: Path, few: str, tmp_path: Path) -> None:
    """Each takes half of a batch, and the embeddings in the queue are those of both."""
    run = tmp_path / "run"
    line = [
        "distill", "micronet-m0", "--teacher", str(trained / "best.safetensors"),
        "--data", few, "--imgsz", "32", "--epochs", "1", "--batch-size", "64", "--queue", "128",
        "--workers", "0", "-o", str(run),
    ]  # fmt: skip
    done = in_two_processes(*line)
    assert "on cpu" in done.stderr and "2 processes" in done.stderr
    assert done.stdout.count("1-NN of the last epoch") == 1, "one of them speaks"
    assert read_recorded(run / "best.safetensors").variant == "micronet-m0"
    state = load_file(run / "state.safetensors")
    # Five steps of 64 keys of both in a queue of 128; those of one alone would end at 32.
    assert int(state["objective.queues.0.position"]) == 5 * 64 % 128
    queue = state["objective.queues.0.embeddings"]
    assert not torch.equal(queue[:32], queue[32:64])


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    """The gradients of both halves of a batch are averaged, and steps are of the same images."""
    alone, _ = small.run(tmp_path / "one", small.PLAIN)
    in_two_processes(str(tmp_path / "two"), "plain", module="tests.training.small")
    together = load_file(tmp_path / "two" / "last.safetensors")
    start = small.Small(plain=True).state_dict()
    for key, value in alone.state_dict().items():
        moved = float((value - start[key]).abs().max())
        assert moved > 1e-2
        assert float((together[key] - value).abs().max()) < 1e-4 * moved, key


# ---- without classes ---------------------------------------------------------------------------


class Killed(BaseException):
    """In the place of a SIGKILL, which no code sees."""


def recipe_of(teacher: Path | None, data: str = "digits") -> DistillRecipe:
    return DistillRecipe(
        "micronet-m0", data, 32, epochs=2, batch_size=64, queue=128, save_minutes=0.0, workers=0,
        teacher=str(teacher or ""), method="seed" if teacher else "moco-v2",
    )  # fmt: skip


@pytest.mark.parametrize("method", ["seed", "moco-v2"])
def test_distillation_resumes_to_the_same_bits(
    method: str, trained: Path, few: str, tmp_path: Path
) -> None:
    recipe = recipe_of(trained / "best.safetensors" if method == "seed" else None, few)
    said: list[str] = []
    outcome = distill(recipe, tmp_path / "whole", progress=said.append)
    assert set(outcome.figures) == {"1-NN", "20-NN"}
    assert sum("1-NN" in line for line in said) == 2

    def kill(line: str) -> None:
        if line.startswith("epoch 1"):
            raise Killed

    with pytest.raises(Killed):
        distill(recipe, tmp_path / "cut", progress=kill)
    distill(recipe, tmp_path / "cut", resume=True)
    weights = [(tmp_path / run / "last.safetensors").read_bytes() for run in ("whole", "cut")]
    assert weights[0] == weights[1]
    assert weights[0] == (tmp_path / "whole" / "best.safetensors").read_bytes()
    assert outcome.best is None, "classes choose nothing"


def test_a_student_is_evaluated_by_its_features_and_exported_as_an_embedding(
    trained: Path, few: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, bundle = str(tmp_path / "run"), str(tmp_path / "b")
    line = [
        "distill", "micronet-m0", "--teacher", str(trained / "best.safetensors"),
        "--data", few, "--imgsz", "32", "--epochs", "1", "--batch-size", "64", "--queue", "128",
        "-q", "-o", run,
    ]  # fmt: skip
    assert main(line) == 0
    capsys.readouterr()
    assert main(["evaluate", run, "--data", few, "-q"]) == 2
    assert "tells no classes apart: use --knn or --linear-probe" in capsys.readouterr().err
    probe = ["--knn", "--linear-probe", "--probe-epochs", "1"]
    assert main(["evaluate", run, "--data", few, *probe, "-q", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["figures"]
    assert [(row["features"], row["how"]) for row in found] == [
        ("body", "1-NN"), ("body", "20-NN"), ("embedding", "1-NN"), ("embedding", "20-NN"),
        ("body", "linear, lr 30"), ("body", "linear, lr 10"), ("body", "linear, lr 3"),
    ]  # fmt: skip
    weights = f"{run}/best.safetensors"
    line = ["export", "micronet-m0", "--weights", weights, "--target", "arm", "--skip", "litert"]
    assert main([*line, "-q", "-o", bundle]) == 0
    with open_bundle(Path(bundle)) as opened:
        (output,) = opened.manifest.outputs
        assert opened.manifest.model.task == "embedding"
    assert output.shape == (1, 640)  # the features of its teacher, whose head was a classifier


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["--queue", "512"], "--method seed needs --teacher"),
        (["--teacher", "none.safetensors", "--queue", "100"], "must be a multiple of them"),
        (["--teacher", "none.safetensors"], "--teacher none.safetensors: no such file"),
        (["--teacher", "none.safetensors", "--teacher-model", "resnet18"], "no such file"),
        (["--method", "moco-v2", "--queue", "512", "--teacher", "x"], "has no teacher"),
        (["--method", "moco-v2", "--queue", "512", "--batch-size", "16"], "needs 32 images"),
    ],
)
def test_distillation_that_cannot_be_is_one_line(
    line: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "micronet-m0", "--data", "digits", *line]) in (1, 2)
    assert says in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_teacher_of_another_width_than_asked_for(trained: Path, tmp_path: Path) -> None:
    recipe = replace(recipe_of(trained / "best.safetensors"), embedding=128)
    with pytest.raises(
        UsageError, match="embedding has 640 numbers and the student's is to have 128"
    ):
        distill(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_go_on_with_another_teacher(trained: Path, few: str, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_bytes((trained / "best.safetensors").read_bytes())
    recipe = replace(recipe_of(teacher, few), epochs=1)
    distill(recipe, tmp_path / "run")
    distill(recipe, tmp_path / "run", resume=True)
    create = fresh(get_variant("micronet-m0"), 10, 32, 5)
    save_checkpoint(create, "micronet-m0", teacher, image_size=32)
    with pytest.raises(UsageError, match="was trained by another teacher"):
        distill(recipe, tmp_path / "run", resume=True)


def test_patches_are_learnt_from_and_resume(trained: Path, few: str, tmp_path: Path) -> None:
    recipe = replace(
        recipe_of(trained / "best.safetensors", few), epochs=1, patches=2, patch_size=8,
        augment="moco-v2",
    )  # fmt: skip
    said: list[str] = []
    distill(recipe, tmp_path / "whole", progress=said.append)
    assert "teacher: micronet-m0's features before its head, 640 numbers" in said
    state = load_file(tmp_path / "whole" / "state.safetensors")
    assert [int(state[f"objective.queues.{n}.position"]) for n in range(2)] == [5 * 64 % 128] * 2
    alone = distill(replace(recipe, patches=0), tmp_path / "alone")
    assert alone.steps == 5
    weights = [(tmp_path / run / "last.safetensors").read_bytes() for run in ("whole", "alone")]
    assert weights[0] != weights[1]


def test_a_linear_probe_that_is_interrupted_has_no_accuracy(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edgekit.training.probe.run_job", lambda *_: Outcome(3, None, interrupted=True)
    )
    with pytest.raises(KeyboardInterrupt):
        evaluate_features(trained / "best.safetensors", "digits", knn=False, probe_epochs=1)


# ---- teachers ----------------------------------------------------------------------------------


def of_moco(state: State) -> Any:
    body = {f"module.encoder_q.{key}": value for key, value in state.items()}
    followers = {f"module.encoder_k.{key}": value + 1 for key, value in state.items()}
    return {"epoch": 200, "state_dict": {**body, **followers, "module.queue": torch.zeros(128, 9)}}


def of_seed(state: State) -> Any:
    body = {f"module.student.{key}": value for key, value in state.items()}
    teachers = {f"module.teacher.{key}": value + 1 for key, value in state.items()}
    return {"arch": "resnet18", "state_dict": {**body, **teachers}, "optimizer": {"state": {}}}


def of_swav(state: State) -> Any:
    named = {key.replace("fc.", "projection_head."): value for key, value in state.items()}
    return {f"module.{k}": v for k, v in {**named, "prototypes.weight": torch.zeros(9, 16)}.items()}


def of_simclr(state: State) -> Any:
    return {"model": {f"module.module.module.{key}": value for key, value in state.items()}}


@pytest.mark.parametrize(
    ("pack", "head", "part"),
    [
        (of_moco, "projection", "#encoder_q"),
        (of_seed, "projection", "#student"),
        (of_swav, "projection-bn", ""),
        (of_simclr, "projection-bn", ""),
        (lambda state: {"state_dict": state}, "linear", ""),
    ],
)
def test_a_file_of_any_method_teaches(pack: Any, head: str, part: str, tmp_path: Path) -> None:
    """It gives its own embedding, or as a classifier the features before its head."""
    torch.manual_seed(0)
    network = build_network(get_variant("resnet18"), 16, 32, head).eval()
    torch.save(pack(network.state_dict()), tmp_path / "teacher.pth")
    found = load_teacher(f"{tmp_path / 'teacher.pth'}{part}", "resnet18", 32)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        answer = network.pooled if head == "linear" else network
        wanted = answer(images)  # type: ignore[operator]
        assert torch.equal(found.embedding(images), wanted)
    assert found.width == wanted.shape[1] == (512 if head == "linear" else 16)


def test_a_teacher_without_a_head_teaches_and_one_with_another_head_does_not(
    tmp_path: Path,
) -> None:
    state = build_network(get_variant("resnet18"), 16, 32).state_dict()
    body = {key: value for key, value in state.items() if not key.startswith("fc.")}
    torch.save(body, tmp_path / "body.pth")
    found = load_teacher(str(tmp_path / "body.pth"), "resnet18", 32)
    assert (found.width, found.what) == (512, "resnet18's features before its head, 512 numbers")
    with pytest.raises(UsageError, match="add --teacher-model ID"):
        load_teacher(str(tmp_path / "body.pth"), "", 32)
    deeper = {f"fc.{n}.weight": torch.zeros(512, 512) for n in (0, 2, 4)}
    torch.save(body | deeper, tmp_path / "deeper.pth")
    with pytest.raises(CheckpointError, match=r"a head that it cannot have \(fc.0.weight"):
        load_teacher(str(tmp_path / "deeper.pth"), "resnet18", 32)
    with pytest.raises(CheckpointError, match="^--teacher .*none.pth: no such file"):
        load_teacher(str(tmp_path / "none.pth"), "resnet18", 32)
    with pytest.raises(UnknownNameError, match="did you mean .*resnet50-x2"):
        load_teacher("none.pth", "resnet50-2x", 32)


@pytest.mark.parametrize("on_corrupt", ["skip", "fail"])
def test_a_held_out_image_that_cannot_be_read_is_said_or_fatal(
    on_corrupt: str, tmp_path: Path
) -> None:
    for number in range(24):
        path = tmp_path / "set" / ("val" if number < 8 else "train") / "ab"[number % 2]
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32, 3), number, np.uint8)).save(path / f"{number}.png")
    (tmp_path / "set" / "val" / "a" / "0.png").write_bytes(b"nothing")
    recipe = Recipe(
        "micronet-m0", f"imagefolder:{tmp_path / 'set'}", 32, epochs=1, batch_size=16, workers=0,
        on_corrupt=on_corrupt,
    )  # fmt: skip
    said: list[str] = []
    if on_corrupt == "fail":
        with pytest.raises(InputError, match="1 of the images to evaluate with cannot be read"):
            train(recipe, tmp_path / "run", progress=said.append)
    else:
        train(recipe, tmp_path / "run", progress=said.append)
        assert "1 of the images to evaluate with cannot be read" in said


@pytest.mark.parametrize("on_corrupt", ["skip", "fail"])
def test_an_image_that_cannot_be_read_is_listed_or_fatal(
    on_corrupt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    source = open_data(f"imagefolder:{tmp_path / 'set'}").train
    bad = source.name(3)
    (tmp_path / "set" / bad).write_bytes(b"nothing")
    out = tmp_path / "run"
    line = [
        "train", "micronet-m0", "--data", f"imagefolder:{tmp_path / 'set'}", "--imgsz", "32",
        "--epochs", "3", "--batch-size", str(len(source) // 2), "--workers", "0",
        "--on-corrupt", on_corrupt, "-o", str(out),
    ]  # fmt: skip
    assert main(line) == (0 if on_corrupt == "skip" else 1)
    printed = capsys.readouterr().err
    if on_corrupt == "skip":
        assert f"1 images could not be read: {out / 'corrupt.txt'}" in printed
        assert (out / "corrupt.txt").read_text().startswith(f"{bad}: ")
    else:
        assert f"error: {bad}: " in printed and "--on-corrupt skip trains without it" in printed
