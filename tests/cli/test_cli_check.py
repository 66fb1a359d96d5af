"""``edgekit check``: exit codes a CI can rely on, and tables that say why."""

import dataclasses
import json

import pytest

from edgekit.bundle import open_bundle
from edgekit.cli import main
from edgekit.profiling import profile
from edgekit.profiling.assemble import model_facts
from edgekit.profiling.result import result_to_json
from tests.bundle.sample_bundle import write
from tests.profiling.sample_results import environment, instructions, memory, result, run, state


@pytest.fixture
def where(tmp_path, monkeypatch):
    """A folder with a bundle of the null runtime; measuring by itself is not expected."""
    write(tmp_path / "tiny")
    monkeypatch.setattr(profile, "run_profile", lambda *a, **k: pytest.fail("it measured"))
    return tmp_path


def facts(where):
    with open_bundle(where / "tiny") as bundle:
        return model_facts(bundle.manifest)


def measured(where, *runs, **parts):
    return result(facts=facts(where), runs=runs, **parts)


def fast(ms=0.48, **options):
    return run(runtime="null", ms=ms, **options)


def check(where, budget=None, *words, saved=None, baseline=None):
    line = ["check", str(where / "tiny"), *words]
    for flag, name, text in (
        ("--budget", "budget.toml", budget),
        ("--result", "r.json", saved and result_to_json(saved)),
        ("--baseline", "old.json", baseline and result_to_json(baseline)),
    ):
        if text is not None:
            (where / name).write_text(text)
            line += [flag, str(where / name)]
    return main(line)


def error(capsys):
    printed = capsys.readouterr()
    return printed.out, printed.err.splitlines()[-1]


STATIC = "[budget]\nmax_params = {}\nmax_relative_error = 1e-4\nmax_size_kb = 1\n"


def test_within_the_budget(where, capsys):
    assert check(where, STATIC.format(10)) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == [
        "limit", "of", "allowed", "got", "95", "%", "interval", "verdict",
    ]  # fmt: skip
    assert out.count(" ok\n") == 3
    assert out.splitlines()[-1] == f"next: edgekit profile {where}/tiny --json > baseline.json"


def test_over_the_budget_is_exit_4(where, capsys):
    assert check(where, STATIC.format(9)) == 4
    out, line = error(capsys)
    assert "OVER" in out
    assert line == "edgekit: error: max_params of model is 10, allowed 9"


def test_a_gate_that_checks_nothing_does_not_pass(where, capsys):
    budget = "[budget.latency.litert]\np90_ms = 5\n"
    assert check(where, budget, saved=measured(where, fast())) == 2
    assert "limits nothing of this bundle, which has null" in error(capsys)[1]


def test_several_excesses_are_counted(where, capsys):
    assert check(where, "[budget]\nmax_params = 9\nmax_size_kb = 0.1\n") == 4
    assert "; and 1 more, see the table" in error(capsys)[1]


@pytest.mark.parametrize(("limit", "code"), [(0.6, 0), (0.4, 4)])
@pytest.mark.parametrize("figure", ["p50_ms", "p90_ms", "p99_ms"])
def test_latency_of_a_result_file(where, figure, limit, code):
    measurement = measured(where, fast())
    value = getattr(measurement.runs[0], figure)
    budget = f"[budget]\n{figure} = {value * limit / 0.5}\n"
    assert check(where, budget, saved=measurement) == code


def test_too_close_to_call_is_said_and_the_point_decides(where, capsys):
    saved = measured(where, fast())  # its interval is 1 % wide to both sides
    assert check(where, f"[budget]\np50_ms = {0.995 * saved.runs[0].p50_ms}\n", saved=saved) == 4
    out, line = error(capsys)
    assert "OVER, too close to call" in out
    assert line.endswith("(too close to call)")


def test_memory_and_instructions(where):
    row = dataclasses.replace(memory("null"), peak_use=50_000_000)
    count = dataclasses.replace(instructions(), runtime="null")
    saved = measured(where, memory=(row,), instructions=(count,))
    assert check(where, "[budget]\npeak_rss_mb = 51\nminstructions = 12\n", saved=saved) == 0
    assert check(where, "[budget]\npeak_rss_mb = 49\n", saved=saved) == 4
    assert check(where, "[budget]\nminstructions = 11\n", saved=saved) == 4


def test_a_limit_that_nothing_measured_is_exit_2(where, capsys):
    assert check(where, "[budget]\np99_ms = 9\nthreads = 4\n", saved=measured(where, fast())) == 2
    out, line = error(capsys)
    assert "not measured" in out
    assert f"profile {where}/tiny --runtime null --threads 4 --scope engine" in line


