from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtimes import tiny_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny models: ``oblong/model.*`` and ``square/model.*``."""
    root = tmp_path_factory.mktemp("models")
    for form in tiny_models.SIZES:
        tiny_models.write(root / form, form)
    return root
