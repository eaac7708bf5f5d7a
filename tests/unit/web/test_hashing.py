"""Digests in the background: right, remembered, first what is asked for, never of a file that changed meanwhile."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bgfetch.vfs import Vfs
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
