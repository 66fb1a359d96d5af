"""Errors are one printable line, and come back whole from a worker process."""

from __future__ import annotations

import importlib
import pickle

import pytest

from edgekit import optional
from edgekit.errors import (
    EdgekitError,
    MissingDependencyError,
    ParityError,
    UnknownNameError,
    UnsupportedOperatorError,
)

ERRORS = [
    ParityError("too far"),
    UnknownNameError("model", "micronet-m9", ["micronet-m0"]),
    UnsupportedOperatorError("tflite", "Einsum", "the_node", "it has no fixed form"),
    MissingDependencyError("a feature", "openvino", "pip install openvino"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_crosses_processes(error: EdgekitError) -> None:
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)
    assert twin.exit_code == error.exit_code


def test_a_message_cannot_steer_the_terminal() -> None:
    error = EdgekitError("output 'y\x1b[2J'\nis \u202eodd, and \u00e9 is not")
    assert str(error) == "output 'y\\x1b[2J' is \\u202eodd, and \u00e9 is not"


def test_a_base_package_is_asked_for_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    monkeypatch.setattr(optional, "is_installed", lambda name: False)
    with pytest.raises(MissingDependencyError, match=r"needs pillow, .*: pip install pillow$"):
        optional.require("PIL.Image", "reading images")
