"""Measure a bundle from Python and read the result: python examples/measure.py BUNDLE [RUNTIME]."""

import sys

import edgekit

bundle, *runtimes = sys.argv[1:]
result = edgekit.profile_bundle(bundle, runtimes=tuple(runtimes), preset="quick")

for run in result.runs:
    low, high = run.p50_interval_ms
    print(f"{run.runtime}: p50 {run.p50_ms:.3f} ms ({low:.3f} to {high:.3f}), {run.verdict}")
    for reason in run.reasons:
        print(f"  {reason}")
