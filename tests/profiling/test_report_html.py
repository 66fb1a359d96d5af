"""The page as HTML: nothing of a result gets out of its place, and nothing is fetched."""

import base64
import dataclasses
import hashlib
import itertools
import re
from html.parser import HTMLParser

import pytest

from edgekit.profiling.report import html_report, words
from edgekit.profiling.report.html import LONGEST, Markup, shown, tag
from edgekit.profiling.result import LayerRun, result_from_json, result_to_json
from tests.profiling import sample_results as samples

VOID = {"meta", "br"}


class Page(HTMLParser):
    """What a browser would see: elements with attributes, text, and whether all are closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


CASES = {
    "everything": samples.everything,
    "one sample": samples.one_sample,
    "huge": samples.huge,
    "incomplete": samples.incomplete,
    "hostile": samples.hostile,
    "long names": lambda: samples.hostile(samples.LONG),
    "nothing measured": lambda: samples.result(runs=()),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    result = CASES[request.param]()
    return result, html_report([result])


def test_the_cases_are_results_that_can_be_read(case):
    result, _ = case
    assert result_from_json(result_to_json(result)) == result


def test_every_element_is_closed_and_the_page_is_small(case):
    _, text = case
    assert Page(text).open == []
    assert text.startswith("<!doctype html>")
    assert len(text.encode()) < 600_000


def test_nothing_is_fetched_and_nothing_runs(case):
    _, text = case
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "use"} & {n for n, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert not {"src", "style", "srcset", "xlink:href"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in text and "@import" not in text


def test_a_hostile_result_makes_the_same_elements_as_a_harmless_one():
    """Names of the same length in every place: only text may differ, not the structure."""
    harmless = "x" * len(samples.HOSTILE)
    hostile = Page(html_report([samples.hostile()]))
    plain = Page(html_report([samples.hostile(harmless)]))
    assert [name for name, _ in hostile.elements] == [name for name, _ in plain.elements]
    known = {key for _, attributes in plain.elements for key in attributes}
    assert {key for _, attributes in hostile.elements for key in attributes} == known
    assert samples.HOSTILE in hostile.text


def test_ids_are_unique_and_links_lead_to_them():
    results = [samples.everything(), samples.result(model="micronet-m2"), samples.hostile()]
    for shown_together in (results[:1], results):
        page = Page(html_report(shown_together))
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        links = [a["href"][1:] for name, a in page.elements if name == "a"]
        assert len(ids) == len(set(ids))
        assert links and set(links) <= set(ids)


def test_the_policy_allows_the_one_style_and_nothing_else(case):
    _, text = case
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_headings_are_nested_and_tables_have_heads(case):
    _, text = case
    page = Page(text)
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    heads = [attributes for name, attributes in page.elements if name == "th"]
    assert heads and all(attributes["scope"] in ("col", "row", "rowgroup") for attributes in heads)
    names = [name for name, _ in page.elements]
    assert names.count("table") == names.count("caption")


def test_every_drawing_has_words_or_is_hidden(case):
    _, text = case
    outer = [a for name, a in Page(text).elements if name == "svg" and "viewbox" not in a]
    for attributes in outer:
        assert attributes.get("aria-hidden") == "true" or attributes["aria-label"]


def test_the_page_says_what_was_found_first():
    page = Page(html_report([samples.result()]))
    assert page.text.index("micronet-m1 takes 0.4") < page.text.index("Figures")
    assert re.search(
        r"takes 0\.4\d\d ms \(p50, 95 % interval 0\.4\d\d to 0\.4\d\d\) on Raspberry Pi 4 Model B "
        r"Rev 1\.1 with litert, 1 thread; measurement: ● stable",
        page.text,
    )


def test_what_limits_the_figures_is_said_at_the_top():
    weights = samples.model(random_weights=True)
    noisy = samples.run(verdict="noisy", reasons=("the medians spread by 8 %",))
    result = samples.result(
        facts=weights, runs=(noisy,), complete=False, preset="quick", warnings=("odd image",)
    )
    text = Page(html_report([result], unlike=("governor: a / b",))).text
    top = text[: text.index("Figures")]
    for said in (
        "Random weights",
        "The medians spread by 8 %. Not trustworthy as measured: 1 of 1 figure",
        "ended early",
        "A first look",
        "odd image",
        "Unlike environments",
        "governor: a / b",
    ):
        assert said in top
    calm = Page(html_report([samples.result()])).text
    for unsaid in ("Unlike", "Incomplete", "Random weights", "first look", "Not trustworthy"):
        assert unsaid not in calm


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("starts", "Cold start: not measured."),
        ("layers", "Times per layer: not measured"),
        ("memory", "Memory: not measured"),
        ("sustained", "A sustained run: not measured"),
        ("instructions", "Instructions: not measured"),
        ("references", "No reference network was timed"),
    ],
)
def test_what_was_not_measured_is_said(part, words):
    assert words in Page(html_report([samples.result()])).text
    without = dataclasses.replace(samples.everything(), **{part: ()})
    assert words in Page(html_report([without])).text


def test_what_was_measured_is_not_called_missing():
    layers = (samples.layer_run(),)
    text = Page(html_report([samples.everything(layers=layers)])).text
    assert "not measured" not in text


def test_a_runtime_without_layers_says_why():
    none = LayerRun("litert", 1, "", "LiteRT gives no time per operator", 0, None, None, ())
    text = Page(html_report([samples.result(layers=(none,))])).text
    assert "Times per layer: not measured; LiteRT gives no time per operator." in text


def test_layers_say_where_time_and_macs_disagree():
    run = samples.layer_run()
    idle = sum(layer.ms for layer in run.layers if layer.macs == 0) / run.sum_ms
    text = Page(html_report([samples.result(layers=(run,))])).text
    assert f"{100 * idle:.0f} % of the time goes to kernels without a single MAC" in text
    assert f"add up to {run.sum_ms:.3f} ms" in text
    best = max(layer.macs / layer.ms / 1e6 for layer in run.layers if layer.macs)
    assert f"best here: {best:.1f} GMAC/s" in text
    assert "It is not the machine's peak" in text


def test_a_roofline_needs_bytes():
    layers = tuple(
        dataclasses.replace(layer, bytes_moved=None) for layer in samples.layer_run().layers
    )
    run = dataclasses.replace(samples.layer_run(), layers=layers)
    assert "Roofline: not measured" in Page(html_report([samples.result(layers=(run,))])).text


def test_the_reference_is_said_as_people_say_it():
    text = Page(html_report([samples.result(references=(samples.reference(),))])).text
    assert (
        "micronet-m1, 51.4 %, takes 0.480 ms; on this machine MobileNetV2-0.5 @ 96, 51.2 %, "
        "takes 0.390 ms: micronet-m1 needs 1.23 times its time (1.21 to 1.25)"
    ) in text


def test_the_environment_shows_what_changed():
    after = samples.state(governors={"policy0": "powersave"})
    result = samples.result(environment=samples.environment(after=after))
    text = Page(html_report([result])).text
    assert "governor policy0: performance policy0: powersave changed" in text.replace("  ", " ")
    warmer = samples.state(celsius={"cpu-thermal": 70.0}, load=1.0)
    same = samples.result(environment=samples.environment(after=warmer))
    assert "changed" not in Page(html_report([same])).text.replace("before after changed", "")


def test_hashes_and_the_command_are_there():
    result = samples.result(command=("edgekit", "profile", "my bundle"))
    text = Page(html_report([result])).text
    assert "edgekit profile 'my bundle'" in text
    assert "ab" * 32 in text and "cd" * 32 in text


def test_many_results_share_one_page():
    names = [f"net-{i}" for i in range(50)]
    results = [samples.result(model=name) for name in names]
    text = html_report(results)
    page = Page(text)
    assert all(f"{name} takes" in page.text for name in names)
    assert "10 further results" in page.text  # in detail are the first 40
    assert len(text.encode()) < 1_500_000


def test_the_time_series_get_coarser_and_not_the_page_longer():
    flat = samples.processes(count=1, each=2000)
    runs = tuple(samples.run(threads=i + 1, made=flat) for i in range(64))
    kernels = tuple(samples.layer_run(threads=i + 1, count=400) for i in range(3))
    results = [samples.everything(runs=runs, layers=kernels) for _ in range(8)]
    text = html_report(results)
    assert len(text.encode()) < 1_500_000
    assert "The 31 slowest of 400 kernels in the order of the graph" in text
    assert "The charts of 58 further runs are left out." in text


def emulated(**changes):
    return samples.result(runs=(), instructions=(samples.instructions(),), **changes)


def test_a_result_of_counts_says_so_and_names_its_core():
    text = Page(html_report([emulated()])).text
    assert (
        "micronet-m1 executes 11.5 M instructions per inference on an emulated cortex-a72" in text
    )
    figures = text[text.index("Figures") :]
    assert figures.startswith("Figures No time was measured: an emulator counted the instructions")
    assert "micronet-m1 on an emulated cortex-a72" in text
    assert "on Raspberry" not in text


def test_counts_stand_beside_times_that_were_forced_onto_one_page():
    text = Page(html_report([samples.result(), emulated()])).text
    assert "2 profiles on 2 machines" in text
    assert "micronet-m1 executes 11.5 M instructions an inference on an emulated cortex-a72" in text


def test_layers_say_whose_macs_theirs_are():
    run = samples.layer_run()
    own = sum(layer.macs or 0 for layer in run.layers)
    text = Page(html_report([samples.result(layers=(run,))])).text
    assert (
        f"MACs of the graph this runtime executes: {own / 1e6:.2f} M; "
        "the model as defined: 5.31 M (docs/counting.md" in text
    )
    same = samples.result(layers=(run,), facts=samples.model(macs=own))
    assert (
        f"executes: {own / 1e6:.2f} M, as of the model as defined."
        in Page(html_report([same])).text
    )
    blind = tuple(dataclasses.replace(layer, macs=None) for layer in run.layers)
    none = samples.result(layers=(dataclasses.replace(run, layers=blind),))
    assert "executes: not known; the model as defined: 5.31 M." in Page(html_report([none])).text


def alike(**changes):
    return samples.result(**changes)


@pytest.mark.parametrize(
    ("results", "told"),
    [
        ((alike(), alike(model="other")), ["micronet-m1", "other"]),
        (
            (alike(), alike(facts=samples.model(target="x86"), preset="quick")),
            ["micronet-m1 for rpi4", "micronet-m1 for x86"],
        ),
        ((alike(), alike(preset="quick")), ["micronet-m1, default", "micronet-m1, quick"]),
        (
            (alike(), alike(runs=(samples.run(threads=4),), started="2026-11-23T09:00:00Z")),
            ["micronet-m1, 1 thread", "micronet-m1, 4 threads"],
        ),
        (
            (alike(), alike(started="2026-11-23T09:00:00Z")),
            ["micronet-m1, 2026-11-23 08:00", "micronet-m1, 2026-11-23 09:00"],
        ),
        ((alike(), alike(seconds=1.0)), ["micronet-m1", "micronet-m1 (2)"]),
        (
            (alike(), alike(model="b"), alike(preset="quick")),
            ["micronet-m1, default", "b", "micronet-m1, quick"],
        ),
    ],
)
def test_results_are_told_apart_by_what_differs_and_by_nothing_else(results, told):
    assert words.names(results) == told
    page = html_report(results)
    for name in told:
        assert f">{name}</a>" in page
        assert f">{name} on Raspberry Pi 4 Model B Rev 1.1</h2>" in page
        assert f'scope="rowgroup"><span class="group">{name}</span>' in page


def test_machines_tell_results_apart():
    other = samples.environment(machine=samples.machine(board="Pi 5"))
    both = [samples.result(), samples.result(environment=other)]
    assert words.names(both)[1] == "micronet-m1 on Pi 5"
    assert words.names(both, places=False) == ["micronet-m1"] * 2


def test_a_reason_stands_at_most_twice():
    """Beside its figure, and of the first figure at the top."""
    runs = tuple(
        samples.run(threads=n, verdict="noisy", reasons=(f"noisy: because of {n}",))
        for n in (1, 2, 3)
    )
    text = Page(html_report([samples.result(runs=runs)])).text
    assert [text.lower().count(f"because of {n}") for n in (1, 2, 3)] == [2, 1, 1]
    assert "Not trustworthy as measured: 3 of 3 figures." in text


def test_a_verdict_leads_to_its_reasons():
    page = html_report([samples.everything()])
    (href,) = re.findall(r'<a href="#([^"]*)"><span class="badge noisy">', page)
    card = page[page.index(f'id="{href}"') :]
    assert card.index("medians spread by 8 %") < card.index("</article>")


def test_reasons_of_runs_without_a_card_are_listed():
    runs = tuple(
        samples.run(threads=n, made=samples.processes(count=1, each=20), reasons=(f"why {n}",))
        for n in range(1, 61)
    )
    text = Page(html_report([samples.result(runs=runs)])).text
    assert "Why others are not trustworthy" in text and "back-to-back: why 60" in text


def test_the_verdict_comes_before_what_must_be_opened():
    page = html_report([samples.everything(facts=samples.model(random_weights=True))])
    assert page.index("badge stable") < page.index("<summary>") < page.index('id="figures"')
    heads = [re.sub(r"<.*?>", "", head) for head in re.findall(r"<th.*?</th>", page)[:3]]
    assert heads == ["runtime", "p50 ms", "verdict"]  # what a phone has room for


@pytest.mark.parametrize(
    ("last", "fell", "verdict", "said"),
    [
        (0.60, 30.0, "throttled", "It ended 20 % slower than it began (p50 0.500 ms in the first"),
        (0.60, None, "noisy", "It did not fall off for good: it never stayed slower than at first"),
        (0.50, None, "stable", "It ended as it began"),
        (0.49, None, "stable", "It ended 2.0 % faster than it began"),
    ],
)
def test_a_long_run_has_a_verdict_and_says_how_it_ended(last, fell, verdict, said):
    long = dataclasses.replace(samples.sustained(), throttled_at_s=fell)
    long = dataclasses.replace(long, p50_ms=(0.5, *long.p50_ms[1:-1], last))
    assert words.endurance_verdict(long) == verdict
    text = Page(html_report([samples.result(sustained=(long,))])).text
    assert said in text
    assert "by more than 5.0 %, until the end" in text


def test_a_long_run_of_one_window_has_no_end():
    short = dataclasses.replace(samples.sustained(windows=1), throttled_at_s=None)
    assert words.endurance(short) == "Too short to tell an end from a beginning."


def test_what_moves_by_itself_is_shown_as_a_difference():
    after = samples.state(load=3.62, others_running=4, memory_available=2 << 30)
    where = samples.environment(after=after)
    text = Page(html_report([samples.result(environment=where)])).text
    assert "load, one minute 0.12 3.62 +3.5" in text
    assert "other runnable tasks 0 4 +4" in text
    assert "memory available 3.2 GB 2.1 GB −1.1 GB" in text


def test_what_quick_leaves_out_says_how_to_get_it():
    quick = Page(html_report([samples.result(preset="quick")])).text
    assert "Times per layer: not measured; leave --quick out to get them." in quick
    assert "--quick out" not in Page(html_report([samples.result()])).text


def test_cold_starts_say_why_they_do_not_add_up():
    assert "need not add up" in Page(html_report([samples.everything()])).text


# ---- the small parts -------------------------------------------------------------------------


def test_tags_escape_text_and_attributes():
    assert tag("td", "a < b & 'c'", class_='"x') == (
        '<td class="&quot;x">a &lt; b &amp; &#x27;c&#x27;</td>'
    )
    assert tag("p", Markup("<b>"), None, 3, ["x", tag("i", "y")]) == "<p><b>3x<i>y</i></p>"
    assert tag("rect", x=1.5, fill_opacity="0", y=None) == '<rect x="1.5" fill-opacity="0"/>'


def test_what_cannot_be_seen_is_replaced_and_what_is_long_is_cut():
    assert shown("a\u202eb\x1b[0m\ud800") == "a\ufffdb\ufffd[0m\ufffd"
    assert shown("x" * 1000) == "x" * (LONGEST - 1) + "…"
    assert "\x00" not in html_report([samples.hostile("a\x00b")])
