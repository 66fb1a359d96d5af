"""Exact rewrites of the ONNX graph between the tracer and the lowerings."""

from __future__ import annotations

from edgekit.export.passes.clean import (
    DeduplicateInitializers,
    DropExpand,
    DropIdentities,
    FoldConstants,
    StripMetadata,
)
from edgekit.export.passes.infra import GraphPass, PassResult, run_passes
from edgekit.targets import GraphChoices

__all__ = ["CANONICAL", "GraphPass", "PassResult", "choice_passes", "run_passes"]

# The canonical graph, for every runtime. The order matters where a line says so.
CANONICAL: tuple[GraphPass, ...] = (
    StripMetadata(),
    FoldConstants(),  # first: the others only recognise constants that are initializers
    DropIdentities(),
    DropExpand(),
    DeduplicateInitializers(),  # last: the others make new constants
)


def choice_passes(choices: GraphChoices) -> tuple[GraphPass, ...]:
    """The passes that give a canonical graph the form ``choices`` asks for."""
    return ()
