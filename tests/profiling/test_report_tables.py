"""Markdown and CSV: stable, right, and safe to paste and to open."""

import csv
import io

import pytest

from edgekit.profiling.report import csv_report, csv_rows, markdown_report
from edgekit.profiling.report.csv_rows import COLUMNS
from edgekit.profiling.report.markdown import safe
from tests.profiling import sample_results as samples


def test_markdown_has_one_row_a_run():
    result = samples.everything()
    text = markdown_report([result])
    rows = [line for line in text.splitlines() if line.startswith("| micronet-m1")]
    assert len(rows) == len(result.runs) + 1  # and its count
    assert text.startswith("Measured on Raspberry Pi 4 Model B Rev 1.1.\n\n| model | runtime |")
    assert "| micronet-m1 | litert | 1 | engine, 30 per second |" in text
    assert "- micronet-m1 takes 1.23 times as long as MobileNetV2-0.5 @ 96 (1.21 to 1.25" in text
    assert "Not trustworthy as they stand: 1 figure." in text


def test_markdown_says_what_limits_it():
    quick = samples.result(preset="quick", complete=False, facts=samples.model(random_weights=True))
    text = markdown_report([quick], unlike=("governor: a / b",))
    for said in ("--quick", "Incomplete", "Random weights", "**Unlike environments:** governor"):
        assert said in text
    calm = markdown_report([samples.result()])
    assert "Random" not in calm and "Incomplete" not in calm and "Unlike" not in calm


def test_markdown_reads_nothing_into_names():
    text = markdown_report([samples.hostile()])
    widths = [line.replace("\\|", "").count("|") for line in text.splitlines() if line[:1] == "|"]
    assert widths == [10] * (2 + 6) + [9] * (2 + 1)  # times, then counts
    for line in text.splitlines():
        outside = "".join(line.split("`")[::2])  # what is not code
        assert not set("<>[]@$&*_{}") & set(outside)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("micronet-m1", "micronet-m1"),
        ("a | b", "`a \\| b`"),
        ("`x`", "`'x'`"),
        ("@team", "`@team`"),
        ("my_net", "`my_net`"),
        ("see www.example.org", "`see www.example.org`"),
        ("http://x", "`http://x`"),
        ("two\nlines", "two\ufffdlines"),
        ("", "–"),
    ],
)
def test_markdown_names(name, written):
    assert safe(name).strip("`") == written.strip("`")
    assert safe(name).startswith("`") == (written.startswith("`") or "\ufffd" in written)


def test_csv_can_be_read_back():
    result = samples.everything()
    text = csv_report([result, samples.incomplete()])
    assert text.count("\r\n") == len(text.splitlines())
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(result.runs) + 1 + 1
    assert tuple(rows[0]) == COLUMNS
    assert float(rows[0]["p50_ms"]) == result.runs[0].p50_ms  # no digit is lost
    assert rows[0]["artifact_sha256"] == "cd" * 32
    assert [row["verdict"] for row in rows].count("noisy") == 2
    assert rows[-1]["result_complete"] == "no"
    assert rows[-1]["p99_ms"] == ""  # 400 samples


def test_csv_columns_keep_their_order():
    assert COLUMNS[:3] == ("model", "target", "precision")
    assert COLUMNS[13:18] == ("runtime", "threads", "scope", "pace_hz", "p50_ms")
    assert len(COLUMNS) == len(set(COLUMNS)) == 45
    (row,) = csv_rows([samples.result()])
    assert row["samples"] == 1200 and row["processes"] == 3
    assert row["instructions"] is None


def test_counts_have_rows_without_a_time():
    result = samples.result(runs=(), instructions=(samples.instructions(),))
    (row,) = csv_rows([result])
    assert tuple(row) == COLUMNS
    assert (row["scope"], row["core"], row["instructions"]) == (
        "instructions",
        "cortex-a72",
        11_482_113.0,
    )
    assert not [name for name, cell in row.items() if name.endswith("_ms") and cell is not None]
    text = markdown_report([result])
    assert text.startswith("Instructions counted on an emulated cortex-a72: a count, not a time.")
    assert "| micronet-m1 | cortex-a72 | litert | 1 | 11,482,113 | 3 | 0.0010 % |" in text
    assert "p50" not in text and "Raspberry" not in text


def test_markdown_of_nothing_has_no_empty_table():
    text = markdown_report([samples.result(runs=())])
    assert text == "No latency was measured on Raspberry Pi 4 Model B Rev 1.1.\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " =", "\r="])
def test_csv_has_no_formulas(start):
    text = csv_report([samples.result(model=f"{start}1+cmd|' /C calc'!A0", device=f"{start}x")])
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["model"][0] in "'\ufffd"
    assert row["device"][0] in "'\ufffd"


def test_csv_of_a_hostile_result_stays_in_its_cells():
    result = samples.hostile('a,"b"\nc')
    rows = list(csv.reader(io.StringIO(csv_report([result]), newline="")))
    assert len(rows) == 1 + len(result.runs) + len(result.instructions)
    assert {len(row) for row in rows} == {len(COLUMNS)}
