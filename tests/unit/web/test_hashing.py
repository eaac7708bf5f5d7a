"""Digests in the background: right, remembered, first what is asked for, never of a file that changed meanwhile."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bgfetch.vfs import Vfs
from bgfetch.web import hashing as hashing_module
from bgfetch.web.digesting import Digests, digests_of, segment_size
from bgfetch.web.folder import Folder
from bgfetch.web.hashing import Hashing, Wanted
from bgfetch.web.index import Index
from bgfetch.web.paths import Parts

MIB = 1 << 20
LONG_AGO = (1_600_000_000.25, 1_600_000_000.25)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 8),
        (1, 8),
        (32 << 30, 8),
        ((32 << 30) + 1, 16),
        (64 << 30, 16),
        (128 << 30, 32),
        (256 << 30, 64),
        (10 << 40, 64),
    ],
)
def test_segment_sizes(size: int, expected: int) -> None:
    """8 MiB, doubled while there would be more than 4096, 64 MiB at most."""
    assert segment_size(size) == expected * MIB


@pytest.mark.parametrize("size", [0, 1, MIB, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 17 * MIB])
def test_digests(tmp_path: Path, size: int) -> None:
    """Whole and segments, as hashlib has them; a segment is known only by exactly its bytes."""
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    with (tmp_path / "f").open("rb") as file:
        got = digests_of(Vfs(), file.fileno(), size, lambda _count: True)
    pieces = [data[at : at + 8 * MIB] for at in range(0, size, 8 * MIB)]
    assert got == Digests(
        hashlib.sha256(data).hexdigest(),
        8 * MIB,
        tuple(hashlib.sha256(piece).hexdigest() for piece in pieces),
    )
    for index, piece in enumerate(pieces):
        start = index * 8 * MIB
        assert got.segment(start, start + len(piece), size) == got.segments[index]
        assert got.segment(start, start + len(piece) - 1, size) == ""
        assert got.segment(start + 1, start + len(piece), size) == ""


def test_a_file_cut_short_has_none(tmp_path: Path) -> None:
    """What is shorter than it was has no digests."""
    (tmp_path / "f").write_bytes(b"abc")
    with (tmp_path / "f").open("rb") as file:
        assert digests_of(Vfs(), file.fileno(), 4, lambda _count: True) is None


class Opened:
    """A folder that notes what was opened, and may be told to do something then."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.names: list[Parts] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self, parts: Parts) -> int:
        """Open it."""
        self.names.append(parts)
        fd = self.folder.open(parts)
        self.meanwhile()
        return fd


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Over `models`, of three files that were written long ago."""
    root = tmp_path / "models"
    root.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_bytes(name.encode() * 100)
        os.utime(root / name, LONG_AGO)
    return Opened(Folder(root))


@pytest.fixture
def hashing(opened: Opened, tmp_path: Path) -> Iterator[Hashing]:
    """With an index of its own."""
    made = Hashing(opened, Index(tmp_path / "index", Vfs()), Vfs())
    yield made
    made.close()


def wanted(opened: Opened, name: str) -> Wanted:
    """The file as it is."""
    stamp = dict(opened.folder.files())[name,]
    return Wanted((name,), stamp, opened.folder.path((name,)))


def test_remembered(opened: Opened, hashing: Hashing, tmp_path: Path) -> None:
    """What one process hashed the next one knows, and reads nothing; what was written to since is hashed again."""
    files = [wanted(opened, name) for name in "abc"]
    assert [hashing.known(each) for each in files] == [None, None, None]
    hashing.want(files)
    assert hashing.wait(10)
    known = hashing.known(files[0])
    assert known is not None
    assert known.sha256 == hashlib.sha256(b"a" * 100).hexdigest()
    hashing.close()
    before = list(opened.names)
    again = Hashing(opened, Index(tmp_path / "index", Vfs()), Vfs())
    again.want(files)
    assert again.wait(10)
    assert again.known(files[0]) == known
    assert opened.names == before
    (opened.folder.root / "a").write_bytes(b"b" * 100)
    assert again.known(wanted(opened, "a")) is None
    again.close()


def test_what_is_asked_for_goes_first(opened: Opened, hashing: Hashing) -> None:
    """A file that a client waits for is hashed before the rest of the folder."""
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go_on.wait(10)

    opened.meanwhile = hold
    hashing.want([wanted(opened, name) for name in "ab"], first=False)
    assert begun.wait(10)
    hashing.want([wanted(opened, "c")])
    go_on.set()
    assert hashing.wait(10)
    assert opened.names == [("a",), ("c",), ("b",)]


def test_progress(opened: Opened, hashing: Hashing) -> None:
    """Bytes done, of bytes asked about; of what is hashed already, too."""
    files = [wanted(opened, name) for name in "abc"]
    assert hashing.progress(files).done == 0
    hashing.want(files[:2])
    assert hashing.wait(10)
    progress = hashing.progress(files)
    assert (progress.done, progress.total) == (200, 300)
    assert (hashing.overall.done, hashing.overall.total) == (200, 200)


class Meddled(Vfs):
    """A disk on which somebody writes to a file right after the first read."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.reads = 0

    def pread_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        """Read, and meddle the first time."""
        got = super().pread_into(fd, buffer, offset)
        self.reads += 1
        if self.reads == 1:
            self.file.write_bytes(b"z" * 100)
        return got


