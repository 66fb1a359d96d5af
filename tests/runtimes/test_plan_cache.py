"""Plans on disk: verified, atomic, locked, and optional."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.runtimes import plan_cache
from edgekit.runtimes.plan_cache import PLAN, RECORD, Fingerprint, PlanCache, PlanRecord

PRINT = Fingerprint("tensorrt 10.3.0", "Orin", "8.7", 8, "12.6", "ab" * 32, {"tf32": False})
BYTES = b"a plan" * 100


def record(data=BYTES, fingerprint=PRINT):
    return PlanRecord(fingerprint, hashlib.sha256(data).hexdigest(), 12, "cd" * 32, {"y": 1e-6})


def store(cache, data=BYTES):
    with cache.locked(PRINT) as entry:
        entry.store(data, record(data))
        return entry


def load(cache, fingerprint=PRINT):
    with cache.locked(fingerprint) as entry:
        return entry.load(), entry


def folder(cache):
    return cache.root / "plans" / PRINT.digest()


def test_what_is_stored_is_loaded(tmp_path):
    cache = PlanCache(tmp_path)
    stored = store(cache)
    found, entry = load(cache)
    assert found is not None
    assert (found.plan, found.record) == (BYTES, record())
    assert entry.path == stored.path == folder(cache) / PLAN
    assert not entry.notes
    assert {path.name for path in folder(cache).iterdir()} == {PLAN, RECORD}  # no leftovers


def test_an_empty_cache_has_nothing_to_say(tmp_path):
    found, entry = load(PlanCache(tmp_path))
    assert (found, entry.notes, entry.path) == (None, [], None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tensorrt", "tensorrt 10.16.2"),
        ("gpu", "NVIDIA Thor"),
        ("compute_capability", "11.0"),
        ("multiprocessors", 16),
        ("driver", "13.2"),
        ("model_sha256", "00" * 32),
        ("options", {"tf32": True}),
    ],
)
def test_any_difference_is_another_plan(tmp_path, field, value):
    cache = PlanCache(tmp_path)
    store(cache)
    assert load(cache, replace(PRINT, **{field: value}))[0] is None
    same_device = replace(PRINT, **{field: value}).device_digest() == PRINT.device_digest()
    assert same_device == (field in ("model_sha256", "options"))


def damage_plan(where):
    (where / PLAN).write_bytes(BYTES[:-1])


def damage_json(where):
    (where / RECORD).write_text('{"format": ')


def remove_a_field(where):
    document = json.loads((where / RECORD).read_text())
    del document["layers"]
    (where / RECORD).write_text(json.dumps(document))


def another_format(where):
    text = (where / RECORD).read_text().replace(plan_cache.FORMAT, "edgekit plan 99")
    (where / RECORD).write_text(text)


def not_an_object(where):
    (where / RECORD).write_text("[1, 2]")


def another_fingerprint(where):
    (where / RECORD).write_text((where / RECORD).read_text().replace('"8.7"', '"7.2"'))


def wrong_types(where):
    document = json.loads((where / RECORD).read_text())
    document["self_test"] = {"y": "good"}
    (where / RECORD).write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damage_plan, "is damaged"),
        (damage_json, "has a damaged plan.json"),
        (remove_a_field, "has a damaged plan.json"),
        (another_format, "has a damaged plan.json"),
        (not_an_object, "has a damaged plan.json"),
        (wrong_types, "has a damaged plan.json"),
        (another_fingerprint, "was built for something else"),
    ],
)
def test_a_plan_that_does_not_verify_is_not_loaded_and_says_why(tmp_path, harm, words):
    cache = PlanCache(tmp_path)
    store(cache)
    harm(folder(cache))
    found, entry = load(cache)
    assert found is None
    assert entry.path is None
    assert words in entry.notes[0]
    store(cache)  # and is replaced
    assert load(cache)[0] is not None


def test_a_process_killed_between_the_two_files_leaves_nothing_to_load(tmp_path):
    cache = PlanCache(tmp_path)
    store(cache)
    (folder(cache) / PLAN).write_bytes(b"the new plan, whose record was never written")
    found, entry = load(cache)
    assert found is None
    assert "sha256" in entry.notes[0]
    (folder(cache) / RECORD).unlink()
    found, entry = load(cache)
    assert (found, entry.notes) == (None, [])


def test_a_cache_that_cannot_be_written_is_a_note(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    entry = store(PlanCache(blocked))
    assert entry.path is None
    assert len(entry.notes) == 1
    assert "the plan is not cached (" in entry.notes[0]
    assert "set EDGEKIT_CACHE" in entry.notes[0]


def test_a_full_disk_is_a_note_and_leaves_no_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    cache = PlanCache(tmp_path)
    entry = store(cache)
    assert "No space left on device" in entry.notes[0]
    assert list(folder(cache).iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_cache_still_serves_its_plans(tmp_path):
    cache = PlanCache(tmp_path)
    store(cache)
    for path in (cache.root / "plans", folder(cache)):
        path.chmod(0o500)
    try:
        found, entry = load(cache)
        assert found is not None
        assert not entry.notes
    finally:
        for path in (cache.root / "plans", folder(cache)):
            path.chmod(0o700)


def test_a_cache_without_a_lock_still_serves_its_plans(tmp_path, monkeypatch):
    cache = PlanCache(tmp_path)
    store(cache)

    def refuse(path, waiting):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(plan_cache, "_lock", refuse)
    found, entry = load(cache)
    assert found is not None
    assert not entry.notes
    entry.store(BYTES, record())
    assert "Permission denied" in entry.notes[0]


def test_timings_are_shared_by_the_models_of_a_device(tmp_path):
    cache = PlanCache(tmp_path)
    with cache.locked(PRINT) as entry:
        assert entry.timings() == b""
        entry.store_timings(b"")  # TensorRT gave none: nothing to keep
        entry.store_timings(b"timings")
    with cache.locked(replace(PRINT, model_sha256="11" * 32)) as entry:
        assert entry.timings() == b"timings"
    with cache.locked(replace(PRINT, gpu="other")) as entry:
        assert entry.timings() == b""


def test_the_second_waits_for_the_first(tmp_path):
    cache, order, waiting = PlanCache(tmp_path), [], threading.Event()

    def second():
        with cache.locked(PRINT, waiting.set) as entry:
            order.append("second")
            assert entry.load() is not None

    thread = threading.Thread(target=second)
    with cache.locked(PRINT) as entry:
        thread.start()
        assert waiting.wait(10)
        order.append("first")
        entry.store(BYTES, record())
    thread.join(10)
    assert order == ["first", "second"]


def test_a_killed_process_gives_up_its_lock(tmp_path):
    script = (
        "import sys, os; from pathlib import Path;"
        "from edgekit.runtimes.plan_cache import Fingerprint, PlanCache;"
        "fp = Fingerprint('tensorrt 10.3.0', 'Orin', '8.7', 8, '12.6', 'ab' * 32, {'tf32': False});"
        "lock = PlanCache(Path(sys.argv[1])).locked(fp); lock.__enter__(); os.kill(os.getpid(), 9)"
    )
    root = str(Path(__file__).resolve().parents[2])
    child = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env={**os.environ, "PYTHONPATH": root}
    )
    assert child.returncode == -9
    waited = []
    with PlanCache(tmp_path).locked(PRINT, lambda: waited.append(True)):
        assert not waited


def test_the_root_is_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "mine"))
    assert PlanCache().root == tmp_path / "mine"
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert PlanCache().root == tmp_path / ".cache" / "edgekit"
