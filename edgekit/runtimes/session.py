"""The one protocol every runtime has: named arrays in, named arrays out.

    Session.run(inputs)    checks names, dtype, shape, layout in memory and NaN, then
    Session._run(arrays)   the runtime's own call; arrays come in the order of ``inputs``
    Session.engine_call    for profilers: that call alone, on inputs already in place
    Session.layer_times    for profilers: each of its kernels, in an engine opened for it

The interface is the bundle's own (``TensorSpec``: NCHW float32 for images) in every runtime. A
session whose file differs converts, and takes an NCHW *view* of NHWC memory without a copy,
which is what ``preprocess`` returns.

Threads: ``run`` may be called from several threads at once. Where the engine cannot do that,
the session serialises the calls with a lock; ``clone()`` gives each thread its own.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.bundle import TensorSpec
from edgekit.errors import BundleError, EdgekitError, InputError, UsageError

Array = npt.NDArray[Any]


class EngineCall:
    """The runtime's own call, on inputs already in place: what its vendor's tool times.

    Called, it computes once and copies nothing. It belongs to one thread.
    """

    __slots__ = ("_compute", "_read", "_runtime")

    def __init__(
        self, runtime: str, compute: Callable[[], object], read: Callable[[], dict[str, Array]]
    ) -> None:
        self._runtime, self._compute, self._read = runtime, compute, read

    def __call__(self) -> object:
        """Compute once.

        Raises:
            BundleError: the runtime failed.
        """
        try:
            return self._compute()
        except EdgekitError:
            raise
        except Exception as error:  # the vendors' exceptions share no other base class
            raise BundleError(f"{self._runtime} failed while running: {error}") from error

    def results(self) -> dict[str, Array]:
        """Copies of what the last call computed, as ``Session.run`` returns it."""
        return self._read()


@dataclass(frozen=True)
class KernelTime:
    """One kernel of an engine that times its kernels.

    Attributes:
        kernel: the engine's own name.
        kind: the engine's own type of it.
        layers: names of the file's nodes that it computes; empty where the engine added it.
        ms: a typical inference's: the mean of the middle half, or ``Session.layer_source`` says
            what. Timing slows small kernels, so the sum is more than an inference takes.
    """

    kernel: str
    kind: str
    layers: tuple[str, ...]
    ms: float


class Session(abc.ABC):
    """A model file opened by a runtime.

    Every subclass is constructed as ``Subclass(files, inputs, outputs, threads=1, options={})``,
    with ``files[0]`` the one to open. With no ``inputs`` and ``outputs`` (a bare model file), the
    interface is read from the file as it is.

    Attributes:
        runtime: key of ``edgekit.runtimes.RUNTIMES``.
        inputs: what ``run`` takes.
        outputs: what ``run`` returns.
        threads: how many threads the runtime computes with.
        layer_source: where ``layer_times`` come from, and how exact they are; "" without any.
    """

    runtime: str
    layer_source = ""

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], threads: int
    ) -> None:
        self.inputs, self.outputs, self.threads = tuple(inputs), tuple(outputs), threads
        self._closed = False
        self._expected = tuple(
            (spec.name, np.dtype(spec.dtype), spec.shape, _NON_FINITE.get(spec.dtype))
            for spec in self.inputs
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once.

        Args:
            inputs: one array per input, of exactly its dtype and shape; -1 in that is any size.

        Returns:
            One new array per output; a later ``run`` does not touch it.

        Raises:
            InputError: an input is missing, unknown, of another dtype or shape, or has NaN or Inf.
            UsageError: the session is closed.
            BundleError: the runtime failed on a model it had opened.
        """
        arrays = self._check(inputs)
        try:
            return self._run(arrays)
        except EdgekitError:  # already in our words, e.g. a GPU that failed
            raise
        except Exception as error:  # the vendors' exceptions share no other base class
            if self._closed:  # by another thread, after the check above
                raise self._gone() from error
            raise BundleError(f"{self.runtime} failed while running: {error}") from error

    def _gone(self) -> UsageError:
        return UsageError(f"this {self.runtime} session is closed: open the bundle again")

    def engine_call(self, inputs: Mapping[str, Array]) -> EngineCall:
        """Put ``inputs`` where the engine reads them; the result computes on them when called.

        Nothing but the engine is in that call: no checks, no copies, no conversion of layouts.
        It is void after the next ``run`` or ``engine_call``, and after ``close``.

        Raises:
            InputError, UsageError: as ``run`` does.
        """
        return self._engine_call(self._check(inputs))

    def _engine_call(self, arrays: list[Array]) -> EngineCall:
        """Of checked arrays. A runtime that keeps nothing in place runs as it always does."""
        kept, results = [array.copy() for array in arrays], {}
        compute = lambda: results.update(self._run(kept))  # noqa: E731
        return EngineCall(self.runtime, compute, results.copy)

    def layer_times(self, inputs: Mapping[str, Array], inferences: int) -> list[KernelTime]:
        """Time each kernel over ``inferences``, after some to warm up, in order of execution.

        Done in another engine on the same file, so that this one stays as it is.

        Raises:
            InputError, UsageError: as ``run`` does; UsageError also where the runtime gives no
                times per layer, with the reason.
        """
        return self._layer_times(self._check(inputs), max(inferences, 1))

    def _layer_times(self, arrays: list[Array], inferences: int) -> list[KernelTime]:
        raise UsageError(f"{self.runtime} gives no times per layer")

    def _check(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The arrays in the order of ``self.inputs``; the errors are those of ``run``."""
        if self._closed:
            raise self._gone()
        if type(inputs) is not dict and not isinstance(inputs, Mapping):
            raise InputError(
                f"inputs are a dict of arrays by name, got {type(inputs).__name__}: "
                f"give {{{self.inputs[0].name!r}: array}}"
            )
        arrays = []
        for name, dtype, shape, non_finite in self._expected:
            array = inputs.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                array = self._examine(name, inputs)
            if non_finite is not None and non_finite(array):
                raise InputError(_describe_non_finite(name, array))
            arrays.append(array)
        if len(inputs) != len(arrays):
            raise self._unknown(inputs)
        return arrays

    @abc.abstractmethod
    def _run(self, arrays: list[Array]) -> dict[str, Array]:
        """Run on checked arrays, which may be any view in memory."""

    @abc.abstractmethod
    def clone(self) -> Session:
        """A session on the same model for another thread, sharing what can be shared."""

    def describe(self) -> dict[str, str]:
        """What computes: runtime, version, threads, precision, and the runtime's own settings."""
        return {"runtime": self.runtime, "threads": str(self.threads), **self._facts()}

    @abc.abstractmethod
    def _facts(self) -> dict[str, str]:
        """Version, precision, and settings that bear on speed or results."""

    def close(self) -> None:
        """Let go of the engine. Closing twice is fine; ``run`` afterwards is an error."""
        self._closed = True

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        takes = ", ".join(f"{s.name} {s.dtype} {s.shape}" for s in self.inputs)
        gives = ", ".join(f"{s.name} {s.dtype} {s.shape}" for s in self.outputs)
        return f"{type(self).__name__}({takes} -> {gives}, threads={self.threads})"

    # ---- the slow path: something is not exactly as expected ------------------------------

    def _examine(self, name: str, inputs: Mapping[str, Array]) -> Array:
        """The input as a plain array, if it fits after all (a subclass, a free axis)."""
        if name not in inputs:
            raise self._unknown(inputs) if inputs.keys() - self._names() else self._missing(inputs)
        spec = next(spec for spec in self.inputs if spec.name == name)
        array = inputs[name]
        if not isinstance(array, np.ndarray):
            raise InputError(
                f"input {name!r} is a {type(array).__name__}: give a numpy array "
                f"of {spec.dtype} {spec.shape}"
            )
        if array.dtype != spec.dtype:
            raise InputError(
                f"input {name!r} is {array.dtype}, the model takes {spec.dtype}: "
                f'convert it with .astype("{spec.dtype}")'
            )
        if not fits(array.shape, spec.shape):
            raise InputError(
                f"input {name!r} has shape {array.shape}, the model takes {_axes(spec)}"
                + _shape_hint(array.shape, spec)
            )
        return np.asarray(array)

    def _names(self) -> set[str]:
        return {spec.name for spec in self.inputs}

    def _missing(self, inputs: Mapping[str, Array]) -> InputError:
        missing = [spec for spec in self.inputs if spec.name not in inputs]
        wanted = ", ".join(f"{s.name!r} ({s.dtype} {s.shape})" for s in missing)
        return InputError(f"input {wanted} is missing; got {_names_of(inputs)}")

    def _unknown(self, inputs: Mapping[str, Array]) -> InputError:
        unknown = [name for name in inputs if name not in self._names()]
        takes = ", ".join(repr(spec.name) for spec in self.inputs)
        return InputError(f"unknown input {_names_of(unknown)}: the model takes {takes}")


# ---- NaN and Inf -----------------------------------------------------------------------------


def _non_finite_float32(array: Array) -> bool:
    """Whether any value is NaN or Inf: their bits, read as integers, are the largest.

    Two integer maxima take 7 us for 3x224x224, where ``isfinite().all()`` takes 10 and a sum
    21; unlike a dot product they are exact and start no BLAS threads beside the runtime's.
    """
    return bool(
        np.maximum.reduce(array.view(np.int32), axis=None, initial=0) >= 0x7F800000
        or np.maximum.reduce(array.view(np.uint32), axis=None, initial=0) >= 0xFF800000
    )


def _non_finite(array: Array) -> bool:
    return not np.isfinite(array).all()


_NON_FINITE = {
    "float32": _non_finite_float32,
    "float16": _non_finite,
    "float64": _non_finite,
}


def _describe_non_finite(name: str, array: Array) -> str:
    bad = ~np.isfinite(array)
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    return (
        f"input {name!r} has {int(bad.sum())} NaN or Inf of {array.size} values, the first at "
        f"{list(first)}: {array[first]}; check what produced it"
    )


# ---- what subclasses share ------------------------------------------------------------------


def fits(shape: Sequence[int], spec: Sequence[int]) -> bool:
    """Whether ``shape`` is ``spec``, where -1 in ``spec`` is any size."""
    return len(shape) == len(spec) and all(
        want in (-1, got) for got, want in zip(shape, spec, strict=True)
    )


def match_names(
    specs: Sequence[TensorSpec], names: Sequence[str], kind: str, file: Path
) -> tuple[int, ...]:
    """For each spec the position of its tensor in the file: by name, else by order.

    Raises:
        BundleError: the file has another number of tensors.
    """
    if len(specs) != len(names):
        raise BundleError(
            f"{file.name} has {len(names)} {kind} ({', '.join(names)}), "
            f"the manifest says {len(specs)} ({', '.join(s.name for s in specs)})"
        )
    if {spec.name for spec in specs} == set(names):
        return tuple(names.index(spec.name) for spec in specs)
    return tuple(range(len(specs)))


def check_file_tensor(
    spec: TensorSpec, dtype: str, shape: Sequence[int], kind: str, file: Path
) -> None:
    """Refuse a file whose tensor is not the manifest's.

    Raises:
        BundleError: another dtype or shape. A free axis in the file fits any size.
    """
    fit = fits(spec.shape, [size if size > 0 else -1 for size in shape])
    if dtype != spec.dtype or not fit:
        raise BundleError(
            f"{file.name}: {kind} {spec.name!r} is {dtype} {tuple(shape)} in the file, "
            f"{spec.dtype} {spec.shape} in the manifest"
        )


def check_options(
    runtime: str, options: Mapping[str, str] | None, known: Sequence[str] = ()
) -> None:
    """Refuse options a runtime does not have, rather than ignore them.

    Raises:
        UsageError: names the first unknown one, and the known.
    """
    unknown = sorted((options or {}).keys() - set(known))
    if unknown:
        names = ", ".join(known) or "none"
        raise UsageError(f"{runtime}: unknown option {unknown[0]!r}; known: {names}")


def middle_mean(samples: Sequence[float]) -> float:
    """Mean of the middle half: as robust as a median, finer where samples are whole numbers."""
    ordered, cut = sorted(samples), len(samples) // 4
    return float(np.mean(ordered[cut : len(ordered) - cut]))


def warm_up_of(inferences: int) -> int:
    """How many to run before so many are timed per layer."""
    return max(5, inferences // 10)


def _axes(spec: TensorSpec) -> str:
    shape = str(spec.shape).replace("-1", "any")
    return f"{shape} ({spec.layout})" if spec.layout else shape


def _shape_hint(shape: tuple[int, ...], spec: TensorSpec) -> str:
    """What to type for the usual mistakes: no batch axis, channels last, another batch."""
    if fits((1, *shape), spec.shape):
        return ": add the batch axis with [None]"
    if len(shape) == 4 and fits(tuple(shape[i] for i in (0, 3, 1, 2)), spec.shape):
        return ": put channels second with .transpose(0, 3, 1, 2)"
    if len(shape) == 3 and fits((1, shape[2], shape[0], shape[1]), spec.shape):
        return ": put channels first and add the batch axis with .transpose(2, 0, 1)[None]"
    if spec.layout.startswith("N") and fits(shape[1:], spec.shape[1:]):
        return f": give {spec.shape[0]} at once; another number is another edgekit export --batch"
    return ""


def _names_of(names: Mapping[str, Any] | Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
