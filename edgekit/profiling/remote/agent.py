r"""The helper that runs on a board: one file, standard library only, Python 3.8.

It is sent over stdin with every call and nothing of it stays there. It is never imported by
the rest of edgekit; the host reads its text. What it is asked comes as one JSON line, what it
answers goes out in frames (``frames.py``).

    probe   what the board is and which Python may run edgekit
    put     store goods: bundles, images, wheels, each under its sha256
    run     start a job, or pick it up, and tell how it goes
    stop    end a job and hand over what it measured
    clean   remove a job's folder

    ~/.cache/edgekit/device        (EDGEKIT_CACHE/device where that is set)
      bundles/ images/ wheels/     <sha256>/, written beside and renamed: never half of one
      jobs/<id>/                   job.json progress.txt result.json outcome.json log.txt
    /tmp/edgekit-device.lock       one for all users; the running job holds it through flock, so
                                   that a dead one does not; says who holds it
                                   (EDGEKIT_DEVICE_LOCK names another)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

KINDS = ("bundles", "images", "wheels")
MAX_REQUEST = 16 << 20
MAX_PROGRESS = 1 << 20
MAX_HOLDER = 4096
OUTCOME, RESULT, PROGRESS, LOG = "outcome.json", "result.json", "progress.txt", "log.txt"
FETCHED = "fetched"
CHUNK = 1 << 18
BEAT_S = 10.0
STOP_S = 20.0
DAY_S = 86400.0
SPARE_BYTES = 16 << 20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}")
DIGEST = re.compile(r"[0-9a-f]{64}")

# Run by each Python that may be the right one; its answer is the last line.
ASK = """
import json, os, platform, struct, sys, sysconfig
try:
    from importlib.metadata import version
    edgekit = version("edgekit")
except Exception:
    edgekit = ""
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (ValueError, OSError, AttributeError):
    libc = ""
kind = sysconfig.get_config_var("HOST_GNU_TYPE") or ""
print("\\n" + json.dumps({
    "python": list(sys.version_info[:3]), "executable": sys.executable, "edgekit": edgekit,
    "implementation": sys.implementation.name, "bits": struct.calcsize("P") * 8,
    "machine": platform.machine(), "libc": libc or ("musl" if "musl" in kind else ""),
    "markers": {"implementation_name": sys.implementation.name, "os_name": os.name,
        "platform_machine": platform.machine(), "platform_release": platform.release(),
        "platform_system": platform.system(), "platform_version": platform.version(),
        "platform_python_implementation": platform.python_implementation(),
        "python_full_version": platform.python_version(), "sys_platform": sys.platform,
        "implementation_version": platform.python_version(),
        "python_version": "%d.%d" % sys.version_info[:2]}}))
"""


class RefusalError(Exception):
    """What cannot be done, for the host to put into words."""

    def __init__(self, code: str, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.facts = code, message, facts


class Wire:
    """The connection to the host."""

    def __init__(self, nonce: str, source: BinaryIO, sink: BinaryIO) -> None:
        self._nonce, self._source, self._sink = nonce, source, sink

    def send(self, kind: str, data: bytes = b"", **fields: object) -> None:
        """One frame."""
        header = json.dumps({**fields, "kind": kind, "bytes": len(data)})
        self._sink.write(("\n" + self._nonce + " " + header + "\n").encode() + data)
        self._sink.flush()

    def request(self) -> dict[str, Any]:
        """What the host asks."""
        line = self._source.readline(MAX_REQUEST)
        if not line.endswith(b"\n"):
            raise RefusalError("cut", "the request was cut short")
        asked: dict[str, Any] = json.loads(line)
        return asked

    def read(self, count: int) -> Iterator[bytes]:
        """The next ``count`` bytes."""
        while count:
            chunk = self._source.read(min(count, CHUNK))
            if not chunk:
                raise RefusalError("cut", "the connection was cut while files were sent")
            count -= len(chunk)
            yield chunk


def main(nonce: str, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer one request. What stops it is the last but one frame."""
    wire = Wire(nonce, source, sink)
    try:
        asked = wire.request()
        signal.alarm(int(asked.get("limit_s", 0)))
        OPERATIONS[asked["operation"]](asked, wire)
    except RefusalError as refusal:
        wire.send("refused", code=refusal.code, message=refusal.message, **refusal.facts)
    except zipfile.BadZipFile as error:
        wire.send("refused", code="damaged", message=str(error))
    except OSError as error:
        if error.errno == errno.EPIPE:
            return  # the host has gone; the job, if there is one, goes on
        code = ERRNO_CODES.get(error.errno or 0, "system")
        message = f"{error.filename or ''}: {error.strerror or error}"
        wire.send("refused", code=code, message=message, free=_space()["free"])
    wire.send("end")