def test_a_file_that_changes_is_hashed_again(opened: Opened, tmp_path: Path) -> None:
    """What was read while it changed does not count: no digest is ever of a state that is not the file's."""
    vfs = Meddled(opened.folder.root / "a")
    made = Hashing(opened, Index(tmp_path / "index", vfs), vfs)
    made.want([wanted(opened, "a")])
    assert made.wait(10)
    found = made.known(wanted(opened, "a"))
    made.close()
    assert found is not None
    assert found.sha256 == hashlib.sha256(b"z" * 100).hexdigest()
    assert vfs.reads == 2


def test_a_young_file_waits(opened: Opened, hashing: Hashing) -> None:
    """Where dates are whole seconds, a file is left alone until a later change would have another one."""
    now = float(int(time.time()))
    os.utime(opened.folder.root / "a", (now, now))
    hashing.want([wanted(opened, "a")])
    assert hashing.wait(10)
    assert time.time() - now >= 1.9
    assert hashing.known(wanted(opened, "a")) is not None


def test_gone_files_do_not_stop_it(opened: Opened, hashing: Hashing) -> None:
    """What was deleted meanwhile is passed over."""
    files = [wanted(opened, name) for name in "ab"]
    (opened.folder.root / "a").unlink()
    hashing.want(files)
    assert hashing.wait(10)
    assert hashing.known(files[1]) is not None


def test_a_damaged_index_is_begun_anew(opened: Opened, tmp_path: Path) -> None:
    """It is a memory only: what is no database is replaced."""
    (tmp_path / "index").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    made = Hashing(opened, Index(tmp_path / "index", Vfs()), Vfs())
    made.want([wanted(opened, "a")])
    assert made.wait(10)
    assert made.known(wanted(opened, "a")) is not None
    made.close()


def overwritten(file: Path, data: bytes) -> os.stat_result:
    """Write to it in place, and set its date back; what it was before."""
    before = file.stat()
    until = time.monotonic() + 10
    while True:  # dates are counted in ticks
        with file.open("r+b") as stream:
            stream.write(data)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        if file.stat().st_ctime_ns != before.st_ctime_ns:
            return before
        assert time.monotonic() < until


def test_a_file_whose_date_was_set_back_is_hashed_again(
    opened: Opened, hashing: Hashing, tmp_path: Path
) -> None:
    """Same inode, size and date of writing, but other bytes: neither what is known nor the index gives the old digest."""
    hashing.want([wanted(opened, "a")])
    assert hashing.wait(10)
    before = overwritten(opened.folder.root / "a", b"z" * 100)
    now = (opened.folder.root / "a").stat()
    assert (now.st_ino, now.st_size, now.st_mtime_ns) == (before.st_ino, 100, before.st_mtime_ns)
    assert hashing.known(wanted(opened, "a")) is None
    again = Hashing(opened, Index(tmp_path / "index", Vfs()), Vfs())
    again.want([wanted(opened, "a")])
    assert again.wait(10)
    found = again.known(wanted(opened, "a"))
    again.close()
    assert found is not None
    assert found.sha256 == hashlib.sha256(b"z" * 100).hexdigest()


def test_an_index_of_before_is_not_believed(opened: Opened, hashing: Hashing, tmp_path: Path) -> None:
    """What was remembered without the date of change is dropped."""
    store = sqlite3.connect(tmp_path / "index")
    store.execute("CREATE TABLE digests_1 (path TEXT PRIMARY KEY)")
    store.close()
    assert hashing.known(wanted(opened, "a")) is None
    store = sqlite3.connect(tmp_path / "index")
    names = store.execute("SELECT name FROM sqlite_master").fetchall()
    store.close()
    assert names == [("digests_2",)]


