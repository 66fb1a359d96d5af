"""Every error edgekit raises on purpose, in one tree, each with its exit code.

A message is one line: what went wrong, the value got, what is possible, what to do.

    EdgekitError                1  failure
    |-- UsageError              2  the command or call itself is wrong
    |   `-- UnknownNameError    2  no such model, target, runtime ...: names the close matches
    |-- OutputExistsError       1  nothing is overwritten without --force
    |-- InputError              1  an image or a tensor that does not fit
    |-- CheckpointError         1  weights that are missing, broken, unsafe or of another model
    |-- DownloadError           1  weights that could not be fetched
    |-- BundleError             1  a bundle that is damaged, hostile or of a newer schema
    |-- GraphError              1  a graph that is invalid or cannot be exported
    |   `-- UnsupportedOperatorError  1  a lowering lacks an operator: names the node
    |-- ParityError             3  an artifact does not compute what the source computes
    |-- BudgetError             4  more than the budget allows, or worse than the baseline
    |-- MeasurementError        5  a measurement that cannot be trusted
    |-- DeviceError             6  the device (a GPU, a board) cannot be reached
    `-- MissingDependencyError  7  a package is not installed: has the pip line
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class EdgekitError(Exception):
    """Base of the tree. ``str(error)`` is one line fit for a user's terminal."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        # It may quote names from a hostile file: an escape sequence could rewrite the screen.
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))

    def __reduce__(self) -> tuple[Any, ...]:
        # What the default would call is the constructor, with the message alone: a subclass that
        # takes more could not come back from a worker process.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[EdgekitError], args: tuple[Any, ...], facts: dict[str, Any]) -> Exception:
    """An unpickled error: the same text and attributes."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(facts)
    return error


class UsageError(EdgekitError):
    """The command line or the call is wrong as written."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is in no table.

    Args:
        kind: what was looked up, e.g. ``"model"``.
        name: the name that was asked for.
        known: every name that would have been accepted.
        hint: one sentence of what to do when no name comes close.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        close = difflib.get_close_matches(name.lower(), self.known, n=3, cutoff=0.5)
        if close:
            tail = f"did you mean {' or '.join(close)}?"
        else:
            tail = f"known: {', '.join(self.known)}."
        super().__init__(f"unknown {kind} {name!r}: {tail} {hint}")


class OutputExistsError(EdgekitError):
    """The output is already there and ``--force`` was not given."""


class InputError(EdgekitError):
    """An image or tensor that cannot be fed to the model."""


class CheckpointError(EdgekitError):
    """Weights that are missing, damaged, unsafe, or of another network."""


class NoHeadError(CheckpointError):
    """Weights of a network without its last layers."""


class DownloadError(EdgekitError):
    """Weights that could not be fetched, or were not what they should be."""


class BundleError(EdgekitError):
    """A bundle that is damaged, hostile, or written by a newer edgekit."""


class GraphError(EdgekitError):
    """A graph that is invalid or that edgekit cannot export."""


class UnsupportedOperatorError(GraphError):
    """A lowering lacks an operator.

    Args:
        lowering: who refuses, e.g. ``"tflite"``.
        op_type: the ONNX operator, e.g. ``"Einsum"``.
        node: name of the node in the graph.
        why: what about it is unsupported.
        producer: where in the user's model the node comes from, if known.
        remedy: what the user can do.
    """

    def __init__(
        self,
        lowering: str,
        op_type: str,
        node: str,
        why: str,
        *,
        producer: str = "",
        remedy: str = "",
    ) -> None:
        self.lowering, self.op_type, self.node, self.why = lowering, op_type, node, why
        where = f"node {node!r}" + (f" (from {producer})" if producer else "")
        super().__init__(f"{lowering}: {op_type} at {where} is not supported: {why}. {remedy}")


class ParityError(EdgekitError):
    """An artifact does not compute the source's function within tolerance."""

    exit_code = 3


class BudgetError(EdgekitError):
    """A model costs more than its budget allows, or more than it did before."""

    exit_code = 4


class MeasurementError(EdgekitError):
    """A measurement that cannot be trusted: noisy, throttled, contended."""

    exit_code = 5


class DeviceError(EdgekitError):
    """A device that is needed cannot be reached."""

    exit_code = 6


class MissingDependencyError(EdgekitError):
    """A package that a feature needs is not installed.

    Args:
        feature: what the user asked for.
        package: the package that is missing.
        remedy: the exact line to type.
    """

    exit_code = 7

    def __init__(self, feature: str, package: str, remedy: str, *, detail: str = "") -> None:
        self.feature, self.package, self.remedy = feature, package, remedy
        why = f" ({detail})" if detail else ""
        super().__init__(f"{feature} needs {package}, which is not installed{why}: {remedy}")
