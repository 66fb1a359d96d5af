"""What a user's ONNX file computes, by onnxruntime with every optimisation off.

Not through ``edgekit.runtimes``: a reference must share nothing with what it judges.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import GraphError
from edgekit.export.parity import Function
from edgekit.optional import require


def onnx_function(model: bytes) -> Function:
    """The function of a serialised ONNX model.

    Raises:
        GraphError: onnxruntime refuses the model, or the function does when it is called;
            its own reason is kept.
        MissingDependencyError: onnxruntime is not installed.
    """
    ort = require("onnxruntime", "checking a bundle against an ONNX file")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # fatal only: a refusal is raised, not printed
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise GraphError(f"onnxruntime refuses the model: {_first_line(error)}") from error
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        try:
            outputs = session.run(names, dict(inputs))
        except Exception as error:  # an index beyond its table, for one
            raise GraphError(f"onnxruntime cannot run the model: {_first_line(error)}") from error
        return dict(zip(names, outputs, strict=True))

    return run


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
