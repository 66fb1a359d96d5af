"""What every image network of the zoo has in common: how wide a layer is, which sizes are possible.

The strides of each of them multiply to 32.
"""

from __future__ import annotations

from edgekit.errors import UsageError

MIN_IMAGE_SIZE = 32  # the strides multiply to 32: below this the last map holds only padding
MAX_IMAGE_SIZE = 4096  # the maps of a larger one are gigabytes
MAX_CLASSES = 1_000_000


def check_sizes(network: str, num_classes: int, image_size: int) -> None:
    """Refuse what no network can be built for.

    Args:
        network: its name in prose, for the message.
        num_classes: outputs of the classifier.
        image_size: height and width of the input in pixels.

    Raises:
        UsageError: no classes or millions, or an image that the strides would shrink to nothing
            or that no board holds.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise UsageError(
            f"num_classes is {num_classes}; a classifier has 1 to {MAX_CLASSES:,} classes."
        )
    if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        raise UsageError(
            f"image_size is {image_size} pixels; {network} divides it by 32, so {MIN_IMAGE_SIZE} "
            f"to {MAX_IMAGE_SIZE} are possible."
        )


def divisible_width(width: float, divisor: int = 8) -> int:
    """``width`` to the nearest multiple of ``divisor``: at least that, never 10 % below ``width``.

    The rule of the MobileNets' authors, for widths that a multiplier has scaled.
    """
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded
