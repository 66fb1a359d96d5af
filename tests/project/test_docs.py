"""What the documents say must be true: commands parse, links lead somewhere, tables agree."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path

import pytest

import edgekit
from edgekit import cli, errors
from edgekit.bundle import PARITY_TOLERANCE, Manifest
from edgekit.cli import VERBS
from edgekit.models.minivlm.specs import VLMS
from edgekit.models.zoo import VARIANTS
from edgekit.runtimes import RUNTIMES
from edgekit.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").glob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    ]
)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(path):
    """Every line that is typed in a shell block, and every `edgekit ...` in running text."""
    text = path.read_text()
    typed = [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [line.partition(" #")[0].strip() for line in typed if line.strip()]


def edgekit_commands():
    return [
        (name_of(path), line)
        for path in DOCUMENTS
        for line in commands(path)
        if line.startswith("edgekit ")
    ]


def test_the_documents_are_all_here():
    names = {name_of(path) for path in DOCUMENTS}
    assert {
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/bundle.md",
        "docs/counting.md",
        "docs/devices.md",
        "docs/parity.md",
        "docs/safety.md",
        "docs/jetson.md",
        "examples/README.md",
        "benchmarks/README.md",
    } <= names
    assert len(edgekit_commands()) >= 8


@pytest.mark.parametrize(("document", "line"), edgekit_commands())
def test_every_command_parses_and_names_what_exists(document, line):
    verb, *rest = shlex.split(line)[1:]
    arguments = cli._parser(verb).parse_args([verb, *rest])
    assert getattr(arguments, "target", "x86") in TARGETS
    runtimes = getattr(arguments, "runtime", None) or "null"
    named = [runtimes] if isinstance(runtimes, str) else sum(runtimes, start=())
    assert set(named) <= set(RUNTIMES)
    model = getattr(arguments, "model", "x.onnx")
    assert model.endswith(".onnx") or model in VARIANTS or model in VLMS


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_make_target_exists(path):
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z]+)", path.read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_link_leads_to_a_file(path):
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_path_that_is_named_exists(path):
    rooms = "edgekit|tests|docs|examples|benchmarks"
    for name in re.findall(rf"`((?:{rooms})/[\w./-]+)`", path.read_text()):
        if not re.search(r"[A-Z]{4}", name):  # tests/ROOM/test_MODULE.py
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_python_in_documents_uses_what_edgekit_has(path):
    for block in blocks(path.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "edgekit":
                assert node.attr in edgekit.__all__


def test_extras_in_documents_exist():
    project = (ROOT / "pyproject.toml").read_text()
    found = [
        (name_of(path), extra)
        for path in DOCUMENTS
        for extra in re.findall(r"pip install [^`\n]*\[(\w+)\]\"", path.read_text())
    ]
    assert len(found) >= 3
    for document, extra in found:
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), (document, extra)


def table_cells(text, column=0):
    """First cells of the rows of every Markdown table."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [row.strip("| ").split(" | ")[column].strip() for row in rows]


def test_readme_has_every_command():
    described = [cell.split()[1].strip("`") for cell in table_cells(README) if "`edgekit " in cell]
    assert sorted(described) == sorted(VERBS)


def test_readme_has_every_exit_code_that_is_raised():
    raised = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.EdgekitError)
    }
    assert {int(cell) for cell in table_cells(README) if cell.isdigit()} == raised | {0, 130}
    for code in raised:
        assert f"{code} " in cli._EPILOG


def test_counting_agrees_with_the_zoo():
    text = (ROOT / "docs" / "counting.md").read_text()
    for variant in VARIANTS.values():
        if not variant.approximate:
            numbers = (variant.macs, variant.elementwise_multiplies, variant.madds)
            row = f"| {variant.id} | " + " | ".join(f"{number:,}" for number in numbers)
            assert row in text


def test_the_bundle_page_has_every_key_of_the_manifest():
    text = (ROOT / "docs" / "bundle.md").read_text()
    for field in dataclasses.fields(Manifest):
        assert f"`{field.name}`" in text


def test_parity_says_the_tolerance_that_is_used():
    text = (ROOT / "docs" / "parity.md").read_text()
    for precision, tolerance in PARITY_TOLERANCE.items():
        exponent = f"{tolerance:.0e}".replace("e-0", "e-")
        assert f"{precision} artifacts are allowed {exponent}" in text


def test_notices_credit_what_others_made():
    notice = (ROOT / "NOTICE").read_text()
    for name in ("edgekit/models/data/imagenet-1k.txt", "examples/photo.jpg"):
        assert name in notice
        assert (ROOT / name).is_file()
    assert "CC0" in notice
    assert "WordNet" in notice
    assert (ROOT / "examples" / "photo.jpg").stat().st_size < 150_000
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
