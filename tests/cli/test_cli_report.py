"""``edgekit report``: what it writes, and what it refuses to read or to replace."""

import csv
import dataclasses
import json
import os
import re
import stat

import pytest

from edgekit.cli import main
from edgekit.profiling import budget
from edgekit.profiling.result import result_to_json
from tests.profiling import sample_results as samples


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(path, result=None):
    path.write_text(result_to_json(result or samples.result()), encoding="utf-8")
    return str(path)


def failed(capsys, code, *arguments):
    """The one line that the command fails with."""
    assert main(["report", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_a_page_is_written_and_the_verdict_said(folder, capsys):
    assert main(["report", saved(folder / "r.json")]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"micronet-m1 takes 0\.4\d\d ms \(p50, .* measurement: stable\.", out)
    assert out.endswith("next: xdg-open report.html")
    assert stat.S_IMODE((folder / "report.html").stat().st_mode) & 0o044  # others may read it


def test_several_results_share_a_page_in_the_order_given(folder):
    names = [saved(folder / f"{n}.json", samples.result(model=n)) for n in ("zeta", "alpha")]
    assert main(["report", *names, "-o", "new/both.html", "-q"]) == 0
    page = (folder / "new" / "both.html").read_text(encoding="utf-8")
    assert "2 profiles" in page
    assert page.index("zeta takes") < page.index("alpha takes")


def test_the_same_file_twice_is_one_result(folder):
    name = saved(folder / "r.json")
    (folder / "link.json").symlink_to("r.json")
    assert main(["report", name, "./r.json", "link.json", "-o", "once.html"]) == 0
    assert main(["report", name, "-o", "alone.html"]) == 0
    assert (folder / "once.html").read_bytes() == (folder / "alone.html").read_bytes()


def test_a_file_given_twice_is_said(folder, capsys):
    name = saved(folder / "r.json")
    assert main(["report", name, "./r.json", "-q"]) == 0
    assert "'r.json' is the same file as " in capsys.readouterr().err


def test_a_folder_is_all_its_results(folder, capsys):
    (folder / "runs").mkdir()
    for model in ("b", "a"):
        saved(folder / "runs" / f"{model}.json", samples.result(model=model))
    (folder / "runs" / "notes.txt").write_text("mine")
    assert main(["report", "runs", "--json"]) == 0
    files = [row["file"] for row in json.loads(capsys.readouterr().out)["results"]]
    assert files == ["runs/a.json", "runs/b.json"]
    (folder / "none").mkdir()
    assert "'none' has no *.json" in failed(capsys, 1, "none")
    assert "is a result that is read" in failed(capsys, 2, "runs", "-o", "runs/a.json", "--force")


def counted(**changes):
    return samples.result(runs=(), instructions=(samples.instructions(),), **changes)


def test_counts_and_times_are_refused_together_for_what_they_are(folder, capsys):
    where = samples.environment(cpus=())
    names = saved(folder / "a.json"), saved(folder / "b.json", counted(environment=where))
    line = failed(capsys, 2, *names)
    assert (
        "(an emulated core beside a machine: times / instructions of an emulated cortex-a72; "
        "pinned to CPUs: yes / no)" in line
    )
    assert main(["report", names[1], saved(folder / "c.json", counted()), "--force"]) == 0


def test_what_has_no_row_is_said(folder, capsys):
    name = saved(folder / "r.json", samples.result(runs=()))
    assert main(["report", name, "--csv", "-"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1 and "has neither a time nor a count" in captured.err


def test_markdown_and_csv_are_written_beside_the_page(folder):
    name = saved(folder / "r.json", samples.everything())
    assert main(["report", name, "-o", "a.html", "--markdown", "a.md", "--csv", "a.csv"]) == 0
    assert "| micronet-m1 | litert | 1 | engine |" in (folder / "a.md").read_text("utf-8")
    with (folder / "a.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 1 + 6 + 1
    assert (folder / "a.html").exists()
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(("option", "start"), [("--markdown", "Measured on"), ("--csv", "model,")])
def test_a_dash_prints_it_and_nothing_else(folder, capsys, option, start):
    assert main(["report", saved(folder / "r.json"), option, "-"]) == 0
    assert capsys.readouterr().out.startswith(start)
    assert not (folder / "report.html").exists()


def test_json_is_one_document(folder, capsys):
    assert main(["report", saved(folder / "r.json", samples.everything()), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == {"html": "report.html"}
    assert document["unlike_environments"] == []
    (row,) = document["results"]
    assert row["verdict"] == "noisy" and row["runs"] == 6


def test_nothing_is_replaced_without_force(folder, capsys):
    name = saved(folder / "r.json")
    (folder / "report.html").write_text("mine")
    assert "report.html' exists: give --force" in failed(capsys, 1, name)
    assert (folder / "report.html").read_text() == "mine"
    (folder / "r.csv").write_text("mine")
    failed(capsys, 1, name, "-o", "new.html", "--csv", "r.csv")
    assert not (folder / "new.html").exists()  # all or nothing
    assert main(["report", name, "--force", "-q"]) == 0
    assert (folder / "report.html").read_text() != "mine"


def test_a_result_is_never_written_over(folder, capsys):
    name = saved(folder / "r.json")
    before = (folder / "r.json").read_bytes()
    (folder / "page.html").symlink_to("r.json")
    for target in ("r.json", "page.html"):
        line = failed(capsys, 2, name, "-o", target, "--force")
        assert "is a result that is read" in line
    assert (folder / "r.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "-"), "the page is a file"),
        (("-o", "x", "--csv", "./x"), "named for two outputs"),
        (("--csv", "-", "--markdown", "-"), "stdout takes one document"),
        (("--csv", "-", "--json"), "stdout takes one document"),
        (("-o", "."), "is a folder"),
    ],
)
def test_outputs_that_make_no_sense(folder, capsys, options, said):
    assert said in failed(capsys, 2, saved(folder / "r.json"), *options)


def test_an_output_that_cannot_be_written_leaves_nothing_behind(folder, capsys):
    (folder / "file").write_text("")
    line = failed(capsys, 1, saved(folder / "r.json"), "-o", "file/page.html")
    assert "cannot write" in line and "page.html" in line
    assert sorted(path.name for path in folder.iterdir()) == ["file", "r.json"]


GOOD = result_to_json(samples.result())
BROKEN = {
    "empty": b"",
    "truncated": GOOD.encode()[:-200],
    "foreign": b'{"model": "x"}',
    "a list": b"[]",
    "newer": GOOD.replace('"schema_version": 1', '"schema_version": 7').encode(),
    "not a number": GOOD.replace('"seconds": 41.5', '"seconds": NaN').encode(),
    "deep": b"[" * 100_000,
    "binary": bytes(range(256)),
    "escape": GOOD.replace('"local"', '"\\u001b[2J"').encode(),
    "twice": GOOD.replace('"kind":', '"kind": "x", "kind":').encode(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_refused_by_name(folder, capsys, kind):
    good = saved(folder / "good.json")
    (folder / "bad.json").write_bytes(BROKEN[kind])
    line = failed(capsys, 1, good, "bad.json")
    assert "bad.json" in line
    assert len(line) < 400
    assert not (folder / "report.html").exists()


def test_a_file_that_is_too_large_is_not_parsed(folder, capsys, monkeypatch):
    monkeypatch.setattr(budget, "MAX_RESULT_BYTES", 1 << 20)
    with (folder / "large.json").open("wb") as file:
        file.truncate((1 << 20) + 1)
    line = failed(capsys, 1, "large.json")
    assert "large.json has more than 1 MiB" in line


def test_what_is_no_plain_file_is_refused(folder, capsys):
    os.mkfifo(folder / "pipe.json")
    for name in ("pipe.json", "missing.json"):
        assert name in failed(capsys, 1, name)


def other_machine():
    where = samples.environment(machine=samples.machine(board="Raspberry Pi 5", cpu="Cortex-A76"))
    return samples.result(environment=where)


def test_unlike_environments_are_refused(folder, capsys):
    names = saved(folder / "a.json"), saved(folder / "b.json", other_machine())
    line = failed(capsys, 2, *names)
    assert "a.json and" in line and "b.json were measured in unlike environments" in line
    assert "Cortex-A72 / Cortex-A76" in line and "--force" in line
    assert not (folder / "report.html").exists()


def test_forced_unlike_environments_are_said_everywhere(folder, capsys):
    names = saved(folder / "a.json"), saved(folder / "b.json", other_machine())
    assert main(["report", *names, "--force", "--json", "--markdown", "t.md", "-o", "p.html"]) == 0
    captured = capsys.readouterr()
    assert "warning: unlike environments" in captured.err
    assert any("Cortex-A76" in said for said in json.loads(captured.out)["unlike_environments"])
    page = (folder / "p.html").read_text(encoding="utf-8")
    assert page.index("Unlike environments") < page.index("Figures")
    assert page.index("cpu: Cortex-A72 / Cortex-A76") < page.index("Figures")
    assert (folder / "t.md").read_text("utf-8").startswith("**Unlike environments:**")


def test_equal_environments_need_no_force(folder):
    hotter = samples.environment(before=samples.state(celsius={"cpu-thermal": 61.0}, load=0.4))
    second = dataclasses.replace(samples.result(model="other"), environment=hotter)
    names = saved(folder / "a.json"), saved(folder / "b.json", second)
    assert main(["report", *names, "-q"]) == 0


def test_a_hostile_result_is_escaped(folder):
    assert main(["report", saved(folder / "r.json", samples.hostile()), "-q"]) == 0
    assert "<script>alert" not in (folder / "report.html").read_text(encoding="utf-8")