@pytest.mark.parametrize("limit", [0.1, 9.0])
def test_a_time_that_cannot_be_trusted_is_exit_5(where, limit, capsys):
    noisy = measured(where, fast(verdict="noisy", reasons=("noisy: medians spread by 9 %",)))
    budget = f"[budget]\np50_ms = {limit}\n"
    assert check(where, budget, saved=noisy) == 5
    out, line = error(capsys)
    assert ", noisy" in out
    assert "medians spread by 9 %" in line and "--allow-noisy" in line
    assert check(where, budget, "--allow-noisy", saved=noisy) == (4 if limit < 0.4 else 0)


def test_an_incomplete_run_is_not_trusted(where):
    saved = measured(where, fast(complete=False))
    assert check(where, "[budget]\np50_ms = 9\n", saved=saved) == 5


def test_noise_elsewhere_does_not_matter(where):
    saved = measured(where, fast(), fast(threads=2, verdict="contended"))
    assert check(where, "[budget]\np50_ms = 9\n", saved=saved) == 0
    assert check(where, "[budget]\nmax_params = 10\n", saved=saved) == 0


def test_what_is_certain_fails_before_what_is_not(where):
    noisy = measured(where, fast(verdict="noisy"))
    assert check(where, "[budget]\nmax_params = 9\np50_ms = 9\n", saved=noisy) == 4
    assert check(where, "[budget]\nmax_params = 9\npeak_rss_mb = 9\n", saved=noisy) == 4
    assert check(where, "[budget]\nmax_params = 10\npeak_rss_mb = 9\n", saved=noisy) == 2


def test_memory_that_could_not_be_read_is_in_no_limit_and_no_comparison(where, capsys):
    zeros = dataclasses.replace(memory("null"), peak_use=0, note="not measured: no /proc")
    saved = measured(where, fast(), memory=(zeros,))
    assert check(where, "[budget]\npeak_rss_mb = 9\n", saved=saved) == 2
    assert "not measured: no /proc" in error(capsys)[1]
    assert check(where, saved=saved, baseline=saved) == 0
    before = measured(where, fast(), memory=(memory("null"),))
    assert check(where, saved=saved, baseline=before) == 0
    assert "not compared: peak memory of null, 1 thread" in capsys.readouterr().err


# ---- the baseline ----------------------------------------------------------------------------


def test_no_worse_than_before(where, capsys):
    assert check(where, saved=measured(where, fast()), baseline=measured(where, fast())) == 0
    out = capsys.readouterr().out
    assert "p50_ms" in out and "1.000" in out


def test_worse_than_before_is_exit_4(where, capsys):
    before, after = measured(where, fast(0.48)), measured(where, fast(0.55))
    assert check(where, saved=after, baseline=before) == 4
    out, line = error(capsys)
    assert "WORSE" in out
    assert "p50_ms of null, 1 thread, engine is 1.15 times the baseline's" in line
    assert check(where, saved=before, baseline=after) == 0  # better


def test_both_gates_hold(where):
    before = measured(where, fast(0.48))
    assert check(where, "[budget]\np50_ms = 0.4\n", saved=before, baseline=before) == 4


def test_worse_and_noisy_is_exit_5(where):
    before, after = measured(where, fast(0.48)), measured(where, fast(0.6, verdict="noisy"))
    assert check(where, saved=after, baseline=before) == 5
    assert check(where, None, "--allow-noisy", saved=after, baseline=before) == 4


def test_more_memory_than_before(where):
    small = measured(where, memory=(memory("null"),))
    large = measured(where, memory=(dataclasses.replace(memory("null"), peak_use=99 << 20),))
    assert check(where, saved=large, baseline=small) == 4
    assert check(where, saved=small, baseline=large) == 0


def powersave(where):
    saving = environment(before=state(governors={"policy0": "powersave"}))
    return measured(where, fast(), environment=saving)


def test_another_environment_is_refused_with_its_name(where, capsys):
    assert check(where, saved=powersave(where), baseline=measured(where, fast())) == 2
    out, line = error(capsys)
    assert out == ""
    assert "the baseline is not comparable: governor: performance / powersave" in line
    assert line.endswith("or compare all the same with --force")


def test_forced_it_is_said_beside_the_table(where, capsys):
    before = measured(where, fast())
    assert check(where, None, "--force", saved=powersave(where), baseline=before) == 0
    assert "warning: the baseline is not comparable: governor" in capsys.readouterr().err


def test_instructions_travel_between_machines(where):
    count = dataclasses.replace(instructions(), runtime="null")
    more = dataclasses.replace(count, per_inference=1.1 * count.per_inference)
    elsewhere = powersave(where).environment
    before = measured(where, instructions=(count,))
    after = measured(where, instructions=(more,), environment=elsewhere)
    assert check(where, saved=before, baseline=before) == 0
    assert check(where, saved=after, baseline=before) == 4