class Growing(Vfs):
    """A disk on which somebody writes to a file after every read of it, as long as it is told to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.reads = 0
        self.grows = True

    def pread_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        """Read, and have it grow."""
        got = super().pread_into(fd, buffer, offset)
        self.reads += 1
        if self.grows:
            with self.file.open("ab") as stream:
                stream.write(b"+")
            os.utime(self.file, LONG_AGO)  # else it is too young to be read again
        return got


class Delays:
    """Notes for how long files are put off, and has them wait for a moment only."""

    def __init__(self, hashing: Hashing) -> None:
        self.seconds: list[float] = []
        self.noted = threading.Condition()
        self._put_off = hashing._put_off
        hashing._put_off = self  # type: ignore[method-assign]

    def __call__(self, wanted: Wanted, seconds: float) -> None:
        """Note it."""
        with self.noted:
            self.seconds.append(seconds)
            self.noted.notify_all()
        self._put_off(wanted, 0.001)

    def wait(self, count: int) -> list[float]:
        """The first so many."""
        with self.noted:
            assert self.noted.wait_for(lambda: len(self.seconds) >= count, 10)
            return self.seconds[:count]


def test_a_growing_file_is_tried_later_and_later(opened: Opened, tmp_path: Path) -> None:
    """Twice as late each time, 5 min at most; once it rests it is hashed, and the next change begins anew."""
    vfs = Growing(opened.folder.root / "a")
    made = Hashing(opened, Index(tmp_path / "index", vfs), vfs)
    delays = Delays(made)
    made.want([wanted(opened, "a")])
    assert delays.wait(10) == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert made.is_changing(("a",))
    vfs.grows = False
    assert made.wait(10)
    assert made.known(wanted(opened, "a")) is not None
    assert not made.is_changing(("a",))
    delays.seconds.clear()
    overwritten(opened.folder.root / "a", b"z" * 100)
    vfs.grows = True
    made.want([wanted(opened, "a")])
    assert delays.wait(2) == [2, 4]
    made.close()


def test_a_growing_file_is_not_read_to_its_end(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at while it is read, and left as soon as it has changed."""
    monkeypatch.setattr(hashing_module, "_LOOK_EVERY", 2 * MIB)
    os.truncate(opened.folder.root / "a", 20 * MIB)
    os.utime(opened.folder.root / "a", LONG_AGO)
    vfs = Growing(opened.folder.root / "a")
    made = Hashing(opened, Index(tmp_path / "index", vfs), vfs)
    reads: list[int] = []
    put_off = made._put_off

    def noted(wanted: Wanted, seconds: float) -> None:
        reads.append(vfs.reads)
        vfs.grows = False
        put_off(wanted, seconds / 1000)

    monkeypatch.setattr(made, "_put_off", noted)
    made.want([wanted(opened, "a")])
    assert made.wait(10)
    made.close()
    assert reads == [2]


def test_a_file_that_is_young_at_every_look_is_changing(
    opened: Opened, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that grows so fast that it is never left alone is known as such before it was ever read."""
    delays = Delays(hashing)
    file = opened.folder.root / "a"

    def grow() -> None:
        with file.open("ab") as stream:
            stream.write(b"+")
        moment = time.time() + 1
        os.utime(file, (moment, moment))

    monkeypatch.setattr(opened, "folder", Written(opened.folder.root, grow))
    hashing.want([wanted(opened, "a")])
    delays.wait(2)
    assert hashing.is_changing(("a",))


class Written(Folder):
    """A folder in which somebody writes to whatever is about to be opened."""

    def __init__(self, root: Path, write: Callable[[], None]) -> None:
        super().__init__(root)
        self.write = write

    def open(self, parts: Parts) -> int:
        """Write to it, and open it."""
        self.write()
        return super().open(parts)


def test_no_error_ends_it(opened: Opened, hashing: Hashing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that makes it fail in a way nobody thought of is put off, and all others are hashed."""
    monkeypatch.setattr(hashing_module, "_AGAIN", 0.001)
    errors = [ValueError("never thought of"), RuntimeError("neither")]

    def fail() -> None:
        if errors:
            raise errors.pop()

    opened.meanwhile = fail
    files = [wanted(opened, name) for name in "abc"]
    hashing.want(files)
    assert hashing.wait(10)
    assert all(hashing.known(each) is not None for each in files)


def test_a_beginning_that_fails_ends_nothing(opened: Opened, hashing: Hashing) -> None:
    """Where it cannot be found out what there is to hash, what is asked for is hashed all the same."""
    begun = threading.Event()

    def fail() -> None:
        begun.set()
        raise ValueError

    hashing.begin(fail)
    assert begun.wait(10)
    hashing.want([wanted(opened, "a")])
    assert hashing.wait(10)
    assert hashing.known(wanted(opened, "a")) is not None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_replaced(opened: Opened, hashing: Hashing) -> None:
    """Whatever ended it, the next who asks is served."""

    def end() -> None:
        raise SystemExit

    opened.meanwhile = end
    hashing.want([wanted(opened, "a")])
    assert hashing._thread is not None
    hashing._thread.join(10)
    opened.meanwhile = lambda: None
    hashing.want([wanted(opened, "a")])
    assert hashing.wait(10)
    assert hashing.known(wanted(opened, "a")) is not None


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    """It is hashed and remembered like any other."""
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff"))
    try:
        root.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (root / "a").write_bytes(b"a" * 100)
    os.utime(root / "a", LONG_AGO)
    opened = Opened(Folder(root))
    for _ in range(2):
        made = Hashing(opened, Index(tmp_path / "index", Vfs()), Vfs())
        made.want([wanted(opened, "a")])
        assert made.wait(10)
        assert made.known(wanted(opened, "a")) is not None
        made.close()
    assert opened.names == [("a",)]
