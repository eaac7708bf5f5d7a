"""The calls of the system, one by one, where they promise more than the system does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bgfetch.testing import FailingVfs
from bgfetch.vfs import Vfs


@pytest.fixture
def vfs() -> Vfs:
    """The real one."""
    return Vfs()


def test_writes_and_reads_at_offsets(vfs: Vfs, tmp_path: Path) -> None:
    """All of it, wherever it stands; a read past the end is short."""
    fd = vfs.open(tmp_path / "file", create=True)
    vfs.pwrite(fd, b"world", 5)
    vfs.pwrite(fd, memoryview(b"hello"), 0)
    buffer = bytearray(20)
    assert vfs.pread_into(fd, memoryview(buffer), 0) == 10
    assert bytes(buffer[:10]) == b"helloworld"
    vfs.close(fd)


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a few bytes at a time gets all of them; one that takes none is an error, not a loop."""
    vfs = Vfs()
    fd = vfs.open(tmp_path / "file", create=True)
    real = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda fd, data, at: real(fd, bytes(data)[:3], at))
    vfs.pwrite(fd, b"0123456789", 0)
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    monkeypatch.setattr("os.pwrite", lambda *_: 0)
    with pytest.raises(OSError, match="took no bytes"):
        vfs.pwrite(fd, b"more", 0)
    vfs.close(fd)


def test_files_are_private_and_links_refused(vfs: Vfs, tmp_path: Path) -> None:
    """Nobody else may read what is created, and nobody leads us elsewhere with a link."""
    vfs.close(vfs.open(tmp_path / "file", create=True))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="symbolic links"):
        vfs.open(tmp_path / "link")
    vfs.make_directory(tmp_path / "a" / "b")
    vfs.make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_reserves_room(vfs: Vfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is as long as asked at once, also where the file system cannot reserve; it never shrinks."""
    fd = vfs.open(tmp_path / "file", create=True)
    vfs.allocate(fd, 0)
    vfs.allocate(fd, 10_000)
    assert os.fstat(fd).st_size == 10_000

    def cannot(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr("os.posix_fallocate", cannot)
    vfs.allocate(fd, 20_000)
    vfs.allocate(fd, 5_000)
    assert os.fstat(fd).st_size == 20_000
    vfs.close(fd)


def test_room_that_does_not_suffice_is_given_back(
    vfs: Vfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems keep what they found before there was no more: all there was on the disk."""
    fd = vfs.open(tmp_path / "file", create=True)
    real = os.posix_fallocate

    def half(fd: int, start: int, length: int) -> None:
        real(fd, start, length // 2)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("os.posix_fallocate", half)
    with pytest.raises(OSError, match="full"):
        vfs.allocate(fd, 100_000)
    assert os.fstat(fd).st_size == 0
    vfs.close(fd)


def test_replaces_whole_or_not_at_all(vfs: Vfs, tmp_path: Path) -> None:
    """Whichever operation fails, the old bytes or the new ones stand there, and no draft is left."""
    path = tmp_path / "small"
    for nth in range(1, 20):
        vfs.replace(path, b"old and longer")
        failing = FailingVfs(errno.EIO, nth)
        try:
            failing.replace(path, b"new")
        except OSError:
            assert path.read_bytes() in (b"old and longer", b"new")
        assert os.listdir(tmp_path) == ["small"]  # noqa: PTH208
        if not failing.reached:
            break
    assert vfs.read(path) == b"new"
    assert nth > 5


def test_reads_no_more_than_asked(vfs: Vfs, tmp_path: Path) -> None:
    """A file that somebody blew up does not fill our memory."""
    (tmp_path / "file").write_bytes(bytes(1000))
    assert len(vfs.read(tmp_path / "file", most=10)) == 10


def test_what_is_not_there_is_fine(vfs: Vfs, tmp_path: Path) -> None:
    """Deleting, listing and measuring nothing."""
    nothing = tmp_path / "nothing"
    vfs.unlink(nothing)
    vfs.remove_tree(nothing)
    vfs.remove_directory(nothing)
    assert vfs.names(nothing) == []
    assert vfs.size(nothing) is None
    assert vfs.size(tmp_path) is None


def test_removes_trees_and_no_more(vfs: Vfs, tmp_path: Path) -> None:
    """All below a directory goes; what a link in it leads to stays."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    tree = tmp_path / "tree"
    (tree / "deep" / "deeper").mkdir(parents=True)
    (tree / "deep" / "file").touch()
    (tree / "link").symlink_to(kept)
    vfs.remove_tree(tree)
    assert not tree.exists()
    assert (kept / "file").exists()


def test_gives_second_names(vfs: Vfs, tmp_path: Path) -> None:
    """A link shares the bytes and refuses a taken name; a rename replaces."""
    vfs.replace(tmp_path / "one", b"1")
    vfs.link(tmp_path / "one", tmp_path / "two")
    with pytest.raises(FileExistsError):
        vfs.link(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one").samefile(tmp_path / "two")
    vfs.make_read_only(tmp_path / "two")
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o444
    vfs.replace(tmp_path / "three", b"3", durable=False)
    vfs.rename(tmp_path / "three", tmp_path / "one")
    vfs.sync_file(tmp_path / "one")
    assert vfs.read(tmp_path / "one") == b"3"
    assert vfs.free_space(tmp_path) > 0
