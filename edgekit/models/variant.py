"""A row of the zoo: what a network is, costs and is known for. Facts only, no torch.

Counts are of the model as defined, for one image of the row's size, and are proven by the tests
against the built network:

    macs                    convolution, linear and matmul, as ``torch.utils.flop_counter`` / 2
    elementwise_multiplies  products of dynamic coefficients (shift-max, SE, DCD) and feature maps
    madds                   their sum: what MicroNet's authors publish as MAdds
"""

from __future__ import annotations

from dataclasses import dataclass

MiB = 1 << 20

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Published:
    """A figure that somebody published, e.g. ("top-1", "51.4 %", "README of ...")."""

    metric: str
    value: str
    source: str


@dataclass(frozen=True)
class Weights:
    """A released checkpoint.

    Attributes:
        url: where the authors put it, or "" where no address can be fetched from.
        sha256: what it must hash to, or None where nobody published that.
        bytes_cap: a download is given up beyond this many bytes; 0 without ``url``.
        licence: of the weights, as far as the authors say.
        source: who released it, and which version of it.
        sha256_prefix: the first hexadecimal digits of the hash, where only those are published.
        where: without ``url``: in words, where a user gets the file and what it is called.
    """

    url: str
    sha256: str | None
    bytes_cap: int
    licence: str
    source: str
    sha256_prefix: str = ""
    where: str = ""


@dataclass(frozen=True)
class Variant:
    """One network of the zoo.

    Attributes:
        id: what the user types.
        family: key that groups rows.
        task: ``"classification"`` or ``"embedding"``.
        title: one line for a table.
        build: ``"module:function"`` of the builder.
        config: the builder's name for this row.
        num_classes: outputs as published: classes, or the width of the embedding.
        image_size: height and width of the input as published, in pixels.
        params: parameters, buffers not counted.
        macs: see the module.
        elementwise_multiplies: see the module.
        labels: name of the list of class names in ``edgekit/models/data``, or "" for no classes.
        published: figures of others, each with its source.
        weights: the released checkpoint, or None where there is none.
        approximate: what about the network is guessed, or "".
        flavour: whose definition it is where networks of one name differ, or "".
        notes: what a user should know.
        mean: per RGB channel on 0..1, subtracted from the image.
        std: per RGB channel on 0..1, divides it.
        crop_fraction: centre crop / shorter side after resizing.
        interpolation: of the resize, as Pillow names it.
        head: kind of the last layers as published, see `edgekit.models.heads`.
        heads: kinds of head the builder can make.
    """

    id: str
    family: str
    task: str
    title: str
    build: str
    config: str
    num_classes: int
    image_size: int
    params: int
    macs: int
    elementwise_multiplies: int
    labels: str
    published: tuple[Published, ...] = ()
    weights: Weights | None = None
    approximate: str = ""
    flavour: str = ""
    notes: tuple[str, ...] = ()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    crop_fraction: float = 0.875
    interpolation: str = "bilinear"
    head: str = "linear"
    heads: tuple[str, ...] = ("linear",)

    @property
    def madds(self) -> int:
        """MACs and element-wise multiplies, as MicroNet's authors count."""
        return self.macs + self.elementwise_multiplies

    @property
    def flops(self) -> int:
        """Two per MAC, one per element-wise multiply."""
        return 2 * self.macs + self.elementwise_multiplies
