"""A whole profile of an emulated core: a ``ProfileResult`` with instructions and no times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgekit.bundle import open_bundle
from edgekit.errors import UsageError
from edgekit.profiling.assemble import Collected
from edgekit.profiling.emulation.count import count_instructions
from edgekit.profiling.request import Request
from edgekit.profiling.result import ProfileResult

WARNING = "instructions executed by an emulated core are a count: they say nothing about time"


def profile_emulated(
    request: Request,
    core: str,
    *,
    sysroot: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> ProfileResult:
    """Count the instructions of the bundle's runtimes on an emulated ``core``.

    Raises:
        UsageError: the request asks for times, or for more than one thread.
        EdgekitError: as ``count_instructions``.
    """
    check_request(request)
    with open_bundle(Path(request.bundle)) as bundle:
        collected = Collected(request, bundle, 0)
        rows = count_instructions(
            request.bundle, core, request.runtimes, sysroot=sysroot, progress=progress
        )
        collected.warn(WARNING)
        result = collected.result(complete=True)
        # How busy this machine is bears on times alone.
        environment = replace(result.environment, notes=())
        return replace(result, environment=environment, instructions=rows)


def check_request(request: Request) -> None:
    """Refuse what an emulated core cannot answer.

    Raises:
        UsageError: names the first such wish.
    """
    wishes = {
        "--threads: threads wait for each other by spinning, and only one can be counted": any(
            threads != 1 for threads in request.threads
        ),
        "--scope: the engine's own call is what is counted": bool(set(request.scopes) - {"engine"}),
        "--pace: an emulated core has no time": request.pace_hz > 0,
        "--sustain: an emulated core has no time": request.sustain_s > 0,
        "--reference: an emulated core has no time; count the other bundle by itself": bool(
            request.references
        ),
        "--image: the engine's own call is what is counted": bool(request.image),
        "--quick and --thorough: counting takes as long as it takes": request.preset != "default",
        "--cpus: what is counted does not depend on them": request.cpus != "auto",
        "--option: the runtimes count as they come": bool(request.options),
    }
    for wish, asked in wishes.items():
        if asked:
            raise UsageError(f"--emulate does not go with {wish}")
