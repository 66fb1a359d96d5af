"""Open what a job names, in the steps that a cold start is made of."""

from __future__ import annotations

import importlib
from pathlib import Path

from edgekit import optional
from edgekit.bundle import open_bundle
from edgekit.profiling.clock import Clock
from edgekit.profiling.job import Job
from edgekit.runtimes import provider, require_runtime
from edgekit.runtimes.model import Model, open_artifact
from edgekit.runtimes.session import Array


def import_runtime(job: Job) -> None:
    """Import the runtime's package, and our module for it.

    Raises:
        MissingDependencyError: not installed.
    """
    row = require_runtime(job.runtime)
    importlib.import_module(row.session.partition(":")[0])
    package = provider(row)
    if package:
        optional.require(package, f"runtime {row.name!r}")


def open_model(job: Job) -> Model:
    """The bundle with the runtime, threads and options of the job, as ``edgekit.load`` opens it.

    Raises:
        BundleError: missing, damaged, or refused by the runtime.
        UsageError: no artifact for the runtime, or an unknown option.
    """
    bundle = open_bundle(Path(job.bundle))
    try:
        session = open_artifact(bundle, job.runtime, job.threads, job.options)
        return Model(session, bundle, Path(job.bundle))
    except BaseException:
        bundle.close()
        raise


def golden_inputs(model: Model) -> dict[str, Array]:
    """The bundle's golden input: real values, so that nothing computes on denormals."""
    if model.bundle is None:
        raise ValueError("a profile is made of a bundle, which has a golden input")
    return dict(model.bundle.golden().inputs)


def first_inference(model: Model, clock: Clock) -> float:
    """Milliseconds of the first ``run``, of whatever a runtime leaves until then."""
    inputs = golden_inputs(model)
    start = clock.now_ns()
    model.run(inputs)
    return (clock.now_ns() - start) / 1e6
