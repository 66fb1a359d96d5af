"""The agent alone: what it is written in, and what it refuses to write."""

import ast
import hashlib
import io
import json
import os
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from edgekit.profiling.remote import agent

SOURCE = Path(agent.__file__).read_text(encoding="utf-8")
# In the standard library since 3.9, or evaluated at run time since then.
TOO_NEW = {"removeprefix", "removesuffix", "cache", "to_thread", "is_relative_to", "readlink"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("EDGEKIT_DEVICE_LOCK", str(tmp_path / "edgekit-device.lock"))
    monkeypatch.setattr("signal.alarm", lambda seconds: None)
    return tmp_path / "device"


def ask(operation, data=b"", **asked):
    """What the agent answers: kind -> fields of the last of that kind."""
    request = json.dumps({"operation": operation, **asked}).encode() + b"\n"
    sink = io.BytesIO()
    agent.main("NONCE", io.BytesIO(request + data), sink)
    lines = sink.getvalue().split(b"\n")
    headers = [json.loads(line[6:]) for line in lines if line.startswith(b"NONCE ")]
    return {header["kind"]: header for header in headers}


def test_it_is_written_in_the_grammar_of_38():
    ast.parse(SOURCE, feature_version=(3, 8))
    assert SOURCE.count("from __future__ import annotations") == 1


def test_it_uses_nothing_newer_and_nothing_of_edgekit():
    names = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Attribute):
            assert node.attr not in TOO_NEW, f"line {node.lineno}"
        assert not isinstance(node, ast.Match)
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
    assert "zip(" not in SOURCE, "strict= is younger, and without it the linter complains"


def test_nothing_else_imports_it():
    room = Path(agent.__file__).parent
    for path in room.glob("*.py"):
        assert "import agent" not in path.read_text(encoding="utf-8")
        assert "remote.agent" not in path.read_text(encoding="utf-8")


def file(name, data):
    return {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def group(kind="bundles", digest="0" * 64, needs=10_000, **files):
    listed = [file(name.replace("_", "."), data) for name, data in files.items()]
    return {"kind": kind, "digest": digest, "files": listed, "needs": needs}


def put(*groups, data):
    (agent.base() / "bundles").mkdir(parents=True, exist_ok=True)
    (agent.base() / "wheels").mkdir(parents=True, exist_ok=True)
    return ask("put", data, groups=list(groups))


def test_goods_are_stored_under_their_digest(home):
    answer = put(group(a_txt=b"one", b_txt=b"two"), data=b"onetwo")
    assert "reply" in answer and answer["stored"]["digest"] == "0" * 64
    assert (home / "bundles" / ("0" * 64) / "b.txt").read_bytes() == b"two"
    assert stat.S_IMODE(home.joinpath("bundles", "0" * 64).stat().st_mode) == 0o700


def test_what_arrived_damaged_is_not_kept(home):
    answer = put(group(a_txt=b"one"), data=b"oNe")
    assert answer["refused"]["code"] == "damaged"
    assert list((home / "bundles").iterdir()) == []


def test_what_came_before_a_cut_is_kept(home):
    one, two = group(a=b"one"), group(digest="1" * 64, a=b"two")
    answer = put(one, two, data=b"onet")
    assert answer["refused"]["code"] == "cut"
    assert [path.name for path in (home / "bundles").iterdir()] == ["0" * 64]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "jobs"},
        {"kind": "../x"},
        {"digest": "../../../etc"},
        {"digest": "0" * 63},
        {"digest": "0" * 64 + "\n"},
    ],
)
def test_goods_with_a_place_of_their_own_are_refused(home, changes):
    answer = put({**group(a=b"one"), **changes}, data=b"one")
    assert answer["refused"]["code"] == "protocol"
    assert list(home.rglob("a")) == []


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/b", "", ".", "..", ".a", "a\0", "a\n", "-a"])
def test_files_with_a_way_out_are_refused(home, name):
    bad = {**group(), "files": [file(name, b"one")]}
    assert put(bad, data=b"one")["refused"]["code"] == "protocol"
    assert [path for path in home.rglob("*") if path.is_file()] == []


