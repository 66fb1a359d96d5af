"""What imports cost, each in a fresh Python, interleaved.

    python benchmarks/import_time.py [--rounds 15]

``import edgekit`` may cost 50 ms at the median; a bare Python is measured beside it, and so is
what a board pays for loading a bundle. Wall time inside the process, files in the page cache.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

BUDGET_MS = 50.0
STATEMENTS = {
    "pass": "",
    "import edgekit": "numpy torch",
    "import edgekit.cli": "numpy torch",
    "import edgekit; edgekit.open_bundle": "numpy torch",
    "import numpy": "torch",
    "import edgekit; edgekit.load": "torch onnx onnxruntime openvino ai_edge_litert",
}

# Prints milliseconds and the modules that must not be there.
PROGRAM = """
import sys, time
start = time.perf_counter()
{statement}
took = time.perf_counter() - start
print(took * 1000, *set({banned!r}.split()) & set(sys.modules))
"""


def main() -> int:
    """Print one row a statement; exit 1 over budget or when something banned was imported."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    found: dict[str, set[str]] = {statement: set() for statement in STATEMENTS}
    for _ in range(rounds + 1):  # the first round fills the page cache
        for statement, banned in STATEMENTS.items():
            milliseconds, *modules = _run(statement, banned)
            times[statement].append(float(milliseconds))
            found[statement] |= set(modules)
    numpy = statistics.median(times["import numpy"][1:])
    print(f"{'statement':<38}{'p10 ms':>9}{'median ms':>11}{'/ numpy':>9}")
    for statement, samples in times.items():
        kept = sorted(samples[1:])
        median = statistics.median(kept)
        note = f"  imports {', '.join(sorted(found[statement]))}" if found[statement] else ""
        print(
            f"{statement:<38}{kept[len(kept) // 10]:9.1f}{median:11.1f}{median / numpy:9.2f}{note}"
        )
    over = statistics.median(times["import edgekit"][1:]) > BUDGET_MS
    print(f"budget: {BUDGET_MS:g} ms at the median for import edgekit:", "OVER" if over else "kept")
    return int(over or any(found.values()))


def _run(statement: str, banned: str) -> list[str]:
    program = PROGRAM.format(statement=statement, banned=banned)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


if __name__ == "__main__":
    sys.exit(main())
