"""Exact rewrites of the ONNX graph between the tracer and the lowerings."""

from __future__ import annotations

from edgekit.export.passes.activations import (
    ClampsIntoWeights,
    HardSigmoids,
    HardSwishes,
    NormaliseClip,
)
from edgekit.export.passes.affine import BatchNormToAffine, FoldIntoConsumer, FoldIntoProducer
from edgekit.export.passes.clean import (
    DeduplicateInitializers,
    DropExpand,
    DropIdentities,
    DropZeroBias,
    FoldConstants,
    MergeEqualNodes,
    StripMetadata,
)
from edgekit.export.passes.coefficients import HoistOverSplit, TileOffsets
from edgekit.export.passes.gates import GlobalPool, LiftGates
from edgekit.export.passes.infra import GraphPass, PassResult, run_passes
from edgekit.export.passes.merge_groups import MergeGroups
from edgekit.export.passes.movement import ConcatToGather, SimplifyMovement, SlicesToSplit
from edgekit.export.passes.multiplier import DepthMultiplier
from edgekit.export.passes.order import ChannelOrder
from edgekit.export.passes.padding import PadIntoConv
from edgekit.export.passes.permutations import ActivateFirst, ActivateParts, PermuteWeights
from edgekit.export.passes.sums import DelayOffsets, FoldIntoSum, ResidualIntoProduct
from edgekit.export.passes.synthesis import SynthesiseKernels
from edgekit.targets import GraphChoices

__all__ = ["CANONICAL", "GraphPass", "PassResult", "choice_passes", "run_passes"]

# The canonical graph, for every runtime. The order matters where a line says so.
CANONICAL: tuple[GraphPass, ...] = (
    StripMetadata(),
    FoldConstants(),  # first: the others only recognise constants that are initializers
    DropIdentities(),
    DropExpand(),
    GlobalPool(),  # before movement: it leaves a Reshape
    SimplifyMovement(),
    DeduplicateInitializers(),  # before merging: equal nodes read equal constants
    MergeEqualNodes(),
    ConcatToGather(),
    SlicesToSplit(),  # after ConcatToGather: a rolled tensor is a permutation, not two parts
    PadIntoConv(),
    LiftGates(),  # after movement: it looks for plain Reshapes around the linear layers
    SimplifyMovement(),  # the reshapes around a lifted gate are gone, chains may have met
    NormaliseClip(),
    HardSigmoids(),  # before folding: it looks for the 3 and the 6
    HardSwishes(),
    BatchNormToAffine(),
    ActivateFirst(),  # before folding: brings scales and clips next to their convolution
    SimplifyMovement(),  # permutations that were apart may be neighbours now
    FoldIntoSum(),  # also what the next would fold; that one says why it does not
    DelayOffsets(),  # before the residual, which an offset in between hides
    ResidualIntoProduct(),
    FoldIntoProducer(),
    FoldIntoConsumer(),  # after delaying, which brings offsets to it
    HoistOverSplit(),
    ClampsIntoWeights(),
    PermuteWeights(),
    DropZeroBias(),  # after folding, which gives every layer a bias
    DropIdentities(),  # folding can leave x * 1 and x + 0
    DeduplicateInitializers(),  # last: the others make new constants
)


def choice_passes(choices: GraphChoices) -> tuple[GraphPass, ...]:
    """The passes that give a canonical graph the form ``choices`` asks for, in order."""
    passes: list[GraphPass] = []
    if choices.synthesise_above:
        passes.append(SynthesiseKernels(choices.synthesise_above))
    if choices.depth_multiplier:
        passes += [
            DepthMultiplier(choices.costs),
            ActivateFirst(),  # it leaves Gathers and Concats between convolutions and clamps
            ActivateParts(),
        ]
    if choices.channel_order:  # after DepthMultiplier: it absorbs the Gathers
        passes.append(ChannelOrder(choices.costs))
    if choices.merge_groups:  # after the order, which only counts on them
        passes.append(MergeGroups(choices.costs))
    if choices.tile_below:  # after the order: a tiled constant would be reordered as a whole
        passes.append(TileOffsets(choices.tile_below))
    if passes:
        passes.append(DeduplicateInitializers())
    return tuple(passes)
