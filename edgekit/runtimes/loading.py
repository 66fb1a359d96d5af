"""``edgekit.load``: whatever was exported, by what lies there."""

from __future__ import annotations

import os
from typing import Any

from edgekit.bundle.assembly import is_assembly
from edgekit.runtimes import model


def load(path: str | os.PathLike[str], runtime: str | None = None, threads: int = 1) -> Any:
    """Load a bundle, a vision-language bundle, or a bare model file.

    The first and last are an `edgekit.Model`, see ``edgekit.runtimes.model.load``; a bundle of
    several graphs is a ``LoadedVlm`` with ``ask``, ``caption`` and ``match``, see
    ``edgekit.runtimes.vision_language``. Which it is only the files tell, so a type checker is told
    nothing: call one of these two where it should know.

    Args:
        path: folder, ``.edgekit`` file, or model file.
        runtime: key of ``RUNTIMES``; by default the first of the bundle that is installed.
        threads: how many threads to compute with.

    Raises:
        BundleError: missing, damaged, hostile, or refused by the runtime.
        UsageError: the bundle has no artifact for ``runtime``.
        MissingDependencyError: the runtime's package is not installed.
    """
    if is_assembly(path):
        from edgekit.runtimes.vision_language.loaded import load_vlm

        return load_vlm(path, runtime, threads)
    return model.load(path, runtime, threads)
