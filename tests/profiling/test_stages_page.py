"""Results by stage: read back as strictly as they are written, drawn, and set in tables."""

import base64
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.bundle import schema
from edgekit.cli import main
from edgekit.errors import InputError
from edgekit.profiling import stages_file
from edgekit.profiling.report import stages_csv, stages_html, stages_markdown, stages_words
from edgekit.profiling.report.stages_tables import COLUMNS, stages_rows
from edgekit.profiling.result import VERDICTS, result_to_json
from edgekit.profiling.stages_file import read_stages, save_stages
from edgekit.runtimes.vision_language import model
from tests.profiling import sample_results, sample_stages
from tests.profiling.sample_stages import LOOK_MS, run, runs, stages
from tests.profiling.test_report_html import Page

# ---- the file --------------------------------------------------------------------------------


def test_what_is_saved_is_read_back(tmp_path):
    for result in (stages(), stages(runs=(), after=sample_results.state(load=None))):
        assert read_stages(save_stages(result, tmp_path)) == result


GOOD = schema.dumps(schema.encode(stages()))


def document(**changes):
    return {**json.loads(GOOD), **changes}


FIRST = document()["runs"][0]


def one_run(**changes):
    return document(runs=[{**FIRST, **changes}])


BROKEN = {
    "empty": b"",
    "truncated": GOOD.encode()[:-200],
    "a list": b"[]",
    "of another kind": json.dumps(document(kind="edgekit-profile")).encode(),
    "without a kind": json.dumps({k: v for k, v in document().items() if k != "kind"}).encode(),
    "an unknown key": json.dumps(document(surprise=1)).encode(),
    "a key less": json.dumps({k: v for k, v in document().items() if k != "machine"}).encode(),
    "not a number": json.dumps(one_run(p50_ms=float("nan"))).encode(),
    "infinite": json.dumps(one_run(samples_ms=[[1.0, 1e400]])).encode(),
    "huge": json.dumps(one_run(p90_ms=1e300)).encode(),
    "negative": json.dumps(one_run(p10_ms=-1)).encode(),
    "a negative sample": json.dumps(one_run(samples_ms=[[1.0], [-2.0]])).encode(),
    "no threads": json.dumps(one_run(threads=0)).encode(),
    "a strange verdict": json.dumps(one_run(verdict="fine")).encode(),
    "percentiles that fall": json.dumps(one_run(p90_ms=1.0)).encode(),
    "a negative spread": json.dumps(one_run(spread=-5.0)).encode(),
    "noisy without a reason": json.dumps(one_run(verdict="noisy")).encode(),
    "stable with a reason": json.dumps(one_run(reasons=["noisy"])).encode(),
    "a row twice": json.dumps(document(runs=[FIRST] * 2)).encode(),
    "a negative count": json.dumps(document(macs=-1)).encode(),
    "too many rows": json.dumps(
        document(runs=[{**FIRST, "stage": f"s{i}", "samples_ms": []} for i in range(2001)])
    ).encode(),
    "deep": b"[" * 100_000,
    "binary": bytes(range(256)),
    "escape": json.dumps(document(model="\x1b[2J")).encode(),
    "twice": GOOD.replace('"kind":', '"kind": "x", "kind":').encode(),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def failed(capsys, code, *arguments):
    """The one line that the command fails with."""
    assert main(["report", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_refused_in_one_line(folder, capsys, kind):
    (folder / "bad.stages.json").write_bytes(BROKEN[kind])
    line = failed(capsys, 1, "bad.stages.json")
    assert "bad.stages.json" in line and len(line) < 400
    assert not (folder / "report.html").exists()


def test_a_file_that_is_too_large_is_not_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(stages_file, "MAX_STAGES_BYTES", 1 << 20)
    with (tmp_path / "large.stages.json").open("wb") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(InputError, match="has more than 1 MiB"):
        read_stages(tmp_path / "large.stages.json")


def test_what_is_no_plain_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.stages.json")
    for name in ("pipe.stages.json", "missing.stages.json"):
        with pytest.raises(InputError, match=name):
            read_stages(tmp_path / name)


# ---- the stages ------------------------------------------------------------------------------


def test_the_words_know_every_stage_that_is_measured():
    measured = {
        "image", "proposals", "roi-align", "regions", model.DETECTOR, model.BOX_HEAD, model.CONTEXT,
        model.STEP, model.JUDGE, "look", "ask", "caption",
    }  # fmt: skip
    assert {row.name for row in stages_words.STAGES} == measured | {"fusion-"}
    assert all(stages_words.stage(name).meaning for name in measured)
    assert stages_words.stage(model.fusion_name(35)).meaning
    for strange in ("fusion-x", "fusion-٣", "fusion-99999999", "decoder"):
        assert not stages_words.stage(strange).meaning


@pytest.mark.parametrize(
    ("call", "pieces"),
    [
        ("look", {**LOOK_MS, "the rest": 1.0}),
        ("ask", {"look": 108.0, "fusion-35": 36.0, "the rest": 0.5}),
        ("caption", {"look": 108.0, "context": 12.0, "step": 20 * 11.0, "the rest": 2.0}),
    ],
)
def test_a_bar_is_made_of_what_the_call_does(call, pieces):
    setting = stages_words.settings(stages())[0]
    made = stages_words.parts(setting, call)
    assert {part.name: pytest.approx(part.ms) for part in made} == pieces
    assert [part.times for part in made if part.name == "step"] == [20] * (call == "caption")


def test_steps_are_summed_caption_by_caption():
    """A few slow ones are in every sum; in the median of all steps they are not."""
    slow = (1.0, 1.0, 7.0)
    pair = run("caption", 20.0, samples_ms=((20.0,) * 4,)), run("step", 1.0, samples_ms=(slow * 4,))
    (steps, _) = stages_words.parts(stages_words.settings(stages(runs=pair))[0], "caption")
    assert (steps.ms, steps.times) == (9.0, 3)
    uneven = run("step", 1.0, samples_ms=(slow * 3 + (1.0,) * 4,))  # captions of several lengths
    (steps, _) = stages_words.parts(
        stages_words.settings(stages(runs=(pair[0], uneven)))[0], "caption"
    )
    assert (steps.ms, steps.times) == (3.0, 3)


def test_medians_that_are_more_than_the_call_leave_no_rest():
    rows = tuple(dataclasses.replace(r, p50_ms=90.0) if r.stage == "look" else r for r in runs())
    setting = stages_words.settings(stages(runs=rows))[0]
    assert [part.name for part in stages_words.parts(setting, "look")] == list(LOOK_MS)


def test_the_rows_are_in_the_order_in_which_the_stages_run():
    (setting,) = stages_words.settings(stages(runs=(*reversed(runs()), run("decoder"))))
    assert list(setting.runs) == [
        *LOOK_MS, "fusion-35", "fusion-128", "context", "step", "decoder", "look", "ask", "caption",
    ]  # fmt: skip


# ---- the page --------------------------------------------------------------------------------

CASES = {
    "two runtimes": stages,
    "random": lambda: stages(random=True),
    "hostile": sample_stages.hostile,
    "long names": lambda: sample_stages.hostile(sample_results.LONG),
    "no rows": lambda: stages(runs=()),
    "no calls": lambda: stages(runs=(run("detector", 60.0),)),
    "only look": lambda: stages(runs=(run("look", 100.0),)),
    "no time at all": lambda: stages(runs=runs(factor=0.0)),
    "no samples": lambda: stages(runs=runs(samples_ms=(), spread=None)),
    "unknown stages": lambda: stages(runs=(*runs(), run("decoder"), run("fusion-", 4.0))),
    "huge": lambda: stages(runs=runs(factor=1e14), params=2**62, macs=2**62),
    "many": lambda: stages(
        runs=tuple(r for n in range(1, 60) for r in runs(threads=n, runtime="openvino"))
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    result = CASES[request.param]()
    return result, stages_html([result])


def test_the_cases_are_results_that_can_be_read(case, tmp_path):
    result = dataclasses.replace(case[0], model="m")  # which is in the name of the file
    assert read_stages(save_stages(result, tmp_path)) == result


def test_the_page_is_whole_and_small(case):
    _, text = case
    assert Page(text).open == []
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
    assert len(text.encode()) < 400_000
    assert not {"nan", "inf"} & set(text.replace('"', " ").replace("%", " ").split())


def test_nothing_is_fetched_and_nothing_runs(case):
    _, text = case
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "use"} & {n for n, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert not {"src", "style", "srcset", "xlink:href"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src 'none'" in policy and f"style-src 'sha256-{digest}'" in policy
    assert "script-src" not in policy and "unsafe" not in policy


def test_ids_are_unique_and_links_and_descriptions_lead_to_them(case):
    page = Page(stages_html([case[0], stages(model="other")]))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = [a["href"][1:] for name, a in page.elements if name == "a"]
    told = [a["aria-describedby"] for _, a in page.elements if "aria-describedby" in a]
    assert len(ids) == len(set(ids))
    assert links and {*links, *told} <= set(ids)


def test_headings_are_nested_and_drawings_and_tables_have_words(case):
    _, text = case
    page = Page(text)
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    names = [name for name, _ in page.elements]
    assert names.count("table") == names.count("caption")
    for attributes in (a for name, a in page.elements if name == "svg"):
        assert attributes["role"] == "img" and attributes["aria-label"]


def test_a_hostile_result_makes_the_same_elements_as_a_harmless_one():
    harmless = "x" * len(sample_results.HOSTILE)
    hostile = Page(stages_html([sample_stages.hostile()]))
    plain = Page(stages_html([sample_stages.hostile(harmless)]))
    assert [name for name, _ in hostile.elements] == [name for name, _ in plain.elements]
    assert sample_results.HOSTILE in hostile.text


def test_the_page_says_what_was_measured():
    text = Page(stages_html([stages()])).text
    assert "minivlm takes 108 ms to look at an image" in text
    assert "144 ms to answer a question and 342 ms to write a caption, with the look, on" in text
    assert "Model B Rev 1.1 with openvino, 1 thread (medians); measurement: ● stable" in text
    for said in ("41.4 M", "4.79 G", "noise, 640 x 480 pixels", "not random", "19 tokens"):
        assert said in text
    assert "Random weights" not in text and "Not trustworthy" not in text
    assert "Random weights." in Page(stages_html([stages(random=True)])).text


def test_every_stage_has_a_row_and_a_meaning():
    text = Page(stages_html([stages()])).text
    assert "detector 61.5 57 % 60.3 64.6 20 1.0 % ● stable" in text
    assert "step 11.0 10 % 10.8 11.6 400 1.0 % ● stable" in text
    assert "look 108 – 106 113 20 1.0 % ● stable" in text
    meanings = text[text.index("What the stages are", text.index("Each stage")) :]
    for row in stages_words.known([stages()]):
        assert row.meaning in meanings
    assert "fusion-N a graph" in meanings and "judge" not in meanings


def test_bars_of_all_runtimes_are_on_one_scale():
    page = stages_html([stages()])
    chart = page[page.index('aria-label="look by stage') :]
    chart = chart[: chart.index("</figure>")]
    tip = r"<title>detector: ([\d.]+) ms.*?</title><rect[^>]*? width=\"([\d.]+)%\""
    (one, wide), (other, wider) = re.findall(tip, chart)
    assert float(other) / float(one) == pytest.approx(1.25, rel=0.01)
    assert float(wider) / float(wide) == pytest.approx(1.25, rel=0.01)
    assert "<desc" in chart and "litert, 2 threads 135 ms" in chart
    assert "detector: 61.5 ms, 57 % of look" in chart
    assert "step, 20 times: 220 ms" in page


def test_doubt_is_said_with_its_reasons():
    shaky = runs(verdict="noisy", reasons=("noisy: the medians differ by 8 %",))
    calm = runs(runtime="litert")
    single = tuple(
        dataclasses.replace(r, verdict="noisy", reasons=("noisy: of one stage",))
        if r.stage == "regions"
        else r
        for r in calm
    )
    page = stages_html([stages(runs=(*shaky, *single))])
    text = Page(page).text
    assert "Not trustworthy as measured: 3 of 6 calls." in text
    assert "look, ask, caption: noisy: the medians differ by 8 %" in text
    assert "regions: noisy: of one stage" in text[text.index("Why single stages") :]
    (href,) = re.findall(r'<a href="#([^"]*)"><span class="badge noisy">', page)
    assert "the medians differ" in page[page.index(f'id="{href}"') :]
    assert "with litert, 1 thread" in text[: text.index("Figures")]  # the trustworthy one


def test_several_results_have_each_their_section():
    elsewhere = sample_results.machine(board="Pi 5")
    results = [stages(), stages(), stages(machine=elsewhere)]
    text = Page(stages_html(results, unlike=("board: a / b",))).text
    assert "3 profiles by stage" in text and "Unlike environments. " in text
    assert stages_words.names(results) == [
        "minivlm on Raspberry Pi 4 Model B Rev 1.1",
        "minivlm on Raspberry Pi 4 Model B Rev 1.1 (2)",
        "minivlm on Pi 5",
    ]
    assert stages_words.names(results, places=False) == ["minivlm", "minivlm (2)", "minivlm"]
    assert text.count("Where the time goes") == 3
    mixed = Page(stages_html([stages(), stages(model="other", random=True)])).text
    assert "Random weights: other." in mixed
    many = Page(stages_html([stages(runs=runs())] * 22)).text
    assert "2 further results" in many


TIMES = st.sampled_from([0.0, 5e-324, 1e-9, 0.5, 61.5, 2.0**62])
NAMES = st.sampled_from([row.name for row in stages_words.STAGES] + ["fusion-8", "x", "", "a|`b"])
ROWS = st.builds(
    run,
    NAMES,
    TIMES,
    runtime=st.sampled_from(["litert", "x", ""]),
    threads=st.integers(1, 4096),
    samples_ms=st.lists(st.lists(TIMES, max_size=3).map(tuple), max_size=3).map(tuple),
    spread=st.none() | TIMES,
    verdict=st.sampled_from(VERDICTS),
)


@given(st.lists(ROWS, max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_rows_can_be_drawn(rows):
    result = stages(runs=tuple(rows))
    page = stages_html([result])
    assert page.endswith("</html>\n")
    assert not {"nan", "inf"} & set(page.replace('"', " ").replace("%", " ").split())
    assert stages_markdown([result]) and stages_csv([result])


# ---- tables ----------------------------------------------------------------------------------


def test_markdown_has_a_table_a_runtime():
    both = (*runs(), *runs(threads=2, factor=0.75), *runs(runtime="litert"))
    text = stages_markdown([stages(runs=both, random=True)])
    assert "minivlm: 41.4 M parameters; 4.79 G MACs" in text
    assert text.count("| stage |") == 2 and "**openvino**" in text and "**litert**" in text
    assert "| detector | 61.5 | 57 % | 64.6 | stable | 46.1 | 57 % | 48.4 | stable |" in text
    assert "| **ask** | 144 | – | 152 | stable | 108 | – | 114 | stable |" in text
    assert "Random weights" in text and "trustworthy" not in text


def test_markdown_reads_nothing_into_names():
    for line in stages_markdown([sample_stages.hostile()]).splitlines():
        outside = "".join(line.split("`")[::2]).replace("**", "")  # what is not code
        assert not set("<>[]@$&*_{}") & set(outside)


def test_csv_has_a_row_a_stage():
    text = stages_csv([stages()])
    assert text.count("\r\n") == len(text.splitlines())
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(stages().runs) and tuple(rows[0]) == COLUMNS
    (detector,) = (r for r in rows if (r["stage"], r["runtime"]) == ("detector", "openvino"))
    assert float(detector["p50_ms"]) == 61.5
    assert float(detector["of_look"]) == pytest.approx(61.5 / 108)
    assert (detector["samples"], detector["processes"], detector["random_weights"]) == (
        "20", "2", "no",
    )  # fmt: skip
    (look, *_) = (r for r in stages_rows([stages()]) if r["stage"] == "look")
    assert look["of_look"] is None


def test_csv_of_a_hostile_result_stays_in_its_cells():
    for name in (sample_results.HOSTILE, 'a,"b"\nc', "=1+1"):
        text = stages_csv([sample_stages.hostile(name)])
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert {len(row) for row in rows} == {len(COLUMNS)}
        assert not any(cell.startswith("=") for row in rows for cell in row)


# ---- the command -----------------------------------------------------------------------------


def saved(folder, name="r", result=None):
    path = save_stages(result or stages(), folder)
    return str(path.rename(folder / f"{name}.stages.json"))


def test_the_command_writes_all_three(folder, capsys):
    name = saved(folder)
    assert main(["report", name, "-o", "p.html", "--markdown", "p.md", "--csv", "p.csv"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "minivlm takes 108 ms to look at an image, 144 ms to answer a question" in out
    assert out.endswith("next: xdg-open p.html")
    assert (folder / "p.html").read_text("utf-8") == stages_html([stages()])
    assert (folder / "p.md").read_text("utf-8") == stages_markdown([stages()])
    assert (folder / "p.csv").read_bytes().decode() == stages_csv([stages()])


@pytest.mark.parametrize(("option", "start"), [("--markdown", "minivlm: "), ("--csv", "model,")])
def test_a_dash_prints_it_and_nothing_else(folder, capsys, option, start):
    assert main(["report", saved(folder), option, "-"]) == 0
    assert capsys.readouterr().out.startswith(start)


def test_json_is_one_document(folder, capsys):
    assert main(["report", saved(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == {"html": "report.html"} and found["unlike_environments"] == []
    (row,) = found["results"]
    assert (row["model"], row["verdict"], row["runs"]) == ("minivlm", "stable", 26)


def test_a_folder_is_all_its_results(folder, capsys):
    for name in ("b", "a"):
        saved(folder, name, stages(model=name))
    assert main(["report", ".", "--json", "-o", "new.html"]) == 0
    files = [row["file"] for row in json.loads(capsys.readouterr().out)["results"]]
    assert files == ["a.stages.json", "b.stages.json"]


def test_results_of_both_kinds_are_refused_together(folder, capsys):
    (folder / "m1.json").write_text(result_to_json(sample_results.result()), encoding="utf-8")
    saved(folder)
    for names in (("m1.json", "r.stages.json"), ("r.stages.json", "m1.json"), (".",)):
        line = failed(capsys, 2, *names)
        assert "r.stages.json is a result by stage and m1.json is not: report them apart" in line
    assert not (folder / "report.html").exists()


def test_a_result_by_stage_of_another_name_is_told_what_it_needs(folder, capsys):
    Path(saved(folder)).rename("vlm.json")
    assert "a result by stage, which edgekit report reads as *.stages.json" in failed(
        capsys, 1, "vlm.json"
    )


def test_unlike_environments_are_refused_and_said_by_force(folder, capsys):
    elsewhere = stages(machine=sample_results.machine(board="Raspberry Pi 5"))
    names = saved(folder, "a"), saved(folder, "b", elsewhere)
    line = failed(capsys, 2, *names)
    assert "measured in unlike environments (board: Raspberry Pi 4" in line
    assert main(["report", *names, "--force", "-q"]) == 0
    assert "Unlike environments" in (folder / "report.html").read_text("utf-8")