ERRNO_CODES = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EROFS: "read-only",
    errno.EACCES: "read-only",
    errno.EPERM: "read-only",
    errno.ENOTDIR: "read-only",
}


def base() -> Path:
    """Where everything lies."""
    named = os.environ.get("EDGEKIT_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "edgekit") / "device"


def _space() -> dict[str, int]:
    """Bytes free where the base is or will be."""
    for place in (base(), *base().parents):
        with contextlib.suppress(OSError):
            found = os.statvfs(str(place))
            return {"free": found.f_bavail * found.f_frsize}
    return {"free": 0}


# ---- probe -----------------------------------------------------------------------------------


def probe(asked: dict[str, Any], wire: Wire) -> None:
    """What the board is. The Python is the first that suits ``asked``."""
    for kind in (*KINDS, "jobs"):
        (base() / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep()
    facts = {
        **_choose_python(asked),
        **_space(),
        "base": str(base()),
        "board": _line("/proc/device-tree/model"),
        "l4t": _line("/etc/nv_tegra_release"),
        "system": _named("/etc/os-release", "PRETTY_NAME"),
        "memory_available": _kilobytes("/proc/meminfo", "MemAvailable"),
        "busy": _busy(),
        "stored": {kind: sorted(p.name for p in (base() / kind).iterdir()) for kind in KINDS},
    }
    wire.send("reply", json.dumps(facts).encode())


def _choose_python(asked: dict[str, Any]) -> dict[str, Any]:
    """What the best of the Pythons answers: new enough, and with the edgekit that is wanted."""
    best: tuple[int, dict[str, Any]] = (-1, {})
    for path in _pythons(only_own=bool(asked.get("only_this_python"))):
        answer = _ask(path)
        if not answer:
            continue
        rank = 0
        if asked["oldest"] <= answer["python"][:2] <= asked["newest"]:
            same = answer["edgekit"] == asked["edgekit"]
            rank = 3 if same or asked["install"] else 2 if answer["edgekit"] else 1
        if rank > best[0]:
            best = (rank, answer)
        if rank == 3:
            break
    if best[0] < 0:
        raise RefusalError("no-python", f"{sys.executable} does not answer")
    return best[1]


def _pythons(only_own: bool) -> list[str]:
    names = ["python3"] + [f"python3.{minor}" for minor in (13, 12, 11, 10)]
    places = [sys.executable]
    if not only_own:
        places += [shutil.which(name) or "" for name in names]
        places += ["/usr/bin/python3", "/usr/local/bin/python3"]
    seen: dict[str, str] = {}
    for place in filter(os.path.exists, places):
        # A venv's Python is a link to the system's, and another Python all the same.
        path = Path(place)
        seen.setdefault(str(path.parent.resolve() / path.name), place)
    return list(seen.values())


def _ask(python: str) -> dict[str, Any]:
    try:
        # Not in the home: a checkout there, ~/edgekit, would be taken for the package.
        done = subprocess.run(
            [python, "-c", ASK], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, cwd="/", timeout=60,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return {}


def _line(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            text = file.read(400).split(b"\n")[0].rstrip(b"\0 ").decode("utf-8", "replace")
    except OSError:
        return ""
    return _shown(text)


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _named(path: str, name: str) -> str:
    with contextlib.suppress(OSError), Path(path).open(errors="replace") as file:
        for line in file:
            if line.startswith(name + "="):
                value = line[len(name) + 1 :].strip().strip('"')
                return _shown(value)[:200]
    return ""


def _kilobytes(path: str, name: str) -> int:
    """A row of /proc/meminfo, in bytes; 0 where it is not found."""
    with contextlib.suppress(OSError, ValueError, IndexError), Path(path).open() as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


# ---- goods -----------------------------------------------------------------------------------


def _place(group: dict[str, Any]) -> Path:
    kind, digest = group["kind"], group["digest"]
    if kind not in KINDS or not DIGEST.fullmatch(digest):
        raise RefusalError("protocol", "no such kind of goods")
    place: Path = base() / kind / str(digest)
    return place


def lacks(groups: list[dict[str, Any]]) -> list[int]:
    """Which of the groups are not here, or are here and damaged."""
    missing = []
    for index, group in enumerate(groups):
        place = _place(group)
        if place.is_dir() and (group["kind"] == "wheels" or _is_whole(place, group)):
            with contextlib.suppress(OSError):
                os.utime(str(place))  # used last now: see prune
        else:
            missing.append(index)
    return missing


def _is_whole(place: Path, group: dict[str, Any]) -> bool:
    """Hashes of small goods are read again: a card that lost power loses files' content."""
    return all(_sha256(place / _name(file)) == file["sha256"] for file in group["files"])


def _name(file: dict[str, Any]) -> str:
    name = file["name"]
    if not NAME.fullmatch(name):
        raise RefusalError("protocol", "a file's name is not plain")
    return str(name)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(CHUNK), b""):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def put(asked: dict[str, Any], wire: Wire) -> None:
    """Store each group as it comes; those that are complete stay when the connection is cut."""
    needs = sum(group["needs"] for group in asked["groups"])
    free = _space()["free"]
    if free < needs + SPARE_BYTES:
        raise RefusalError("disk-full", free=free, needs=needs)
    try:
        for group in asked["groups"]:
            _store(group, wire)
            wire.send("stored", digest=group["digest"])
        os.sync()
    except OSError as error:
        if ERRNO_CODES.get(error.errno or 0) != "disk-full":
            raise
        for group in asked["groups"]:  # half of them are of use to nobody
            shutil.rmtree(str(_place(group)), ignore_errors=True)
        raise RefusalError("disk-full", free=free, needs=needs) from None
    wire.send("reply")


def _store(group: dict[str, Any], wire: Wire) -> None:
    place = _place(group)
    incoming = place.parent / f".incoming-{os.getpid()}-{place.name[:12]}"
    shutil.rmtree(str(incoming), ignore_errors=True)
    incoming.mkdir(mode=0o700)
    try:
        for file in group["files"]:
            _receive(incoming / _name(file), file, wire)
        if group["kind"] == "wheels":
            _unpack_wheel(incoming / _name(group["files"][0]), incoming, group["needs"])
        shutil.rmtree(str(place), ignore_errors=True)  # a damaged one
        _settle(incoming, place)
    finally:
        shutil.rmtree(str(incoming), ignore_errors=True)


def _settle(incoming: Path, place: Path) -> None:
    """Rename, unless another connection was quicker with the same."""
    try:
        incoming.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _receive(path: Path, file: dict[str, Any], wire: Wire) -> None:
    digest = hashlib.sha256()
    with path.open("xb") as target:
        for chunk in wire.read(file["bytes"]):
            digest.update(chunk)
            target.write(chunk)
    if digest.hexdigest() != file["sha256"]:
        raise RefusalError("damaged", f"{path.name} arrived damaged")


def _unpack_wheel(wheel: Path, to: Path, most: int) -> None:
    """What of a wheel is imported, beside it; then the wheel goes.

    ``NAME.data/purelib`` and ``platlib`` belong to the top; scripts and headers are left out.
    """
    with zipfile.ZipFile(str(wheel)) as archive:
        for info in archive.infolist():
            parts = _safe_parts(info)
            if len(parts) > 2 and parts[0].endswith(".data"):
                parts = parts[2:] if parts[1] in ("purelib", "platlib") else []
            if not parts or info.is_dir():
                continue
            most -= info.file_size
            if most < 0:
                raise RefusalError("damaged", f"{wheel.name} unpacks to more than it said")
            target = to.joinpath(*parts)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with archive.open(info) as packed, target.open("xb") as file:
                shutil.copyfileobj(packed, file, CHUNK)
    wheel.unlink()


def _safe_parts(info: zipfile.ZipInfo) -> list[str]:
    """The parts of a member's name; refuses links, devices and names that leave the folder."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    parts = info.filename.rstrip("/").split("/")
    unsafe = any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts)
    if unsafe or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RefusalError("damaged", "a member of a wheel would leave its folder")
    return parts


def _sweep() -> None:
    """Remove what a cut connection left, and jobs that nobody has asked for in a week."""
    for kind in KINDS:
        for left in (base() / kind).glob(".incoming-*"):
            if _age_s(left) > 3600:
                shutil.rmtree(str(left), ignore_errors=True)
    for job in (base() / "jobs").iterdir():
        if _age_s(job) > 7 * DAY_S and not _is_alive(job):
            shutil.rmtree(str(job), ignore_errors=True)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _prune(asked: dict[str, Any]) -> None:
    """Remove what was used longest ago while all goods are more than ``most_bytes``."""
    wanted = {_place(group) for group in asked["groups"]}
    goods = [place for kind in KINDS for place in (base() / kind).iterdir()]
    sizes = {place: _size(place) for place in goods}
    total = sum(sizes.values())
    for place in sorted(set(goods) - wanted, key=_age_s, reverse=True):
        if total <= asked["most_bytes"]:
            return
        shutil.rmtree(str(place), ignore_errors=True)
        total -= sizes[place]


def _size(place: Path) -> int:
    total = 0
    for folder, _, names in os.walk(str(place)):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    return total


# ---- jobs ------------------------------------------------------------------------------------


def run(asked: dict[str, Any], wire: Wire) -> None:
    """Start the job, or find it running or ended, and tell how it goes until it ends.

    ``fresh``: an ended one that is no complete result is started again.
    """
    job = _job(asked)
    lock = _lock_soon(_board_lock())
    if lock is None:
        if not _is_alive(job):
            raise RefusalError("busy", "", **_holder())
        wire.send("running", picked_up=True, about=_holder())
    else:
        try:
            if _must_start(job, asked["fresh"]):
                missing = lacks(asked["groups"])
                if missing:
                    wire.send("reply", lacks=missing)
                    return
                _prune(asked)
                _start(job, asked, lock)
                wire.send("running", picked_up=False, about=_holder())
            else:
                wire.send("running", picked_up=True, about={"since": _since(job)})
        finally:
            os.close(lock)
    _follow(job, asked, wire)


def _job(asked: dict[str, Any]) -> Path:
    if not DIGEST.fullmatch(asked["job"]):
        raise RefusalError("protocol", "no such job")
    return base() / "jobs" / str(asked["job"])


def _must_start(job: Path, fresh: bool) -> bool:
    if not job.exists():
        return True
    waits = _read_json(job / OUTCOME).get("state") == "done" and not (job / FETCHED).exists()
    return fresh and not waits


def _board_lock() -> Path:
    named = os.environ.get("EDGEKIT_DEVICE_LOCK")
    if named:
        return Path(named)
    # Not TMPDIR, which is each user's own on some systems, unless there is nothing else (Termux).
    folder = Path("/tmp")
    if not folder.is_dir():
        folder = Path(os.environ.get("TMPDIR", "/tmp"))
    return folder / "edgekit-device.lock"


def _open_lock(path: Path) -> int:
    """The file of a lock. In /tmp it may be another user's: never followed, never created twice."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for mode in (os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR, os.O_RDONLY):
        try:
            descriptor = os.open(str(path), flags | mode, 0o600)
        except (FileNotFoundError, FileExistsError, PermissionError):
            continue
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:  # a pipe; a link to our own
            os.close(descriptor)
            raise RefusalError("system", f"{path} is no plain file: remove it there")
        if mode & os.O_CREAT and path == _board_lock():
            os.fchmod(descriptor, 0o666)  # whoever holds it next says who they are
        return descriptor
    raise RefusalError("system", f"{path} cannot be opened: remove it there")


def _try_lock(path: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """A descriptor that holds the lock, or None where another process does."""
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock_soon(path: Path) -> int | None:
    """The lock, also where somebody's probe holds it for a moment."""
    for _ in range(10):
        lock = _try_lock(path)
        if lock is not None:
            return lock
        time.sleep(0.2)
    return None


@contextlib.contextmanager
def _shared(path: Path) -> Iterator[None]:
    lock = _try_lock(path, fcntl.LOCK_SH) if path.parent.exists() else None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _is_alive(job: Path) -> bool:
    """Whether the job's process lives: it holds the lock of its folder."""
    if not (job / "alive").exists():
        return False
    lock = _try_lock(job / "alive", fcntl.LOCK_SH)
    if lock is None:
        return True
    os.close(lock)
    return False


def _holder() -> dict[str, str]:
    """Who holds the board: ``who``, ``since`` and which ``job``, as they said."""
    descriptor = _open_lock(_board_lock())
    try:
        found = _parsed(os.read(descriptor, MAX_HOLDER))
    finally:
        os.close(descriptor)
    return {name: _shown(str(found.get(name, "?"))[:100]) for name in ("who", "since", "job")}


def _say_who(lock: int, about: dict[str, Any]) -> None:
    """Write into the lock's file who holds it, where it may be written."""
    with contextlib.suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(about).encode(), 0)


def _busy() -> dict[str, str] | None:
    lock = _try_lock(_board_lock(), fcntl.LOCK_SH)
    if lock is None:
        return _holder()
    os.close(lock)
    return None


def _since(job: Path) -> str:
    return str(_read_json(job / "job.json").get("since", "?"))[:100]


def _start(job: Path, asked: dict[str, Any], lock: int) -> None:
    """Start the process that measures; it inherits both locks and outlives the connection."""
    shutil.rmtree(str(job), ignore_errors=True)
    job.mkdir(mode=0o700)
    about = {"who": asked["who"], "since": time.strftime("%Y-%m-%d %H:%M:%S %Z")}
    _write_json(job / "job.json", {**about, "request": asked["request"], "sent": asked["wheels"]})
    _say_who(lock, {**about, "job": asked["job"]})
    alive = _try_lock(job / "alive")
    assert alive is not None
    try:
        with (job / LOG).open("wb") as log:
            process = subprocess.Popen(
                [asked["python"], "-m", "edgekit.profiling.remote.board", str(job)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=str(job),
                env=_environment(asked["wheels"]), pass_fds=(lock, alive), start_new_session=True,
            )  # fmt: skip
        _write_json(job / "process.json", {"pid": process.pid})
    finally:
        os.close(alive)


def _environment(wheels: list[str]) -> dict[str, str]:
    places = [str(_place({"kind": "wheels", "digest": digest})) for digest in wheels]
    own = [place for place in [os.environ.get("PYTHONPATH", "")] if place]
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    if places or own:
        environment["PYTHONPATH"] = os.pathsep.join(places + own)
    return environment


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return _parsed(file.read(MAX_REQUEST))
    except OSError:
        return {}


def _parsed(data: bytes) -> dict[str, Any]:
    """A JSON object; empty where it is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name("." + path.name)
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def _follow(job: Path, asked: dict[str, Any], wire: Wire) -> None:
    """Frames of what is new in the job's folder, until its process has ended."""
    signal.alarm(0)  # the host gives up when it wants
    # Somebody else who watches the same job must not clean it away before this one has it all.
    with _shared(job / "watched"):
        _tell_all(job, asked, wire)


def _tell_all(job: Path, asked: dict[str, Any], wire: Wire) -> None:
    news = News(job, asked.get("lines_seen", 0), wire)
    while True:
        alive = _is_alive(job)  # before reading: what an ended job wrote is all there
        news.tell()
        if not alive:
            break
        time.sleep(asked.get("pause_s", 1.0))
    wire.send("outcome", outcome=_outcome(job))


def _outcome(job: Path) -> dict[str, Any]:
    found = _read_json(job / OUTCOME)
    if found:
        return found
    try:
        with (job / LOG).open("rb") as log:
            log.seek(max((job / LOG).stat().st_size - 2000, 0))
            lines = log.read().decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    if _space()["free"] < SPARE_BYTES:
        lines.append("no space left on the disk")
    return {"state": "dead", "log": [line for line in lines if line.strip()][-1:]}


class News:
    """What the host has not been told yet of one job."""

    def __init__(self, job: Path, lines_seen: int, wire: Wire) -> None:
        self._job, self._wire, self._seen = job, wire, lines_seen
        self._version: tuple[int, int] = (0, 0)
        self._last = time.monotonic()

    def tell(self) -> None:
        """Send new lines, a new result, or at times a sign of life."""
        if self._tell_lines() + self._tell_result():
            self._last = time.monotonic()
        elif time.monotonic() - self._last > BEAT_S:
            self._wire.send("beat")
            self._last = time.monotonic()

    def _tell_lines(self) -> int:
        try:
            with (self._job / PROGRESS).open("rb") as file:
                lines = file.read(MAX_PROGRESS).split(b"\n")[:-1]
        except OSError:
            return 0
        new = lines[self._seen :]
        self._seen = len(lines)
        if new:
            self._wire.send("progress", b"\n".join(new), lines_seen=self._seen)
        return len(new)

    def _tell_result(self) -> int:
        path = self._job / RESULT
        try:
            facts = path.stat()
            version = (facts.st_mtime_ns, facts.st_ino)
            if version == self._version:
                return 0
            data = path.read_bytes()
        except OSError:
            return 0
        self._version = version
        self._wire.send("result", data)
        return 1


def stop(asked: dict[str, Any], wire: Wire) -> None:
    """Interrupt the job; after a while kill it. Then what it has measured."""
    job = _job(asked)
    pid = _read_json(job / "process.json").get("pid")
    for number in (signal.SIGINT, signal.SIGKILL):
        if isinstance(pid, int) and pid > 1 and _is_alive(job):
            with contextlib.suppress(ProcessLookupError):
                _signal(pid, number)
            _wait_for_end(job)
    if job.exists():
        _follow(job, asked, wire)
    else:
        wire.send("outcome", outcome={"state": "dead"})


def _signal(pid: int, number: int) -> None:
    """Interrupt the process, which ends its own; kill all of its session."""
    if number == signal.SIGKILL:
        os.killpg(pid, number)
    else:
        os.kill(pid, number)


def _wait_for_end(job: Path) -> None:
    until = time.monotonic() + STOP_S
    while _is_alive(job) and time.monotonic() < until:
        time.sleep(0.1)


def clean(asked: dict[str, Any], wire: Wire) -> None:
    """Remove the job's folder; where somebody else is being told of it, mark it as fetched."""
    job = _job(asked)
    if job.exists() and not _is_alive(job):
        lock = _try_lock(job / "watched")
        if lock is not None:
            shutil.rmtree(str(job), ignore_errors=True)
            os.close(lock)
        else:
            (job / FETCHED).touch()
    wire.send("reply")


OPERATIONS: dict[str, Callable[[dict[str, Any], Wire], None]] = {
    "probe": probe,
    "put": put,
    "run": run,
    "stop": stop,
    "clean": clean,
}


def own_stdout() -> BinaryIO:
    """The way to the host, for frames alone: what else is printed goes to stderr."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sink
