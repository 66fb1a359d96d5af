"""Parse and build an ONNX file in a child process: a check that cannot take edgekit down.

TensorRT is native code that reads the whole file, and a crash or a hang of it must cost one
line, not the export. The child is ``python -m edgekit.runtimes.trt_probe``; it answers with one
line of JSON on stdout, and what native code prints goes to stderr and is dropped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from edgekit.errors import (
    DeviceError,
    EdgekitError,
    GraphError,
    MissingDependencyError,
    UnsupportedOperatorError,
)
from edgekit.optional import is_installed, pip_line
from edgekit.runtimes.trt_build import BuildOptions, build_plan, count_layers
from edgekit.runtimes.trt_vendor import MODULES, title, vendor

# Orin is SM87, which tensorrt-rtx does not build for; SM86 is the nearest: the same generation.
ARCHITECTURE = "SM86"
_WORKSPACE_MIB = 512
_COMMAND = ("-m", "edgekit.runtimes.trt_probe")


@dataclass(frozen=True)
class Outcome:
    """What the child found.

    Attributes:
        parser: package and version that parsed; "" when nothing could.
        layers: of the parsed network.
        architecture: what the plan was built for; "" when it was only parsed.
        unavailable: why nothing was parsed, and what to do.
    """

    parser: str = ""
    layers: int = 0
    architecture: str = ""
    unavailable: str = ""


def probe(onnx_bytes: bytes, *, build: bool, timeout: float) -> Outcome:
    """Parse, and ``build`` or not, in a child process.

    Args:
        onnx_bytes: a single-file ONNX model.
        build: also build a plan.
        timeout: of the child, in seconds.

    Raises:
        UnsupportedOperatorError: the parser refuses a node.
        GraphError: TensorRT refuses the graph, crashes on it, or takes too long.
    """
    if not any(map(is_installed, MODULES)):
        return Outcome(unavailable=f"tensorrt-rtx is not installed ({pip_line('tensorrt')})")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(onnx_bytes)
        answer = _ask_child([str(path), *(["--build"] if build else [])], folder, timeout)
    return _read(answer)


def _ask_child(arguments: list[str], folder: str, timeout: float) -> str:
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        child = subprocess.run(
            [sys.executable, *_COMMAND, *arguments],
            cwd=folder,  # not the user's: "-m" would import what lies there
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise GraphError(
            f"TensorRT did not finish with this graph within {timeout:g} s; "
            "--skip tensorrt leaves it out"
        ) from error
    if child.returncode != 0:
        raise GraphError(
            f"TensorRT broke down on this graph (exit {child.returncode}): "
            f"{_last_line(child.stderr)}; --skip tensorrt leaves it out"
        )
    return child.stdout.decode("utf-8", "replace").strip().rpartition("\n")[2]


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


def _read(answer: str) -> Outcome:
    """The child's answer: an outcome, or the refusal it ran into."""
    found = json.loads(answer)
    refused = found.pop("refused", None)
    if refused is None:
        return Outcome(**found)
    if "node" in refused:
        raise UnsupportedOperatorError(
            "tensorrt", refused["op_type"], refused["node"], refused["why"]
        )
    raise GraphError(refused["why"])


# ---------------------------------------------------------------------------
# In the child
# ---------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Answer for the file ``arguments[0]`` on stdout."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # native code prints to descriptor 1; only the answer may go there
    answer = _answer(Path(arguments[0]).read_bytes(), build="--build" in arguments)
    os.write(stdout, f"{json.dumps(answer)}\n".encode())
    return 0


def _answer(onnx_bytes: bytes, *, build: bool) -> dict[str, object]:
    try:
        return asdict(_check(onnx_bytes, build=build))
    except UnsupportedOperatorError as error:
        return {"refused": {"node": error.node, "op_type": error.op_type, "why": error.why}}
    except (MissingDependencyError, DeviceError) as error:
        return asdict(Outcome(unavailable=str(error)))
    except EdgekitError as error:
        return {"refused": {"why": str(error)}}


def _check(onnx_bytes: bytes, *, build: bool) -> Outcome:
    trt = vendor()
    options = BuildOptions(workspace_mib=_WORKSPACE_MIB)
    if not build:
        return Outcome(title(trt), count_layers(onnx_bytes, options))
    # Real TensorRT builds for the GPU it has; only tensorrt-rtx builds for one that is absent.
    architecture = ARCHITECTURE if hasattr(trt, "ComputeCapability") else ""
    built = build_plan(onnx_bytes, options, architecture=architecture)
    return Outcome(title(trt), built.layers, architecture or "this machine's GPU")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