def wheel(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def push_wheel(data, needs=10_000):
    return put(group("wheels", needs=needs, wheel_whl=data), data=data)


def test_a_wheel_is_unpacked_as_it_is_imported(home):
    data = wheel(
        ("pkg/__init__.py", b"x = 1", 0o100644),
        ("pkg/lib.so", b"\x7fELF", 0o100755),
        ("pkg-1.data/purelib/pure.py", b"", 0),
        ("pkg-1.data/platlib/plat.py", b"", 0),
        ("pkg-1.data/scripts/tool", b"#!", 0),
        ("pkg-1.data/data/share/x", b"", 0),
        ("empty/", b"", stat.S_IFDIR | 0o755),
    )
    assert "reply" in push_wheel(data)
    place = home / "wheels" / ("0" * 64)
    found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert found == {"pkg/__init__.py", "pkg/lib.so", "pure.py", "plat.py"}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, 0o100644) for name in ("../x", "/x", "a/../../x", "a//x", "./x", "a\\..\\x")),
        ("p-1.data/purelib/../../x", 0o100644),
        ("link", stat.S_IFLNK | 0o777),
        ("pipe", stat.S_IFIFO | 0o644),
    ],
)
def test_a_wheel_that_would_leave_its_folder_is_refused(home, name, mode):
    answer = push_wheel(wheel(("ok.py", b"", 0), (name, b"/etc/passwd", mode)))
    assert answer["refused"]["code"] == "damaged"
    assert list((home / "wheels").iterdir()) == []


def test_a_wheel_that_unpacks_to_more_than_it_said(home):
    assert push_wheel(wheel(("big", b"x" * 20_000, 0)))["refused"]["code"] == "damaged"
    assert push_wheel(b"no zip at all")["refused"]["code"] == "damaged"
    assert list((home / "wheels").iterdir()) == []


def test_old_goods_go_when_there_are_too_many(home):
    for number, age in enumerate((300, 200, 100)):
        place = home / "bundles" / (str(number) * 64)
        place.mkdir(parents=True)
        (place / "x").write_bytes(b"x" * 1000)
        os.utime(place, (1e9 - age, 1e9 - age))
    (home / "wheels").mkdir()
    (home / "images").mkdir()
    agent._prune({"groups": [group(digest="0" * 64)], "most_bytes": 2500})
    assert sorted(path.name[0] for path in (home / "bundles").iterdir()) == ["0", "2"]


def test_what_a_cut_connection_left_is_swept(home):
    ask("probe", oldest=[3, 0], newest=[3, 99], edgekit="", install=True)
    old, young = home / "bundles" / ".incoming-1-a", home / "bundles" / ".incoming-2-b"
    for place in (old, young):
        place.mkdir()
    os.utime(old, (0, 0))
    ask("probe", oldest=[3, 0], newest=[3, 99], edgekit="", install=True)
    assert not old.exists() and young.exists()


def answers(monkeypatch, **versions):
    """Pythons by path -> (version, edgekit they have)."""
    found = {
        path: {"python": [*version, 0], "edgekit": edgekit, "executable": path}
        for path, (version, edgekit) in versions.items()
    }
    monkeypatch.setattr(agent, "_pythons", lambda only_own: list(found))
    monkeypatch.setattr(agent, "_ask", lambda path: found[path])


@pytest.mark.parametrize(
    ("install", "chosen"),
    [(True, "a"), (False, "c")],
    ids=["the first that is new enough", "the one that has this edgekit"],
)
def test_which_python_is_chosen(monkeypatch, install, chosen):
    answers(
        monkeypatch, old=((3, 8), "1.0"), a=((3, 11), ""), b=((3, 12), "0.9"), c=((3, 12), "1.0"),
        new=((3, 14), "1.0"),
    )  # fmt: skip
    asked = {"oldest": [3, 10], "newest": [3, 13], "edgekit": "1.0", "install": install}
    assert agent._choose_python(asked)["executable"] == chosen


def test_a_python_that_is_too_old_is_told_where_there_is_no_other(monkeypatch):
    answers(monkeypatch, old=((3, 8), ""))
    asked = {"oldest": [3, 10], "newest": [3, 13], "edgekit": "1.0", "install": True}
    assert agent._choose_python(asked)["python"][:2] == [3, 8]


def test_a_python_that_prints_nonsense_is_passed_over(tmp_path):
    liar = tmp_path / "python3"
    liar.write_text("#!/bin/sh\necho hello\n")
    liar.chmod(0o700)
    assert agent._ask(str(liar)) == {}
    assert agent._ask(str(tmp_path / "nothing")) == {}
    assert agent._ask(sys.executable)["python"] == list(sys.version_info[:3])


# ---- the board's lock ------------------------------------------------------------------------


