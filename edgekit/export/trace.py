"""A ``torch.nn.Module`` becomes an ONNX graph with static shapes.

The exporter is ``torch.onnx.export(dynamo=True)``. Two of its habits are not taken on trust:
it ignores an opset it does not like without a word, so the opset is read back; and it writes
stack traces and paths of this machine into every node, so they are taken out again. Scope
names stay: errors and reports use them to say where in the user's model a node comes from.

Of the exporter's own optimisation only the folding of its constants is used. Its search for
patterns took half the time of an export, and rewriting graphs is what our passes are for, which
record what they did.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr

import onnx_ir as ir
import onnx_ir.passes.common as ir_passes
import onnxscript.optimizer
import torch
from torch import nn

from edgekit.errors import GraphError

SCOPE_KEY = "pkg.torch.onnx.name_scopes"
_KEPT_METADATA = frozenset({SCOPE_KEY})


def trace(
    module: nn.Module,
    example_inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    *,
    opset: int,
) -> ir.Model:
    """Trace ``module`` in eval mode on ``example_inputs``; their shapes become the graph's.

    Raises:
        GraphError: the module cannot be traced, or the exporter wrote another opset.
    """
    try:
        with eval_mode(module), _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(example_inputs),
                dynamo=True,
                opset_version=opset,
                input_names=list(input_names),
                output_names=list(output_names),
                external_data=False,
                verbose=False,
                optimize=False,
            )
            if program is not None:
                _fold_constants(program.model)
    except Exception as error:
        # The exporter raises a dozen unrelated types; the root cause has the useful sentence.
        raise GraphError(f"the model cannot be traced to ONNX: {_root_cause(error)}") from error
    if program is None:
        raise GraphError("the model cannot be traced to ONNX: the exporter returned nothing")
    model = program.model
    _check_opset(model, opset)
    # An input that is returned as it came has taken the output's name.
    for value, name in zip(model.graph.inputs, input_names, strict=False):
        value.name = name
    strip_metadata(model)
    return model


def _fold_constants(model: ir.Model) -> None:
    """What the tracer computes in the graph, shapes and types mostly, becomes initializers."""
    ir_passes.InlinePass()(model)
    for _ in range(_FOLDINGS):
        onnxscript.optimizer.fold_constants(model, onnx_shape_inference=True)
    for each in _TIDYING:
        each(model)


_FOLDINGS = 2  # the second finds what the first made constant; the exporter's own number
_TIDYING = (
    ir_passes.RemoveUnusedNodesPass(),
    ir_passes.RemoveUnusedOpsetsPass(),
    ir_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    ir_passes.DeduplicateInitializersPass(),
    ir_passes.CommonSubexpressionEliminationPass(),
    ir_passes.OutputFixPass(),
    ir_passes.NameFixPass(),
)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """``module`` in eval mode; afterwards each part is in its own mode again, frozen ones too."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def strip_metadata(model: ir.Model) -> None:
    """Take stack traces, paths and dumps of the tracer's graph out of ``model``, in place."""
    model.doc_string = None
    model.graph.doc_string = None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.doc_string = None
        _keep_only_scopes(node)
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _keep_only_scopes(node: ir.Node) -> None:
    for key in set(node.metadata_props) - _KEPT_METADATA:
        del node.metadata_props[key]


def _check_opset(model: ir.Model, asked: int) -> None:
    written = model.opset_imports.get("")
    if written != asked:
        raise GraphError(f"asked the exporter for opset {asked} and it wrote opset {written}")


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    first_line = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: it logs absent packages, and on failure whole graphs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
