"""``edgekit models`` and ``edgekit targets``: the tables, printed."""

import json

import pytest

from edgekit import optional
from edgekit.cli import main
from edgekit.models.zoo import VARIANTS
from edgekit.targets import TARGETS


def out(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_models_shows_every_row_with_all_three_counts(capsys):
    shown = out(capsys, "models")
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert set(VARIANTS) <= set(rows)
    assert "1.78 M   5.31 M   6.12 M  51.4 % [1]" in rows["micronet-m1"]
    assert "2.54 M  56.51 M  56.80 M  67.5 % [3]" in rows["mobilenetv3-small"]
    assert rows["mobilenetv3-small"].endswith("torchvision  none")
    assert shown.rstrip().splitlines()[-1] == "next: edgekit export micronet-m0 --target x86"


def test_models_names_the_source_of_every_published_figure(capsys):
    shown = out(capsys, "models")
    for variant in VARIANTS.values():
        for figure in variant.published:
            assert figure.source in shown or figure.metric == "top-1, released file"
    (issue,) = [f.source for f in VARIANTS["micronet-m0"].published if "released" in f.metric]
    assert issue not in shown  # no footnote that nothing refers to
    for number in range(1, shown.count("\n[") + 1):
        assert shown.count(f"[{number}]") >= 2


def test_models_explains_the_shift_of_names_and_what_is_guessed(capsys):
    shown = out(capsys, "models")
    assert "\nmicronet-v1-m1: 12 M and 61.1 % in the paper; as guessed it is the" in shown
    assert len([line for line in shown.splitlines() if line.startswith("micronet-v1-m1:")]) == 1
    everything = " ".join(out(capsys, "models", "-v").split())
    assert "training behind 61.1 % were never published" in everything
    for line in out(capsys, "models").splitlines():
        if line.startswith("micronet-v1-m") and not line.split()[0].endswith((":", ",")):
            assert "approximate" in line


def test_models_as_json_has_every_fact(capsys):
    rows = json.loads(out(capsys, "models", "--json"))
    assert [row["id"] for row in rows] == list(VARIANTS)
    m1 = rows[1]
    assert (m1["params"], m1["macs"], m1["madds"], m1["flops"]) == (
        1_777_587,
        5_314_080,
        6_120_032,
        11_434_112,
    )


def test_models_of_an_unknown_family(capsys):
    assert main(["models", "--family", "micronets"]) == 2
    assert "did you mean micronet " in capsys.readouterr().err


def test_targets_shows_every_target_and_why_boards_are_refused(capsys):
    shown = " ".join(out(capsys, "targets").split())
    for row in TARGETS.values():
        assert f"{row.name} " in shown
        assert row.refused in shown
    assert "not yet executed on a device" in shown


def test_targets_says_what_is_missing_with_the_pip_line(capsys, monkeypatch):
    monkeypatch.setattr(optional, "is_installed", lambda name: name != "ai_edge_litert")
    shown = out(capsys, "targets")
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert lines["arm"].endswith("lacks ai_edge_litert")
    assert lines["x86"].endswith("ready")
    assert 'to install what is missing here: pip install "edgekit[tflite]"' in shown


def test_targets_where_nothing_can_be_exported(capsys, monkeypatch):
    monkeypatch.setattr(optional, "is_installed", lambda name: False)
    shown = out(capsys, "targets")
    assert 'pip install "torch==2.13.0" "edgekit[export]"' in shown
    assert shown.rstrip().endswith("next: edgekit doctor")


def test_targets_as_json(capsys):
    rows = json.loads(out(capsys, "targets", "--json"))
    assert [row["name"] for row in rows] == list(TARGETS)
    assert all("missing_here" in row for row in rows)


@pytest.mark.parametrize("verb", ["models", "targets"])
def test_quiet_tables_have_no_last_line(verb, capsys):
    assert "next:" not in out(capsys, verb, "-q")
