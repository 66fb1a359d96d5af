"""``edgekit export``: from a typed line to a bundle, and every way the line can be wrong."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekit.bundle import open_bundle
from edgekit.cli import main
from edgekit.export import pipeline
from edgekit.models.building import create
from edgekit.models.heads import build_head
from edgekit.models.zoo import VARIANTS, Weights

PHOTO = Path(__file__).resolve().parents[2] / "examples" / "photo.jpg"


def failure(capsys, *arguments, code):
    """The one line on stderr of a command that must fail, progress apart."""
    assert main(["export", *map(str, arguments), "-q"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("edgekit: error: ")
    return line


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of the pipeline; nothing is exported."""
    calls = {}

    class StoppedError(Exception):
        pass

    def record(name):
        def call(*arguments, **options):
            calls[name] = (arguments, options)
            raise StoppedError

        return call

    monkeypatch.setattr(pipeline, "export_zoo", record("zoo"))
    monkeypatch.setattr(pipeline, "export_onnx", record("onnx"))
    return calls


def test_a_bundle_from_the_users_own_file(bundle):
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
        assert opened.labels() == ("cat", "dog", "neither", "both")
    assert [artifact.runtime for artifact in manifest.artifacts] == ["openvino", "onnxruntime"]
    assert manifest.preprocessing is not None
    assert manifest.preprocessing.mean == (0.5, 0.5, 0.5)


def test_what_is_printed(onnx_file, tmp_path, capsys):
    out = tmp_path / "made"
    assert main(["export", str(onnx_file), "--target", "x86", "-o", str(out)]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].split() == ["runtime", "files", "size", "max", "error", "allowed", "against"]
    assert lines[1].startswith("openvino")
    assert "1e-04" in lines[1]
    assert "colours: 12 params" in printed.out
    assert lines[-1] == f"next: edgekit run {out} input.npy"
    assert "openvino: lower" in printed.err


def test_json_is_the_manifest_and_nothing_else(onnx_file, tmp_path, capsys):
    out = tmp_path / "made.edgekit"
    line = ["export", str(onnx_file), "--target", "arm", "-o", str(out), "--json"]
    assert main(line) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["path"] == str(out)
    assert document["manifest"]["target"] == "arm"


def test_without_o_the_bundle_goes_here_under_its_own_name(onnx_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(onnx_file), "--target", "arm", "-q"]) == 0
    assert (tmp_path / "colours-arm" / "manifest.json").is_file()


def test_nothing_is_overwritten_without_force(onnx_file, tmp_path, capsys):
    out = tmp_path / "made"
    line = [onnx_file, "--target", "x86", "--skip", "openvino", "-o", out]
    assert main(["export", *map(str, line)]) == 0
    before = (out / "manifest.json").read_bytes()
    capsys.readouterr()
    assert "--force" in failure(capsys, *line, code=1)
    assert main(["export", *map(str, line), "--force"]) == 0
    assert (out / "manifest.json").read_bytes() == before


