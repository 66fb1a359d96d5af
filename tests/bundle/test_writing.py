from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.bundle import open_bundle, write_bundle, writing
from edgekit.bundle.writing import check_destination
from edgekit.errors import BundleError, OutputExistsError
from tests.bundle import sample_bundle
from tests.bundle.sample_bundle import FILES, MANIFEST, listing

ROOT = Path(__file__).parents[2]
SHAPES = ["b", "b.edgekit"]  # a folder, a zip


def content(path: Path) -> dict[str, bytes]:
    """What is in a bundle, opened or not."""
    if path.is_dir():
        return listing(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_written_can_be_opened(tmp_path: Path, name: str):
    where = tmp_path / "new" / "folder" / name
    assert sample_bundle.write(where) == where
    assert content(where).keys() == {"manifest.json", *FILES}
    with open_bundle(where) as bundle:
        facts = bundle.manifest.files["model.dat"]
        assert facts.bytes == len(FILES["model.dat"])
        assert facts.sha256 == hashlib.sha256(FILES["model.dat"]).hexdigest()
    assert [entry.name for entry in where.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", SHAPES)
def test_same_inputs_same_bytes(tmp_path: Path, name: str):
    one = sample_bundle.write(tmp_path / "one" / name)
    with _umask(0o027):
        other = write_bundle(
            tmp_path / "other" / name, MANIFEST, dict(reversed(FILES.items())), force=False
        )
    if one.is_file():
        assert one.read_bytes() == other.read_bytes()
    assert content(one) == content(other)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_the_zip_is_stored_in_order_with_no_dates(tmp_path: Path):
    path = sample_bundle.write(tmp_path / "b.edgekit")
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    assert [info.filename for info in infos] == ["manifest.json", *sorted(FILES)]
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert {info.external_attr >> 16 for info in infos} == {0o100644}


def test_the_folder_has_ordinary_permissions(tmp_path: Path):
    with _umask(0o022):
        where = sample_bundle.write(tmp_path / "b")
    assert stat.S_IMODE(where.stat().st_mode) == 0o755
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in where.iterdir()} == {0o644}


# ---- what is there already -------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_is_overwritten_without_force(tmp_path: Path, name: str):
    where = sample_bundle.write(tmp_path / name)
    before = content(where)
    with pytest.raises(
        OutputExistsError, match=r"exists: give --force \(force=True\) to replace it, or"
    ):
        sample_bundle.write(where, target="arm")
    assert content(where) == before
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", SHAPES)
def test_force_replaces_a_bundle(tmp_path: Path, name: str):
    where = sample_bundle.write(tmp_path / name, files={"extra.bin": b"old"})
    sample_bundle.write(where, target="arm", force=True)
    with open_bundle(where) as bundle:
        assert bundle.manifest.target == "arm"
    assert "extra.bin" not in content(where)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_force_replaces_a_damaged_bundle_and_one_of_a_newer_schema(tmp_path: Path):
    where = sample_bundle.write(tmp_path / "b")
    (where / "model.dat").unlink()
    (where / ".DS_Store").touch()
    text = (where / "manifest.json").read_text()
    (where / "manifest.json").write_text(text.replace('"schema_version": 1', '"schema_version": 9'))
    sample_bundle.write(where, force=True)
    open_bundle(where).close()


def _foreign(where: Path) -> None:
    sample_bundle.write(where)
    (where / "holiday.jpg").write_bytes(b"jpg")


def _other_manifest(where: Path) -> None:
    where.mkdir()
    (where / "manifest.json").write_text('{"name": "a web app"}')


def _other_folder(where: Path) -> None:
    where.mkdir()
    (where / "thesis.tex").write_text("years of work")


PRECIOUS = [
    (_foreign, "b", r"holds files that are not the bundle's \(holiday.jpg\)"),
    (_other_manifest, "b", "has a manifest.json that is not edgekit's"),
    (_other_folder, "b", "has no manifest.json"),
    (lambda where: where.write_text("text"), "b", "is a file"),
    (lambda where: where.write_text("text"), "b.edgekit", "is not a zip with a manifest.json"),
    (_other_folder, "b.edgekit", "is a folder"),
]


@pytest.mark.parametrize(("make", "name", "message"), PRECIOUS)
def test_force_never_replaces_what_is_no_bundle(tmp_path: Path, make, name: str, message: str):
    where = tmp_path / name
    make(where)
    before = content(where) if where.is_dir() else where.read_bytes()
    for refuse in (sample_bundle.write, check_destination):
        with pytest.raises(BundleError, match=f"--force replaces edgekit bundles only.*{message}"):
            refuse(where, force=True)
        with pytest.raises(OutputExistsError):
            refuse(where, force=False)
    assert (content(where) if where.is_dir() else where.read_bytes()) == before


def test_an_empty_folder_counts_as_nothing_there(tmp_path: Path):
    (tmp_path / "b").mkdir()
    check_destination(tmp_path / "b", force=False)
    sample_bundle.write(tmp_path / "b")
    open_bundle(tmp_path / "b").close()


def test_a_link_is_followed_not_replaced(tmp_path: Path):
    sample_bundle.write(tmp_path / "real")
    (tmp_path / "latest").symlink_to("real")
    sample_bundle.write(tmp_path / "latest", force=True, target="arm")
    assert (tmp_path / "latest").is_symlink()
    with open_bundle(tmp_path / "real") as bundle:
        assert bundle.manifest.target == "arm"


# ---- no space, no permission -----------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with 64 KB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(where)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs can be mounted by root only")
    yield where
    subprocess.run(["umount", str(where)], check=True)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_nothing(small_disk: Path, name: str, force: bool):
    where = small_disk / name
    if force:
        sample_bundle.write(where)
    before = content(where) if force else {}
    with pytest.raises(
        BundleError, match=r"no space left on the device: the bundle needs \d+"
    ) as e:
        sample_bundle.write(where, force=force, files={"model.dat": bytes(200_000)})
    assert "\n" not in str(e.value)
    assert [entry.name for entry in small_disk.iterdir()] == ([name] if force else [])
    if force:
        assert content(where) == before


@pytest.mark.parametrize("name", SHAPES)
def test_any_failure_leaves_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    calls = 0

    def fails_late(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == (1 if name.endswith(".edgekit") else 3):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", fails_late)
    with pytest.raises(BundleError, match="no space left on the device"):
        sample_bundle.write(tmp_path / "new" / "folder" / name)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sample_bundle.write(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(
        BundleError, match=r"cannot write '.*file/b': (Not a directory|File exists)"
    ):
        sample_bundle.write(tmp_path / "file" / "b")


def test_a_failed_rename_puts_the_old_bundle_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    where = sample_bundle.write(tmp_path / "b")
    real = Path.rename

    def fails_for_new(self: Path, target: Path) -> Path:
        if "-new-" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_new)
    with pytest.raises(BundleError, match="Input/output error"):
        sample_bundle.write(where, force=True, target="arm")
    with open_bundle(where) as bundle:
        assert bundle.manifest.target == "x86"
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]


# ---- kill -9 ---------------------------------------------------------------------------------

# Writes one bundle per folder, and dies at the n-th system call that touches it: Python's audit
# events count them, so that nothing in edgekit knows of the test.
KILLED = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from tests.bundle import sample_bundle

    name, force, *folders = sys.argv[1:]

    def die_at(n, folder):
        count = 0
        def hook(event, arguments):
            nonlocal count
            if any(str(a).startswith(folder) for a in arguments if isinstance(a, (str, Path))):
                count += 1
                if count == n:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)

    for n, folder in enumerate(folders, 1):
        child = os.fork()
        if child == 0:
            die_at(n, folder)
            sample_bundle.write(Path(folder) / name, force=force == "force", target="arm")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status))
    """
)


@pytest.mark.skipif(os.name != "posix", reason="kills with a Unix signal")
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("force", ["force", ""])
def test_a_run_killed_anywhere_leaves_a_whole_bundle(tmp_path: Path, name: str, force: str):
    folders = [tmp_path / f"kill{n:02}" for n in range(1, 61)]
    for folder in folders:
        folder.mkdir()
        if force:
            sample_bundle.write(folder / name)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, name, force, *map(str, folders)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    exits = [int(line) for line in done.stdout.split()]
    kills = exits.count(-9)
    assert exits == [-9] * kills + [0] * (len(exits) - kills)  # later calls come later
    assert 5 <= kills < len(exits), "the test must reach every call and see the end"
    found = [_target_of(folder / name) for folder in folders]
    assert found[-1] == "arm"
    assert found[0] == ("x86" if force else None)
    assert set(found) == {found[0], "arm"}  # the old or the new one, never anything else
    for folder in folders:
        sample_bundle.write(folder / name, force=True)  # cleans up
        assert [entry.name for entry in folder.iterdir()] == [name]


def _target_of(path: Path) -> str | None:
    """Target of the bundle at ``path``; None when there is none. Half a bundle is an error."""
    try:
        with open_bundle(path) as bundle:
            return bundle.manifest.target
    except BundleError as error:
        if "no bundle at" not in str(error):
            raise
        return None


def test_siblings_of_a_living_writer_and_of_others_are_left_alone(tmp_path: Path):
    host = writing._host()
    left = [
        f".b.edgekit-new-{host}-{os.getpid()}-00000000",  # alive
        ".b.edgekit-new-ffffffff-1-00000000",  # on another machine, a shared disk
        f".bb.edgekit-new-{host}-999999999-00000000",  # of another bundle
        ".b.edgekit-new-mine",  # not ours
    ]
    for name in left:
        (tmp_path / name).mkdir()
    dead = tmp_path / f".b.edgekit-new-{host}-999999999-00000000"
    dead.mkdir()
    stale = tmp_path / ".b.edgekit-old-ffffffff-1-00000001"
    stale.mkdir()
    os.utime(stale, (1, 1))
    sample_bundle.write(tmp_path / "b")
    assert {entry.name for entry in tmp_path.iterdir()} == {*left, "b"}


# ---- several writers -------------------------------------------------------------------------

RACE = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from edgekit.errors import OutputExistsError
    from tests.bundle import sample_bundle

    pattern, force, target, rounds = sys.argv[1:]  # "{n}" in the pattern: another path each round
    sys.stdin.readline()
    won = 0
    for n in range(int(rounds)):
        try:
            sample_bundle.write(Path(pattern.format(n=n)), force=bool(force), target=target)
            won += 1
        except OutputExistsError:
            pass
    print(won)
    """
)


@pytest.mark.parametrize("suffix", ["", ".edgekit"])
@pytest.mark.parametrize("force", [True, False])
def test_writers_at_the_same_time(tmp_path: Path, suffix: str, force: bool):
    rounds = 20
    pattern = str(tmp_path / ("b" if force else "b{n}")) + suffix
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, pattern, "force" * force, target, str(rounds)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for target in ("arm", "x86")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    won = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sum(won) == (2 * rounds if force else rounds)
    entries = sorted(tmp_path.iterdir())
    assert len(entries) == (1 if force else rounds)
    for entry in entries:
        open_bundle(entry).close()
