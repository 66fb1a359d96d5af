"""The page in a real browser, where there is one: nothing overflows, nothing is fetched or logged.

EDGEKIT_BROWSER=chromium pytest tests/profiling/test_report_browser.py
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time

import pytest

from edgekit.profiling.report import html_report, stages_html
from tests.profiling import sample_results as samples
from tests.profiling import sample_stages

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = shutil.which(os.environ.get("EDGEKIT_BROWSER", "")) or next(
    filter(None, map(shutil.which, NAMES)), None
)
LIMIT_S = 60

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser here: {', '.join(NAMES)}")

OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """Chromium's own debugging protocol over two pipes: JSON documents, each ended by a zero."""

    def __init__(self, folder):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # Well above 3 and 4, which is where the browser looks for them.
        read, write = (fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs_in, theirs_out))

        def place():
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.process = subprocess.Popen(
            [BROWSER or "", *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            preexec_fn=place,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (theirs_in, theirs_out, read, write):
            os.close(end)
        os.set_blocking(ours_in, False)
        self.reading, self.writing = ours_in, ours_out
        self.buffer, self.count, self.events, self.session = b"", 0, [], None

    def call(self, method, **parameters):
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while (answer := self.next()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def next(self):
        deadline = time.monotonic() + LIMIT_S
        while b"\0" not in self.buffer:
            assert time.monotonic() < deadline, "the browser does not answer"
            with contextlib.suppress(BlockingIOError):
                self.buffer += os.read(self.reading, 1 << 16)
                continue
            time.sleep(0.01)
        line, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(line)

    def show(self, path, width, scheme):
        """Open a fresh tab of that width with the page in it."""
        self.session, self.events = None, []
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=tab, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + LIMIT_S
        while self.value("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < deadline

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def requests(self):
        """What went out, less the page itself."""
        sent = [e["params"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        urls = [parameters["request"]["url"] for parameters in sent]
        return [url for url in urls if not url.startswith(("file:", "about:"))]

    def complaints(self):
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event["params"] for event in self.events if event["method"] in kinds]

    def close(self):
        with contextlib.suppress(OSError, AssertionError):
            self.session = None
            self.call("Browser.close")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


CASES = {
    "everything": lambda: [samples.everything(facts=samples.model(random_weights=True))],
    "hostile": lambda: [samples.hostile()],
    "long": lambda: [samples.hostile(samples.LONG)],
    "one sample": lambda: [samples.one_sample()],
    "several": lambda: [samples.result(model=f"net-{i}") for i in range(5)],
}
STAGES = {
    "stages": lambda: [sample_stages.stages(random=True)],
    "hostile stages": lambda: [sample_stages.hostile()],
    "long stages": lambda: [sample_stages.hostile(samples.LONG)],
    "several by stage": lambda: [sample_stages.stages(model=f"net-{i}") for i in range(3)],
}
PAGES = {
    **{name: lambda made=made: html_report(made()) for name, made in CASES.items()},
    **{name: lambda made=made: stages_html(made()) for name, made in STAGES.items()},
}

# Elements that stick out of the window and that no scrolling box of a table or the contents holds.
OVERFLOW = """
  (() => { const wide = [];
    for (const e of document.querySelectorAll("body *")) {
      if (e.closest(".scroll, nav ul") && !e.matches(".scroll, nav ul")) continue;
      if (e.closest("svg.plot svg, title, desc, .unseen")) continue;
      const box = e.getBoundingClientRect();
      if (box.width && (box.right > innerWidth + 1 || box.left < -1))
        wide.push(e.tagName + "." + (e.getAttribute("class") || "") + " " + box.right);
    }
    return JSON.stringify(wide.slice(0, 5));
  })()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("case", PAGES)
def test_the_page_in_a_browser(browser, tmp_path, case, width, scheme):
    path = tmp_path / "report.html"
    path.write_text(PAGES[case](), encoding="utf-8")
    browser.show(path, width, scheme)
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    assert json.loads(browser.value(OVERFLOW)) == []
    assert (
        browser.value("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(246, 248, 251)",  # the style was let in by the page's own policy
            "dark": "rgb(11, 18, 32)",
        }[scheme]
    )
    assert browser.requests() == []
    assert browser.complaints() == []


CONTRAST = """
  (() => { const poor = [];
    const rgb = text => text.match(/[\\d.]+/g).map(Number);
    const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
      return v <= 0.03928 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = e => { for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
    for (const e of document.querySelectorAll("body *")) {
      const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
      if (!own || e.closest("title, desc") || e.matches(".inside")) continue;
      const style = getComputedStyle(e);
      const ink = rgb(e.closest("svg") ? style.fill : style.color);
      const a = light(ink), b = light(behind(e));
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (ratio < 4.5) poor.push(e.tagName + "." + (e.getAttribute("class") || "") + " " + ratio);
    }
    return JSON.stringify([...new Set(poor)].slice(0, 8));
  })()
"""


def every_verdict():
    verdicts = ("stable", "noisy", "throttled", "contended")
    runs = tuple(samples.run(threads=i + 1, verdict=v) for i, v in enumerate(verdicts))
    return html_report([samples.everything(runs=runs)])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("made", [every_verdict, PAGES["hostile stages"]])
def test_text_has_the_contrast_of_wcag_aa(browser, tmp_path, made, scheme):
    path = tmp_path / "report.html"
    path.write_text(made(), encoding="utf-8")
    browser.show(path, 1000, scheme)
    assert json.loads(browser.value(CONTRAST)) == []
