"""``edgekit models`` and ``edgekit targets``: the tables, printed."""

import json
import re

import pytest

from edgekit import optional
from edgekit.cli import main
from edgekit.models.minivlm.specs import VLMS
from edgekit.models.zoo import VARIANTS
from edgekit.targets import TARGETS


def out(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


FAMILIES = ["micronet", "dcd", "mobilenetv2", "mobilenetv3", "efficientnet", "resnet"]


def test_models_shows_every_row_with_all_three_counts(capsys):
    shown = out(capsys, "models")
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert set(VARIANTS) <= set(rows)
    assert "1.78 M    5.31 M    6.12 M  51.4 % [1]" in rows["micronet-m1"]
    assert "2.54 M   56.51 M   56.80 M  67.668 % [5]" in rows["mobilenetv3-small"]
    assert "60.19 M   11.51 G   11.51 G  82.284 % [4]" in rows["resnet152"]
    assert shown.rstrip().splitlines()[-1] == "next: edgekit export micronet-m0 --target x86"
    for model_id, weights in {
        "micronet-m0": "released",
        "micronet-v1-m0": "approximate",
        "dcd-resnet18": "none",
        "dcd-resnet50": "by hand",
        "mobilenetv3-large-seed": "by hand",
        "efficientnet-b1-tf": "released",
    }.items():
        assert rows[model_id].endswith(f"  {weights}")


def test_models_stands_in_families_within_100_columns(capsys):
    lines = out(capsys, "models").splitlines()
    assert [line for line in lines if line in FAMILIES] == FAMILIES
    for family in FAMILIES:
        place = lines.index(family)
        assert lines[place - 1] == ""
        ids = [row.id for row in VARIANTS.values() if row.family == family]
        assert [line.split()[0] for line in lines[place + 1 : place + 1 + len(ids)]] == ids
    for verbosity in ((), ("-v",)):
        assert max(map(len, out(capsys, "models", *verbosity).splitlines())) <= 100


def test_models_names_the_source_of_every_figure_in_the_table(capsys):
    shown = " ".join(out(capsys, "models").split())
    for variant in VARIANTS.values():
        sources = {
            figure.metric: figure.source
            for figure in variant.published
            if figure.metric in ("top-1", "top-1, linear probe", "MAdds", "MACs", "FLOPs")
        }
        assert all(f"] {source}" in shown for source in sources.values())
    (issue,) = [f.source for f in VARIANTS["micronet-m0"].published if "released" in f.metric]
    assert issue not in shown  # no footnote that nothing refers to
    for number in range(1, 10):
        assert shown.count(f"[{number}]") >= 2
    assert "[10]" not in shown


@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_one_family_with_its_notes_and_licences(capsys, family):
    shown = out(capsys, "models", "--family", family)
    prose = " ".join(shown.split())
    for variant in VARIANTS.values():
        assert (f"\n{variant.id} " in shown) == (variant.family == family)
        if variant.family == family:
            assert all(note in prose for note in variant.notes)
            assert variant.weights is None or variant.weights.licence in prose
    assert max(map(len, shown.splitlines())) <= 100


def test_models_says_of_dcd_what_was_not_found_and_who_may_use_it(capsys):
    shown = out(capsys, "models", "--family", "dcd")
    rows = [line for line in shown.splitlines() if line.startswith("dcd-") and " M " in line]
    assert len(rows) == 13
    assert all(re.search(r"  not found +-  ", row) for row in rows)
    prose = " ".join(shown.split())
    assert "all: Top-1: not found." in prose
    assert "commercial use needs the permission of the University of California" in prose
    assert "mv2x1.0_dcd.pth.tar, linked in the README of github.com/liyunsheng13/dcd to" in prose


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
    assert [row["id"] for row in rows] == [*VARIANTS, *VLMS]
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


def test_models_of_some_ids_with_their_notes(capsys):
    shown = out(capsys, "models", "dcd-resnet18", "resnet18", "dcd-resnet18")
    rows = [line.split()[0] for line in shown.splitlines() if line.endswith((" none", " released"))]
    assert rows == ["dcd-resnet18", "resnet18"]
    assert "educational, research and non-profit use" in shown
    assert shown.splitlines()[-1] == "next: edgekit export dcd-resnet18 --target x86"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dcd-resnet19"], "unknown model 'dcd-resnet19': did you mean dcd-resnet1"),
        (["resnet18", "--family", "resnet"], "give ids or --family, not both"),
    ],
)
def test_models_of_ids_that_do_not_go(capsys, words, says):
    assert main(["models", *words]) == 2
    assert says in capsys.readouterr().err


def test_vision_language_models_are_asked_for_apart(capsys):
    (row,) = json.loads(out(capsys, "models", "minivlm", "--json"))
    assert row["counts"]["tee"] == 7_504_205 and row["task"] == "vision-language"
    shown = " ".join(out(capsys, "models", "--family", "minivlm").split())
    assert "119.8" in shown and "53.2 M against OSCAR-base" in shown
    assert main(["models", "minivlm", "micronet-m0"]) == 2
    assert "ask for it apart" in capsys.readouterr().err
    assert main(["export", "minivlm-tin", "--target", "x86"]) == 2
    assert "did you mean minivlm-tiny" in capsys.readouterr().err
    assert main(["count", "minivlm"]) == 2
    assert "vision-language model" in capsys.readouterr().err