def test_the_lock_is_one_for_all_users(tmp_path):
    lock = agent._try_lock(agent._board_lock())
    assert lock is not None
    assert stat.S_IMODE((tmp_path / "edgekit-device.lock").stat().st_mode) == 0o666
    assert agent._try_lock(agent._board_lock()) is None
    agent._say_who(lock, {"who": "me", "since": "now", "job": "1", "more": "x"})
    assert agent._busy() == {"who": "me", "since": "now", "job": "1"}
    os.close(lock)
    assert agent._busy() is None


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "edgekit-device.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        agent._try_lock(agent._board_lock())
    assert (tmp_path / "precious").read_text() == "precious"


def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path):
    place = tmp_path / "edgekit-device.lock"
    os.mkfifo(place)
    for look in (agent._busy, agent._holder):
        with pytest.raises(agent.RefusalError, match="no plain file"):
            look()
    place.unlink()
    (tmp_path / "precious").write_text("precious")
    os.link(tmp_path / "precious", place)
    with pytest.raises(agent.RefusalError, match="no plain file"):
        agent._try_lock(place)
    assert (tmp_path / "precious").read_text() == "precious"


def test_it_is_the_same_for_a_user_with_a_folder_for_temporary_files(monkeypatch):
    monkeypatch.delenv("EDGEKIT_DEVICE_LOCK")
    monkeypatch.setenv("TMPDIR", "/tmp/user/1000")
    assert str(agent._board_lock()) == "/tmp/edgekit-device.lock"


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "x" * 100_000, "[" * 4000, '{"who": ["\\u001b"]}']
)
def test_whatever_another_user_writes_into_it(tmp_path, content):
    (tmp_path / "edgekit-device.lock").write_text(content)
    assert set(agent._holder()) == {"who", "since", "job"}
    assert all(len(text) <= 100 for text in agent._holder().values())


def test_a_disk_that_fills_up_is_left_as_it_was(home, monkeypatch):
    def full(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(agent, "_unpack_wheel", full)
    data = wheel(("a.py", b"", 0))
    answer = put(
        group(a=b"one"), group("wheels", digest="1" * 64, wheel_whl=data), data=b"one" + data
    )
    assert answer["refused"]["code"] == "disk-full"
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_job_that_a_full_disk_has_no_room_for_says_what_is_free(home, monkeypatch):
    def full(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(agent, "_write_json", full)
    (home / "jobs").mkdir(parents=True)
    for kind in agent.KINDS:
        (home / kind).mkdir()
    answer = ask(
        "run", job="a" * 64, fresh=True, groups=[], wheels=[], who="me", most_bytes=1, request={}
    )
    assert answer["refused"]["code"] == "disk-full"
    assert answer["refused"]["free"] > 0
    assert agent._busy() is None


# ---- jobs ------------------------------------------------------------------------------------


@pytest.fixture
def job(home):
    """A finished job that nobody has fetched."""
    folder = home / "jobs" / ("b" * 64)
    folder.mkdir(parents=True)
    (folder / "outcome.json").write_text('{"state": "done"}')
    return folder


@pytest.mark.parametrize(
    ("state", "fetched", "fresh", "starts"),
    [
        ("done", False, True, False),  # it has waited for whoever asks
        ("done", True, True, True),
        ("done", True, False, False),  # the same command, connecting again
        ("dead", False, True, True),
        ("failed", False, False, False),
    ],
)
def test_when_a_job_is_started_anew(job, state, fetched, fresh, starts):
    (job / "outcome.json").write_text(json.dumps({"state": state}))
    if fetched:
        (job / "fetched").touch()
    assert agent._must_start(job, fresh) is starts


def test_a_job_that_another_is_being_told_of_is_not_cleaned_away(job):
    with agent._shared(job / "watched"):
        ask("clean", job=job.name)
        assert (job / "fetched").exists()
    ask("clean", job=job.name)
    assert not job.exists()


def test_a_running_job_is_not_cleaned_away(job):
    lock = agent._try_lock(job / "alive")
    assert lock is not None
    ask("clean", job=job.name)
    assert job.exists() and not (job / "fetched").exists()
    os.close(lock)


@pytest.mark.parametrize("name", ["../../etc", "", "b" * 63, "B" * 64])
def test_a_job_has_a_plain_name(name):
    for operation in ("run", "stop", "clean"):
        assert ask(operation, job=name)["refused"]["code"] == "protocol"


def test_two_who_send_the_same_at_once(home, monkeypatch):
    """The other is quicker between the check and the rename."""
    monkeypatch.setattr("shutil.rmtree", lambda place, **options: None)
    place = home / "bundles" / ("0" * 64)
    place.mkdir(parents=True)
    (place / "a").write_bytes(b"one")
    assert "reply" in put(group(a=b"one"), data=b"one")
    assert (place / "a").read_bytes() == b"one"
