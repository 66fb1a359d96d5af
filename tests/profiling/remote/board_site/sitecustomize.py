"""Loaded by every Python of a fake board: what it measures and how it breaks is in a scenario.

EDGEKIT_TEST_SCENARIO, JSON:
    pieces      how many results there will be
    gate        {piece: file}: that piece waits until the file exists
    error       how ``run_profile`` ends: {"kind": "MissingDependencyError", "words": [...]}
    crash       the process of the job kills itself after so many pieces
    raw         text that is written in place of a result; then nothing happens
    full        writing fails as on a full disk
    full_at     so does writing the result of that piece, half of which fits
    free        bytes of disk that are said to be free
"""

import contextlib
import dataclasses
import errno
import json
import os
import signal
import sys
import time
import types
from pathlib import Path

SCENARIO = json.loads(os.environ.get("EDGEKIT_TEST_SCENARIO", "{}"))
LIMIT_S = 60


def run_profile(request, *, progress, keep):
    import edgekit.errors
    from edgekit.bundle import open_bundle
    from edgekit.profiling.remote.goods import bundle_goods
    from tests.profiling.sample_results import model, result

    pieces = SCENARIO.get("pieces", 2)
    if "raw" in SCENARIO:  # the working folder is the job's
        Path("result.json").write_text(SCENARIO["raw"])
        time.sleep(LIMIT_S)
    progress(f"edgekit of {edgekit.__file__}")
    with open_bundle(request.bundle) as bundle:
        digest = SCENARIO.get("foreign") or bundle_goods(bundle).digest
    made = result(bundle=request.bundle, facts=model(bundle_sha256=digest), device="local")
    made = dataclasses.replace(made, warnings=(f"about {request.bundle}", *request.references))
    for piece in range(1, pieces + 1):
        progress(f"piece {piece} of {pieces}, {len(request.references)} references")
        _wait(SCENARIO.get("gate", {}).get(str(piece)))
        with _full_disk() if SCENARIO.get("full_at") == piece else contextlib.nullcontext():
            keep(dataclasses.replace(made, complete=False, seconds=float(piece)))
        if SCENARIO.get("crash") == piece:
            sys.stderr.write("Illegal instruction\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    if "error" in SCENARIO:
        kind = getattr(edgekit.errors, SCENARIO["error"]["kind"], None) or ValueError
        raise kind(*SCENARIO["error"]["words"])
    return dataclasses.replace(made, complete=True, seconds=float(pieces), image=request.image)


@contextlib.contextmanager
def _full_disk():
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    plain, vars(os)["fsync"] = os.fsync, refuse
    try:
        yield
    finally:
        vars(os)["fsync"] = plain


def _wait(gate):
    until = time.monotonic() + LIMIT_S
    while gate and not Path(gate).exists() and time.monotonic() < until:
        time.sleep(0.02)


module = types.ModuleType("edgekit.profiling.profile")
vars(module)["run_profile"] = run_profile
sys.modules["edgekit.profiling.profile"] = module

if SCENARIO.get("full"):

    def sync():
        raise OSError(errno.ENOSPC, "No space left on device")

    vars(os)["sync"] = sync

if "free" in SCENARIO:

    def statvfs(path):
        return types.SimpleNamespace(f_bavail=SCENARIO["free"], f_frsize=1)

    vars(os)["statvfs"] = statvfs