def test_the_last_line_can_be_typed_whatever_the_name(onnx_file, tmp_path, capsys):
    out = tmp_path / "my model"
    assert main(["export", str(onnx_file), "--target", "jetson", "-o", str(out)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: copy '{out}' to the board, and there: edgekit finish 'my model'"


def test_a_skipped_runtime_is_written_down(onnx_file, tmp_path, capsys):
    out = tmp_path / "made"
    line = ["export", str(onnx_file), "--target", "x86", "--skip", "openvino", "-o", str(out)]
    assert main(line) == 0
    assert "openvino: left out by --skip" in capsys.readouterr().out


def test_shapes_of_dynamic_inputs(dynamic_onnx_file, tmp_path, capsys):
    line = [dynamic_onnx_file, "--target", "x86", "-o", tmp_path / "made"]
    assert "--input-shape" in failure(capsys, *line, code=1)
    assert main(["export", *map(str, line), "--input-shape", "image:1,3,16,16"]) == 0
    with open_bundle(tmp_path / "made") as opened:
        assert opened.manifest.inputs[0].shape == (1, 3, 16, 16)


def test_a_password_in_an_address_is_not_repeated(capsys, tmp_path):
    line = ["micronet-m1", "--target", "x86", "-o", str(tmp_path / "m1")]
    assert main(["export", *line, "--weights", "https://me:secret@h/a.pth"]) == 2
    assert "secret" not in "".join(capsys.readouterr())


def test_an_empty_output_is_no_name(capsys):
    line = ["micronet-m1", "--target", "x86", "-o", ""]
    assert "an empty path names nothing" in failure(capsys, *line, code=2)


def test_the_jetsons_last_line_leads_to_the_board(onnx_file, tmp_path, capsys):
    out = tmp_path / "board"
    assert main(["export", str(onnx_file), "--target", "jetson", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "not yet executed on a device" in shown
    assert shown.rstrip().endswith(
        f"next: copy {out} to the board, and there: edgekit finish board"
    )


def test_every_zoo_option_reaches_the_pipeline(asked, tmp_path):
    out = tmp_path / "out"
    typed = f"export micronet-m1 --target rpi4 --weights w.pth#student --num-classes 7 --imgsz 96 \
        --seed 3 --drop-head --fc-squeeze 8 --batch 4 --skip onnxruntime --force -o {out}"
    assert main(typed.split()) == 1
    arguments, options = asked["zoo"]
    assert arguments == ("micronet-m1", "rpi4")
    assert options.pop("progress")
    assert options == {
        "weights": "w.pth#student",
        "out": out,
        "num_classes": 7,
        "image_size": 96,
        "skip": ["onnxruntime"],
        "force": True,
        "seed": 3,
        "drop_head": True,
        "fc_squeeze": 8,
        "batch": 4,
        "precision": "fp32",
    }


def test_what_is_not_typed_is_the_pipelines_default(asked):
    assert main(["export", "micronet-m1", "--target", "x86"]) == 1
    options = asked["zoo"][1]
    assert (options["weights"], options["seed"], options["out"]) == ("auto", 0, None)
    assert (options["drop_head"], options["fc_squeeze"], options["batch"]) == (False, None, 1)
    assert options["num_classes"] is None
    assert options["image_size"] is None


@pytest.mark.parametrize(
    ("typed", "code", "says"),
    [
        ("micronet-m9 --target x86", 2, "did you mean micronet-m"),
        ("micronet-m1 --target x68", 2, "did you mean x86?"),
        ("micronet-m1 --target jetson-nano", 2, "use --target arm for its CPU"),
        ("micronet-m1 --target nano", 2, "use --target arm for its CPU; jetson-orin-nano is ano"),
        ("micronet-m1 --target jetson-tx2", 2, "jetson-nano is not supported: its last JetPack"),
        ("micronet-m1 --target Xavier-NX", 2, "jetson-xavier is not supported: its last JetPack"),
        ("micronet-m1 --target orin-nano", 2, "did you mean jetson-orin-nano"),
        ("micronet-m1 --target x86 --imgsz 9999", 2, "image_size is 9999 pixels"),
        ("micronet-m1 --target x86 --num-classes 9999999", 2, "1 to 1,000,000 classes"),
        ("micronet-m1 --target x86 -o /proc/none/m1", 1, "cannot write '/proc/none/m1'"),
        ("missing.onnx --target x86 --mean 123,116,103 --std 1,1,1", 2, "by 255"),
        ("missing.onnx --target x86 --mean 0,0,0", 2, "mean is given without std"),
        ("micronet-m1 --target x86 --weights http://me:pw@h/a.pth", 2, "//h/a.pth: the address"),
        ("micronet-m1 --target x86 --skip litert", 2, "litert"),
        ("micronet-m1 --target x86 --precision int4", 2, "unknown precision 'int4'"),
        ("micronet-m1 --target x86 --mean 0,0,0", 2, "--mean is for your own FILE.onnx"),
        ("micronet-m1 --target x86 --input-shape 1,3,8,8", 2, "--input-shape is for your own"),
        ("micronet-m1 --target x86 --weights random --drop-head", 2, "--weights random has none"),
        ("micronet-m1 --target x86 --fc-squeeze 8", 2, "micronet-m1 has no such choice"),
        ("dcd-mobilenetv2-x0.5 --target x86 --fc-squeeze 4", 2, "is 4; 8 and 16 are possible"),
        ("dcd-mobilenetv2-x0.5 --target x86 --fc-squeeze no", 2, "'no' is not a positive whole"),
        (
            "micronet-m1 --target x86 --weights none.pth#student",
            1,
            "none.pth#student: no such file",
        ),
        ("micronet-m1 --target x86 --weights w.pth#", 2, "w.pth#: name a part behind the #"),
        ("missing.onnx --target x86 --drop-head", 2, "--drop-head is for a network of the zoo"),
        ("missing.onnx --target x86 --fc-squeeze 8", 2, "--fc-squeeze is for a network of the zoo"),
        ("missing.onnx --target x86", 1, "no such ONNX file: missing.onnx"),
        ("missing.onnx --target x86 --weights w.pth", 2, "--weights is for a network of the zoo"),
        ("./missing.onnx --target x86 --seed 0", 2, "--seed is for a network of the zoo"),
        ("folder/model.pth --target x86", 2, "is no .onnx file"),
        ("missing.onnx --target x86 --labels none.txt", 1, "--labels none.txt: cannot be read"),
    ],
)
def test_lines_that_are_wrong(typed, code, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in failure(capsys, *typed.split(), code=code)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def seed_file(tmp_path_factory):
    """A file like those of SEED's training: a student, a teacher and a queue."""
    student = create("mobilenetv2-x0.35", "random", image_size=32).module
    student.set_submodule("classifier.1", build_head("projection", 1280, 16))
    whole = {f"module.student.{key}": value for key, value in student.state_dict().items()}
    whole |= {"module.teacher.conv.weight": torch.ones(1), "module.queue": torch.ones(16, 4)}
    path = tmp_path_factory.mktemp("seed") / "seed.pth.tar"
    torch.save({"epoch": 1, "state_dict": whole}, path)
    return path


def test_the_file_of_a_training_is_answered_with_the_line_to_type(seed_file, tmp_path, capsys):
    line = ["mobilenetv2-x0.35", "--target", "x86", "-o", tmp_path / "x"]
    answer = failure(capsys, *line, "--weights", seed_file, code=1)
    assert "it holds student (316 tensors), teacher, queue" in answer
    assert answer.endswith(f"Use --weights {seed_file}#student.")
    answer = failure(capsys, *line, "--weights", f"{seed_file}#pupil", code=1)
    assert "has no part 'pupil'; it has student (316 tensors)" in answer


def test_a_students_embedding_is_exported_as_one(seed_file, tmp_path, capsys):
    out = tmp_path / "student"
    line = ["export", "mobilenetv2-x0.35", "--target", "x86", "--skip", "openvino", "-o", str(out)]
    assert main([*line, "--weights", f"{seed_file}#student", "--imgsz", "32"]) == 0
    printed = capsys.readouterr()
    assert "weights: file seed.pth.tar#student" in printed.out
    assert "has a projection head of 16 outputs" in printed.err
    with open_bundle(out) as opened:
        assert opened.manifest.model.task == "embedding"
        assert opened.labels() == ()
        (output,) = opened.manifest.outputs
    assert (output.name, output.shape) == ("embedding", (1, 16))


def test_a_random_head_is_shouted(seed_file, tmp_path, capsys):
    out = tmp_path / "new"
    line = ["export", "mobilenetv2-x0.35", "--target", "x86", "--skip", "openvino", "-o", str(out)]
    options = ["--drop-head", "--num-classes", "3", "--imgsz", "32"]
    assert main([*line, "--weights", f"{seed_file}#student", *options]) == 0
    printed = capsys.readouterr()
    assert "weights: file seed.pth.tar#student, head random, seed 0" in printed.out
    assert "RANDOM head" in printed.err
    with open_bundle(out) as opened:
        assert opened.manifest.weights.random
        assert opened.manifest.model.task == "classification"
        assert opened.labels() == ("class 0", "class 1", "class 2")
    assert "**Random. Fit for latency work" in (out / "README.md").read_text()


def test_the_card_of_an_own_file_shows_the_licence_of_the_published_one(tmp_path, monkeypatch):
    row = VARIANTS["mobilenetv2-x0.35"]
    nowhere = Weights("", None, 1, "research only", "them", sha256_prefix="00", where="a drive")
    monkeypatch.setitem(VARIANTS, row.id, replace(row, weights=nowhere))
    path, out = tmp_path / "w.pth", tmp_path / "out"
    torch.save(create(row.id, "random", image_size=32).module.state_dict(), path)
    line = ["export", row.id, "--target", "x86", "--skip", "openvino", "--imgsz", "32", "-q"]
    assert main([*line, "--weights", str(path), "-o", str(out)]) == 0
    conditional = "if the weights are the published ones or made from them: research only"
    assert f"Licence: {conditional}" in (out / "README.md").read_text()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = replace(nowhere, sha256_prefix=digest[:8])
    monkeypatch.setitem(VARIANTS, row.id, replace(row, weights=known))
    assert main([*line, "--weights", str(path), "-o", str(out), "--force"]) == 0
    assert "Licence: research only" in (out / "README.md").read_text()


def test_random_weights_are_shouted(tmp_path, capsys):
    line = ["export", "micronet-m0", "--target", "x86", "--weights", "random", "--imgsz", "32"]
    assert main([*line, "--skip", "openvino", "-v", "-o", str(tmp_path / "m0")]) == 0
    printed = capsys.readouterr()
    assert "pass lift-gates: " in printed.err
    assert "weights: random" in printed.out
    assert "RANDOM" in printed.err
    assert main(["run", str(tmp_path / "m0"), str(PHOTO), "-q"]) == 0
    assert "random weights" in capsys.readouterr().err
