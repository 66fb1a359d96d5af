"""What each MiniVLM is made of. Facts only, so that a board can list them.

    minivlm        TEE-0 (EfficientNet-B0, BiFPN 64 x 3) and a transformer of 12 layers of 384
    minivlm-tee1   the same with TEE-1 (EfficientNet-B1, BiFPN 88 x 4)
    minivlm-tiny   a scaled-down one, of edgekit's own: it trains in minutes on two cores

The sizes come from the first author's public toolbox, which never names MiniVLM, and their link
to the paper is inferred; the paper itself could not be read. What was not found anywhere has a
default that the field of the dataclass names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgekit.errors import UnknownNameError
from edgekit.models.variant import Published

STRIDES = (4, 8, 16, 32, 64)  # of the maps P2 to P6
POOLED_LEVELS = 4  # regions are read from P2 to P5
RATIOS = (0.5, 1.0, 2.0)  # height / width of the anchors
BOX_NUMBERS = 6  # x1 / W, y1 / H, x2 / W, y2 / H, w / W, h / H


@dataclass(frozen=True)
class TeeSpec:
    """One two-stage feature extractor.

    Attributes:
        trunk: key of ``edgekit.models.minivlm.tee.TRUNKS``.
        width: channels of the BiFPN.
        cells: of the BiFPN.
        feature: width of the two layers on a region, and so of its feature.
        classes: of the score layer, with the background, which is class 0. Which number the paper
            used was not found: 1601 is that of the features that OSCAR was trained on.
        attributes: of objects; 0 for no attribute head. The counts of the paper are without one.
        attribute_classes: rows of the class embedding in the attribute head.
        anchors: side of the anchors on P2 to P6, in pixels.
        proposals: regions that the second stage looks at.
        candidates: anchors of each map that compete for them.
        proposal_iou: proposals that overlap a better one by more are dropped.
        pooled: cells a side that RoIAlign reads from a region.
        samples: points a side in each of these cells.
        regions: that the transformer sees.
        region_iou: as ``proposal_iou``, for them.
    """

    trunk: str
    width: int
    cells: int
    feature: int = 1024
    classes: int = 1601
    attributes: int = 0
    attribute_classes: int = 0
    anchors: tuple[int, int, int, int, int] = (32, 64, 128, 256, 512)
    proposals: int = 300
    candidates: int = 1000
    proposal_iou: float = 0.7
    pooled: int = 4
    samples: int = 2
    regions: int = 50
    region_iou: float = 0.5

    @property
    def visual(self) -> int:
        """Numbers that describe one region to the transformer."""
        return self.feature + BOX_NUMBERS


@dataclass(frozen=True)
class FusionSpec:
    """One transformer over text and regions, of BERT's shape.

    Attributes:
        layers: of the encoder.
        width: of the hidden states.
        heads: of the attention.
        inner: width of the feed-forward layers.
        vocabulary: tokens.
        positions: longest text.
        visual: numbers that describe a region.
        image_norm: whether the projected regions are normalised; OSCAR's are not.
        initial: deviation that weights are drawn with: BERT's. A narrow network that begins with
            it hardly reacts to its inputs, and learns for long before it looks at the regions.
    """

    layers: int = 12
    width: int = 384
    heads: int = 12
    inner: int = 1536
    vocabulary: int = 30522
    positions: int = 512
    visual: int = 1030
    image_norm: bool = True
    initial: float = 0.02


@dataclass(frozen=True)
class Lengths:
    """Sizes of the graphs that are exported; a graph has static shapes.

    Attributes:
        height: of the image, in pixels, a multiple of 64.
        width: of it. The toolbox caps both sides at 512, so a photo of 4:3 has 384 x 512.
        short: text tokens, with [CLS] and [SEP], of the shorter fusion graph.
        long: of the longer one.
        caption: tokens of a caption, with [CLS] and [SEP].
        tags: tokens of the tags of a captioned image, with [SEP].
    """

    height: int = 384
    width: int = 512
    short: int = 35
    long: int = 128
    caption: int = 20
    tags: int = 30


@dataclass(frozen=True)
class Counts:
    """What a row costs, proven by the tests against the built network.

    Attributes:
        tee: parameters of the extractor.
        fusion: of the transformer, without further heads.
        tee_macs: of one image at the row's canvas, with all proposals.
        question_macs: of the transformer, for the shorter text and all regions.
    """

    tee: int
    fusion: int
    tee_macs: int
    question_macs: int

    @property
    def params(self) -> int:
        """Of both."""
        return self.tee + self.fusion


@dataclass(frozen=True)
class MiniVlmSpec:
    """One row: both parts, the sizes of its graphs, and what is known of it."""

    id: str
    title: str
    tee: TeeSpec
    fusion: FusionSpec
    counts: Counts
    lengths: Lengths = Lengths()
    published: tuple[Published, ...] = ()
    notes: tuple[str, ...] = ()


TEE0 = TeeSpec("b0", 64, 3)
TEE1 = TeeSpec("b1", 88, 4)
TEE_TINY = TeeSpec(
    "tiny", 32, 2, feature=128, classes=13, anchors=(16, 24, 32, 48, 64), proposals=32,
    candidates=200, regions=10,
)  # fmt: skip

OSCAR_BASE = FusionSpec(width=768, inner=3072, visual=2054, image_norm=False)

_TABLE = "EfficientVLM's repository, main_results.png (its Table 3); ViTCAP, Table 1"
_PUBLISHED = (
    Published("COCO captions, cross-entropy: BLEU-4 / METEOR / CIDEr / SPICE",
              "35.6 / 28.6 / 119.8 / 21.6", _TABLE),
    Published("COCO captions, CIDEr-optimised: BLEU-4 / METEOR / CIDEr / SPICE",
              "39.2 / 29.7 / 131.7 / 23.5", _TABLE),
    Published("VQAv2 test-dev / test-std", "69.1 / 69.4", _TABLE),
    Published("NLVR2 dev / test-P", "73.71 / 73.93", _TABLE),
    Published("COCO 5k text retrieval R@1 / 5 / 10", "58.8 / 85.1 / 91.7", _TABLE),
    Published("COCO 5k image retrieval R@1 / 5 / 10", "45.0 / 74.1 / 84.0", _TABLE),
    Published("size against OSCAR-base", "-73 %", "abstract, arXiv 2012.06946v2"),
    Published("time against OSCAR-base", "-94 %; its features -95 %",
              "abstract, arXiv 2012.06946v2"),
)  # fmt: skip
_NOTES = (
    "The authors released neither code nor weights; the figures above are of their weights.",
    "-73 % is reached when the decoder of the word predictions is counted apart from the word "
    "embeddings that it shares: 53.2 M against OSCAR-base with ResNet-101 features, 198.8 M "
    "(-73.3 %). Counted once it is 41.4 M against 175.3 M (-76.4 %).",
    "What the -94 % was timed on was not found. MACs are 4.79 G against 331.7 G (-98.6 %), with "
    "the ResNet-101 extractor at 600 x 800 and questions of 35 tokens.",
)

_MINIVLM = MiniVlmSpec(
    "minivlm", "MiniVLM with TEE-0 (2020)", TEE0, FusionSpec(),
    Counts(7_504_205, 33_936_572, 2_900_890_112, 1_891_370_496), published=_PUBLISHED, notes=_NOTES,
)  # fmt: skip
VLMS: Mapping[str, MiniVlmSpec] = {
    row.id: row
    for row in (
        _MINIVLM,
        replace(_MINIVLM, id="minivlm-tee1", title="MiniVLM with TEE-1 (2020)", tee=TEE1,
                counts=Counts(10_584_284, 33_936_572, 4_172_874_112, 1_891_370_496),
                published=(), notes=_NOTES[:1]),
        MiniVlmSpec(
            "minivlm-tiny", "scaled down, for drawn scenes", TEE_TINY,
            FusionSpec(4, 96, 4, 384, 64, 64, TEE_TINY.visual, initial=0.08),
            Counts(230_656, 492_258, 19_062_912, 12_158_592),
            Lengths(128, 128, 16, 32, 22, 10),
            notes=("Of edgekit's own, for tests and trials: nobody published it.",),
        ),
    )
}  # fmt: skip


def get_vlm(model_id: str) -> MiniVlmSpec:
    """The row of ``model_id``.

    Raises:
        UnknownNameError: no such row.
    """
    if model_id not in VLMS:
        raise UnknownNameError("vision-language model", model_id, VLMS)
    return VLMS[model_id]
