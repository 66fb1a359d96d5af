"""``edgekit profile`` beside the tools of OpenVINO and LiteRT, on the very same files.

    python benchmarks/vs_peers.py [BUNDLE...] [--pairs 7] [--seconds 5] [--cpu 1 | --cpu none]

Without bundles, of MicroNet-M0 and M1. For each artifact that a vendor's tool opens: pairs of
processes, the tool and we taking turns to go first, one thread, engine scope, both pinned to the
same CPU (``none``: each as it is typed; ``edgekit profile`` pins itself, and so does OpenVINO in
its tool). The ratio is ours / theirs of each pair; of seven pairs the smallest and the largest
are a 98 % interval of its median. p10 stands beside p50 because others on the machine move it
less.

    OpenVINO  benchmark_app -api sync -hint none -nstreams 1 -nthreads 1 -infer_precision f32
              by default it gives the network an input of 8-bit integers and a conversion that
              our file does not have; with -ip f32 it runs the file as it is. Both are shown.
    LiteRT    litert-benchmark --num_threads 1, which runs a CompiledModel, not an Interpreter

Both tools round what they print to 10 us, 2 % of a small network: they are run here as they are,
with one line around them that writes down their samples.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_OPENVINO = """
import sys
from openvino.tools.benchmark import benchmark, main
plain, out = benchmark.Benchmark.sync_inference, sys.argv.pop()
def kept(*arguments):
    found = plain(*arguments)
    open(out, "w").write(" ".join(map(str, found[0])))
    return found
benchmark.Benchmark.sync_inference = kept
main.main()
"""
_LITERT = """
import sys
from ai_edge_litert.tools import benchmark_litert_model as tool
plain, out = tool.percentile, sys.argv.pop()
def kept(samples, part):
    open(out, "w").write(" ".join(map(str, samples)))
    return plain(samples, part)
tool.percentile = kept
tool.main()
"""
_SYNC = "-api sync -hint none -nstreams 1 -nthreads 1 -infer_precision f32 -t {seconds:.0f} -m"
_RUNS = "--num_threads 1 --num_runs {runs} --warmup_runs {warm_up} --model"


@dataclass(frozen=True)
class Peer:
    """A vendor's tool: the code that runs it, and its arguments before the file."""

    name: str
    runtime: str
    suffix: str
    code: str
    arguments: str
    after: str = ""


PEERS = (
    Peer("benchmark_app", "openvino", ".xml", _OPENVINO, _SYNC),
    Peer("benchmark_app -ip f32", "openvino", ".xml", _OPENVINO, _SYNC, "-ip f32"),
    Peer("litert-benchmark", "litert", ".tflite", _LITERT, _RUNS),
)


def main() -> None:
    """Print one row a peer and bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--cpu", default=str(max(os.sched_getaffinity(0))))
    parser.add_argument("--runtime", choices=sorted({peer.runtime for peer in PEERS}))
    arguments = parser.parse_args()
    print("| bundle | tool | its p50 ms | our p50 ms | ratio of p50 | of p10 | our verdicts |")
    print("|-|-|-|-|-|-|-|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for bundle in arguments.bundles or _export(Path(folder)):
            for peer in PEERS:
                files = sorted(bundle.glob(f"*{peer.suffix}"))
                if files and arguments.runtime in (None, peer.runtime):
                    print(_row(bundle, files[0], peer, arguments), flush=True)


def _export(folder: Path) -> list[Path]:
    bundles = []
    for model in ("micronet-m0", "micronet-m1"):
        for target in ("x86", "arm"):
            bundles.append(folder / f"{model}-{target}")
            words = ["export", model, "--target", target, "--weights", "random", "--output"]
            _run([sys.executable, "-m", "edgekit", *words, str(bundles[-1])], "none")
    return bundles


def _row(bundle: Path, file: Path, peer: Peer, arguments: argparse.Namespace) -> str:
    theirs, ours, verdicts = [], [], []
    runs = _runs(file, peer, arguments) if peer.runtime == "litert" else 0
    for pair in range(arguments.pairs):
        for mine in (True, False) if pair % 2 else (False, True):
            if mine:
                samples, verdict = _ours(bundle, peer.runtime, arguments.cpu)
                ours.append(samples)
                verdicts.append(verdict)
            else:
                theirs.append(_theirs(file, peer, arguments, runs))
    ratios = [_ratio(ours, theirs, part) for part in (0.5, 0.1)]
    p50 = [statistics.median(_quantile(s, 0.5) for s in side) for side in (theirs, ours)]
    said = ", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(verdicts))
    return (
        f"| {bundle.name} | {peer.name} | {p50[0]:.3f} | {p50[1]:.3f} "
        f"| {ratios[0]} | {ratios[1]} | {said} |"
    )


def _ratio(ours: Sequence[list[float]], theirs: Sequence[list[float]], part: float) -> str:
    pairs = [_quantile(a, part) / _quantile(b, part) for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(pairs):.3f} ({min(pairs):.3f} to {max(pairs):.3f})"


def _quantile(samples: Sequence[float], part: float) -> float:
    return sorted(samples)[int(len(samples) * part)]


def _ours(bundle: Path, runtime: str, cpu: str) -> tuple[list[float], str]:
    """Milliseconds of one quick profile, and its verdict."""
    words = ["profile", str(bundle), "--runtime", runtime, "--threads", "1", "--scope", "engine"]
    words += ["--quick", "--json", "--quiet", "--allow-noisy"]
    words += [] if cpu == "none" else ["--cpus", cpu]
    done = _run([sys.executable, "-m", "edgekit", *words], "none")
    run = json.loads(done)["runs"][0]
    return [ns / 1e6 for process in run["processes"] for ns in process["samples_ns"]], run[
        "verdict"
    ]


def _theirs(
    file: Path, peer: Peer, arguments: argparse.Namespace, runs: int, cpu: str = ""
) -> list[float]:
    """Milliseconds of one run of the tool."""
    words = peer.arguments.format(seconds=arguments.seconds, runs=runs, warm_up=runs // 5).split()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "samples"
        tail = [str(file.resolve()), *peer.after.split(), str(out)]
        _run([sys.executable, "-c", peer.code, *words, *tail], cpu or arguments.cpu)
        return [float(text) for text in out.read_text().split()]


def _runs(file: Path, peer: Peer, arguments: argparse.Namespace) -> int:
    """How many inferences take about as long as we measure: the tool counts runs only."""
    samples = _theirs(file, peer, arguments, 50)
    return max(50, int(arguments.seconds * 1e3 / statistics.median(samples)))


def _run(words: list[str], cpu: str) -> str:
    pin = None if cpu == "none" else lambda: os.sched_setaffinity(0, {int(cpu)})
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=pin)
    if done.returncode:
        sys.exit(f"{' '.join(words[:6])} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


if __name__ == "__main__":
    main()
