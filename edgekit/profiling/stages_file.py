"""A result by stage as a JSON file of its own: ``<model>-<time>.stages.json``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from edgekit.bundle import schema
from edgekit.bundle.schema import SchemaError
from edgekit.errors import BundleError, InputError
from edgekit.profiling.result import STAGES_KIND, VERDICTS
from edgekit.profiling.result_text import result_text
from edgekit.profiling.stages_result import StageRun, StagesResult

SUFFIX = ".stages.json"
MAX_STAGES_BYTES = 32 << 20  # --thorough writes some MB a runtime
_MOST_RUNS = 2000  # stages x runtimes x thread counts: far more than any machine has
_MOST_THREADS = 4096


def save_stages(result: StagesResult, folder: Path) -> Path:
    """Write ``result`` into ``folder``, which is made; never over another file.

    Raises:
        BundleError: it cannot be written.
    """
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
    path = folder / f"{result.model}-{stamp}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(schema.dumps(schema.encode(result)))
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def read_stages(path: Path) -> StagesResult:
    """What ``save_stages`` wrote.

    Raises:
        InputError: missing, too large, not UTF-8, or with the JSON path of what is wrong.
    """
    text = result_text(path, MAX_STAGES_BYTES)
    try:
        document = schema.loads(text)
        kind = document.get("kind") if isinstance(document, dict) else None
        if kind != STAGES_KIND:
            raise SchemaError("kind", f"expected {STAGES_KIND!r}: this file is something else")
        result = schema.decode(StagesResult, document)
        for where, problem in _wrong(result):
            raise SchemaError(where, problem)
    except SchemaError as error:
        raise InputError(f"{path.name}: not a usable result by stage: {error}") from None
    return result


def _wrong(result: StagesResult) -> Iterator[tuple[str, str]]:
    """What fits the schema and is no measurement: (JSON path, what is wrong)."""
    if len(result.runs) > _MOST_RUNS:
        yield "runs", f"has {len(result.runs)} rows, and no result has more than {_MOST_RUNS}"
    seen: set[tuple[str, str, int]] = set()
    for number, run in enumerate(result.runs):
        yield from ((f"runs[{number}].{name}", problem) for name, problem in _wrong_run(run))
        key = run.stage, run.runtime, run.threads
        if key in seen:
            yield f"runs[{number}]", "the same stage, runtime and number of threads as before"
        seen.add(key)
    if min(result.params, result.macs, *result.tokens.values()) < 0:
        yield "the document", "params, macs and tokens are counts, and one is below 0"


def _wrong_run(run: StageRun) -> Iterator[tuple[str, str]]:
    if not 1 <= run.threads <= _MOST_THREADS:
        yield "threads", f"expected 1 to {_MOST_THREADS}, got {run.threads}"
    times = {
        **{name: getattr(run, name) for name in ("p10_ms", "p50_ms", "p90_ms")},
        "samples_ms": min((ms for process in run.samples_ms for ms in process), default=0.0),
    }
    yield from ((name, "a time is below 0") for name, least in times.items() if least < 0)
    if not run.p10_ms <= run.p50_ms <= run.p90_ms:
        yield "p50_ms", "p10, p50 and p90 do not rise"
    if run.spread is not None and run.spread < 0:
        yield "spread", f"expected 0 or more, got {run.spread}"
    if (run.verdict == "stable") == bool(run.reasons):
        yield "reasons", f"of a row that is {run.verdict}: {len(run.reasons)}"
    if run.verdict not in VERDICTS:
        yield "verdict", f"expected one of {', '.join(VERDICTS)}"
