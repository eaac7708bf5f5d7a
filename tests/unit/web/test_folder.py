"""Files below a folder, and that nothing else is ever opened: links, pipes, devices, exchanged folders."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from bgfetch.web.folder import Folder, Stamp, stamp_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of models beside something that is nobody's business."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.pem").write_bytes(b"secret")
    root = tmp_path / "models"
    (root / "m").mkdir(parents=True)
    (root / "m" / "a.bin").write_bytes(b"model")
    return root


def read(folder: Folder, *parts: str) -> bytes:
    """What stands in the file."""
    fd = folder.open(parts)
    with os.fdopen(fd, "rb") as file:
        return file.read()


def test_a_file(root: Path) -> None:
    """An ordinary file is given, with a stamp that changes when it is written to or replaced."""
    folder = Folder(root)
    assert read(folder, "m", "a.bin") == b"model"
    assert [parts for parts, _ in folder.files()] == [("m", "a.bin")]

    def stamp() -> Stamp:
        fd = folder.open(("m", "a.bin"))
        try:
            return stamp_of(fd)
        finally:
            os.close(fd)

    first = stamp()
    assert dict(folder.files())["m", "a.bin"] == first
    (root / "m" / "new").write_bytes(b"other")
    os.utime(root / "m" / "new", ns=(first.mtime_ns, first.mtime_ns))
    (root / "m" / "new").replace(root / "m" / "a.bin")
    assert stamp() != first


def test_links_within(root: Path) -> None:
    """A link to a file or folder below the root is followed: a Hugging Face cache is made of such."""
    (root / "blobs").mkdir()
    (root / "blobs" / "0123").write_bytes(b"blob")
    (root / "m" / "model.bin").symlink_to("../blobs/0123")
    (root / "alias").symlink_to("m")
    folder = Folder(root)
    assert read(folder, "m", "model.bin") == b"blob"
    assert read(folder, "alias", "a.bin") == b"model"
    names = ["/".join(parts) for parts, _ in folder.files()]
    assert names == ["alias/a.bin", "alias/model.bin", "blobs/0123", "m/a.bin", "m/model.bin"]


def test_a_root_that_is_a_link(root: Path, tmp_path: Path) -> None:
    """The folder itself may be one."""
    (tmp_path / "link").symlink_to(root)
    assert read(Folder(tmp_path / "link"), "m", "a.bin") == b"model"


def hostile(root: Path) -> list[tuple[str, ...]]:
    """Names that lead out, or to what is no file."""
    outside = root.parent / "secret"
    (root / "out").symlink_to(outside / "key.pem")
    (root / "outdir").symlink_to(outside)
    (root / "rel").symlink_to("../secret/key.pem")
    (root / "chain").symlink_to("rel")
    (root / "circle").symlink_to("circle")
    (root / "null").symlink_to("/dev/null")
    (root / "proc").symlink_to("/proc/self/environ")
    (root / ".hidden").write_bytes(b"x")
    (root / "to-hidden").symlink_to(".hidden")
    (root / "dangling").symlink_to("nothing")
    (root / "loop").mkdir()
    (root / "loop" / "up").symlink_to("..")
    os.mkfifo(root / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(".", os.O_RDONLY)
    os.chdir(root)  # the names of sockets are short
    try:
        listener.bind("sock")
    finally:
        os.fchdir(here)
        os.close(here)
        listener.close()
    return [
        ("out",), ("outdir", "key.pem"), ("rel",), ("chain",), ("circle",), ("null",), ("proc",), ("to-hidden",), ("dangling",),
        ("pipe",), ("sock",), ("m",), (), ("m", "a.bin", "x"), ("nothing",), ("n" * 255,),
    ]  # fmt: skip


def test_nothing_leads_out(root: Path) -> None:
    """Links out, devices, pipes, sockets, folders and circles are not found, at once, and not listed."""
    names = hostile(root)
    folder = Folder(root)
    for parts in names:
        with pytest.raises(FileNotFoundError):
            folder.open(parts)
    assert {parts for parts, _ in folder.files()} == {("m", "a.bin")}


def test_a_folder_exchanged_for_a_link_leads_nowhere(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking where a name leads and opening it, a folder becomes a link to elsewhere: nothing is opened."""
    folder = Folder(root)
    resolved = folder._resolved

    def exchanged(parts: tuple[str, ...]) -> tuple[str, ...]:
        found = resolved(parts)
        (root / "m").rename(root / "old")
        (root / "m").symlink_to(root.parent / "secret")
        return found

    (root.parent / "secret" / "a.bin").write_bytes(b"secret")
    monkeypatch.setattr(folder, "_resolved", exchanged)
    with pytest.raises(FileNotFoundError):
        folder.open(("m", "a.bin"))


def test_no_descriptor_is_lost(root: Path) -> None:
    """Whatever is asked, no descriptor stays open."""
    names, folder = hostile(root), Folder(root)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for parts in names:
        with pytest.raises(FileNotFoundError):
            folder.open(parts)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Have files of this name not opened: what chmod says counts for nothing where tests are run by root."""
    really = os.open

    def opened(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if Path(path).name == name:
            raise OSError(number, os.strerror(number), str(path))
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opened)


def test_what_may_not_be_read_is_not_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that `open` does not find for want of permission is no file to the list either; the others are."""
    (root / "m" / "locked.bin").write_bytes(b"locked")
    folder = Folder(root)
    refuse(monkeypatch, "locked.bin", errno.EACCES)
    with pytest.raises(FileNotFoundError):
        folder.open(("m", "locked.bin"))
    assert [parts for parts, _ in folder.files()] == [("m", "a.bin")]


def test_an_ill_disk_hides_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be opened for now is listed: a list must not be short because descriptors were."""
    refuse(monkeypatch, "a.bin", errno.EMFILE)
    assert [parts for parts, _ in Folder(root).files()] == [("m", "a.bin")]


def test_a_date_that_was_set_back(root: Path) -> None:
    """Written to in place under its old size and date, a file is in another state."""
    folder, file = Folder(root), root / "m" / "a.bin"
    before, facts = dict(folder.files())["m", "a.bin"], file.stat()
    while file.stat().st_ctime_ns == facts.st_ctime_ns:  # dates are counted in ticks
        with file.open("r+b") as stream:
            stream.write(b"other")
        os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    after = dict(folder.files())["m", "a.bin"]
    assert (after.inode, after.size, after.mtime_ns) == (before.inode, before.size, before.mtime_ns)
    assert after.state != before.state