def test_another_model_is_refused(where, capsys):
    other = dataclasses.replace(facts(where), id="another")
    baseline = result(facts=other, runs=(fast(),))
    assert check(where, saved=measured(where, fast()), baseline=baseline) == 2
    assert "model: another / tiny-net" in error(capsys)[1]


def test_a_run_that_the_result_lacks_is_refused(where, capsys):
    baseline = measured(where, fast(), fast(threads=4))
    assert check(where, saved=measured(where, fast()), baseline=baseline) == 2
    assert "lacks 1 of the baseline's 2 runs (null, 4 threads, engine)" in error(capsys)[1]
    assert check(where, None, "--force", saved=measured(where, fast()), baseline=baseline) == 0


def test_nothing_in_common(where, capsys):
    assert check(where, saved=measured(where), baseline=measured(where)) == 2
    assert "no measured figure in common" in error(capsys)[1]


def test_a_noisy_baseline_is_mentioned(where, capsys):
    baseline = measured(where, fast(verdict="noisy"))
    assert check(where, saved=measured(where, fast()), baseline=baseline) == 0
    assert "the baseline itself is noisy" in capsys.readouterr().err


# ---- what is not right -----------------------------------------------------------------------


def test_a_result_of_another_build_is_refused(where, capsys):
    saved = measured(where, fast())
    stale = dataclasses.replace(
        saved, facts=dataclasses.replace(saved.facts, bundle_sha256="0" * 64)
    )
    budget = "[budget]\np50_ms = 9\n"
    assert check(where, budget, saved=stale) == 2
    assert "the result is of another build than" in error(capsys)[1]
    assert check(where, budget, "--force", saved=stale) == 0


def test_nothing_to_check_against(where, capsys):
    assert check(where) == 2
    assert "give --budget FILE, --baseline FILE or both" in error(capsys)[1]


@pytest.mark.parametrize(("flag", "code"), [("--budget", 2), ("--result", 1), ("--baseline", 1)])
def test_files_that_are_not_there(where, flag, code, capsys):
    words = ["check", str(where / "tiny"), flag, str(where / "none")]
    if flag == "--result":
        (where / "b.toml").write_text("[budget]\np50_ms = 1\n")
        words += ["--budget", str(where / "b.toml")]
    assert main(words) == code
    assert "No such file" in error(capsys)[1]


def test_a_foreign_and_a_truncated_result(where, capsys):
    (where / "b.toml").write_text("[budget]\np50_ms = 1\n")
    whole = result_to_json(measured(where, fast()))
    for text, words in (('{"a": 1}', "something else"), (whole[: len(whole) // 2], "not JSON")):
        (where / "r.json").write_text(text)
        line = ["check", str(where / "tiny"), "--budget", str(where / "b.toml")]
        assert main([*line, "--result", str(where / "r.json")]) == 1
        out, message = error(capsys)
        assert out == "" and words in message


def test_no_bundle(where, capsys):
    (where / "b.toml").write_text("[budget]\nmax_params = 1\n")
    assert main(["check", str(where / "none"), "--budget", str(where / "b.toml")]) == 1
    assert "no bundle at" in error(capsys)[1]


# ---- JSON, and measuring by itself -----------------------------------------------------------


def test_json_is_one_document_also_when_it_fails(where, capsys):
    before, after = measured(where, fast(0.48)), measured(where, fast(0.6))
    budget = "[budget]\nmax_params = 10\np50_ms = 0.5\n"
    assert check(where, budget, "--json", saved=after, baseline=before) == 4
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 4
    assert document["failure"].startswith("p50_ms of null, 1 thread, engine is 0.6")
    assert [(row["limit"], row["verdict"]) for row in document["limits"]] == [
        ("max_params", "ok"),
        ("p50_ms", "over"),
    ]
    worse = [change["figure"] for change in document["changes"] if change["verdict"] == "worse"]
    assert worse == ["p50_ms", "p90_ms"]
    low, high = document["limits"][1]["interval"]
    assert low < document["limits"][1]["got"] < high


def test_it_measures_what_a_limit_needs_and_no_more(where, monkeypatch):
    asked = []

    def measure(request, *, progress, **_):
        asked.append(request)
        return measured(where, fast(threads=2))

    monkeypatch.setattr(profile, "run_profile", measure)
    assert check(where, "[budget]\nmax_params = 10\n") == 0
    assert asked == []
    assert check(where, "[budget]\np50_ms = 9\nthreads = 2\n") == 0
    (request,) = asked
    assert (request.threads, request.scopes, request.layers) == ((2,), ("engine",), False)
    assert request.command[:2] == ("edgekit", "check")
    assert check(where, baseline=measured(where, fast(threads=2))) == 0
    assert len(asked) == 2


def test_ctrl_c_is_no_verdict(where, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(profile, "run_profile", interrupted)
    assert check(where, "[budget]\np50_ms = 9\n") == 130
    assert error(capsys) == ("", "edgekit: error: interrupted")
