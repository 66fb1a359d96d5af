"""What is timed: three scopes of one inference, from the engine alone to the whole app.

engine     the engine's own call on tensors that are in place: what vendors' tools time
copies     Session.run: checked arrays in, new arrays out, what an app pays for the network
pipeline   bytes of an image file -> decode -> preprocess -> run -> classes
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgekit.errors import EdgekitError, InputError
from edgekit.profiling.opening import golden_inputs
from edgekit.profiling.result import COPIES, ENGINE, PIPELINE
from edgekit.runtimes.model import Model
from edgekit.runtimes.preprocess import load_image

Call = Callable[[], object]

MAX_IMAGE_BYTES = 64 << 20
DRAWN_SIZE = (640, 480)  # (width, height): a small camera's picture
_QUALITY = 90


class Scopes:
    """The calls of one opened model.

    Attributes:
        image: what the pipeline is fed, in words; "" until that scope was asked for.
        problems: scope -> why it cannot be timed.
    """

    def __init__(self, model: Model, image: str = "") -> None:
        self._model, self._file = model, image
        self.image = ""
        self.problems: dict[str, str] = {}

    def require(self, scope: str) -> Call:
        """One inference in ``scope``.

        Raises:
            EdgekitError: of the kind that says why it cannot be timed.
        """
        return _CALLS[scope](self)

    def call(self, scope: str) -> Call | None:
        """One inference in ``scope``, or None with the reason in ``problems``."""
        try:
            return self.require(scope)
        except EdgekitError as error:
            self.problems[scope] = str(error)
            return None

    def _engine(self) -> Call:
        return self._model.session.engine_call(golden_inputs(self._model))

    def _copies(self) -> Call:
        run, inputs = self._model.session.run, golden_inputs(self._model)
        return lambda: run(inputs)

    def _pipeline(self) -> Call:
        data, self.image = read_image(self._file) if self._file else draw_image()
        model = self._model
        end = model.predict if model.is_classifier else _run_on_image(model)
        end(data)  # says what is missing or broken, before anything is timed
        return lambda: end(data)


def _run_on_image(model: Model) -> Callable[[bytes], object]:
    return lambda data: model.run(model.preprocess(data))


_CALLS: dict[str, Callable[[Scopes], Call]] = {
    ENGINE: Scopes._engine,
    COPIES: Scopes._copies,
    PIPELINE: Scopes._pipeline,
}


def read_image(path: str) -> tuple[bytes, str]:
    """Bytes of an image file, and its size in words.

    Raises:
        InputError: missing, too large, or not an image.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read image {path!r}: {error.strerror or error}") from None
    if len(data) > MAX_IMAGE_BYTES:
        raise InputError(f"image {path!r} is larger than {MAX_IMAGE_BYTES >> 20} MiB")
    width, height = load_image(path).size  # by its path, which an error then names
    return data, f"{Path(path).name}, {width} x {height}, {len(data)} bytes"


def draw_image() -> tuple[bytes, str]:
    """A JPEG with gradients and seeded noise, about as hard to decode as a photograph.

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    width, height = DRAWN_SIZE
    across, down = np.linspace(0, 200, width), np.linspace(0, 200, height)[:, None]
    smooth = np.stack([across + 0 * down, down + 0 * across, (across + down) / 2], axis=-1)
    noise = np.random.default_rng(0).integers(0, 40, smooth.shape)
    picture = load_image((smooth + noise).astype(np.uint8))
    memory = io.BytesIO()
    picture.save(memory, "JPEG", quality=_QUALITY)
    data = memory.getvalue()
    return data, f"drawn JPEG, {width} x {height}, {len(data)} bytes"
