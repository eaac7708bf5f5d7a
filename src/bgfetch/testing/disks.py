"""Disks that misbehave: one that fails at a given operation, and one that forgets what was not synced.

Both stand in the place of `bgfetch.vfs.Vfs` and do the real operation underneath. The shape of their tests is
SQLite's: let the Nth operation fail, or cut the power at it, for N = 1, 2, 3 ... until a run never reaches N.
"""

# ruff: noqa: D102 - Vfs says what each method does

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from bgfetch.vfs import Vfs

__all__ = ["FailingVfs", "Fate", "ForgetfulVfs", "fates"]

_SECTOR = 512

_EVERYTHING = frozenset({
    "allocate", "datasync", "link", "make_directory", "make_read_only", "open", "pread_into", "pwrite", "remove_directory",
    "rename", "sync", "sync_directory", "truncate", "unlink",
})  # fmt: skip

# What an error can come from; any other one can come from everything.
_CAN_FAIL: dict[int, frozenset[str]] = {
    errno.ENOSPC: frozenset({"allocate", "create", "link", "make_directory", "pwrite", "rename"}),
    errno.EMFILE: frozenset({"open", "sync_directory"}),
}


class _SteppedVfs(Vfs):
    """The real file system with a word before each operation that can fail."""

    def _step(self, operation: str) -> None:
        raise NotImplementedError

    def open(self, path: Path, *, create: bool = False, readonly: bool = False) -> int:
        self._step("create" if create and not os.path.lexists(path) else "open")
        return super().open(path, create=create, readonly=readonly)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        self._step("pwrite")
        super().pwrite(fd, data, offset)

    def pread_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        self._step("pread_into")
        return super().pread_into(fd, buffer, offset)

    def allocate(self, fd: int, length: int) -> None:
        self._step("allocate")
        super().allocate(fd, length)

    def truncate(self, fd: int, length: int) -> None:
        self._step("truncate")
        super().truncate(fd, length)

    def datasync(self, fd: int) -> None:
        self._step("datasync")
        super().datasync(fd)

    def sync(self, fd: int) -> None:
        self._step("sync")
        super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        self._step("sync_directory")
        super().sync_directory(path)

    def make_directory(self, path: Path) -> None:
        self._step("make_directory")
        super().make_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self._step("rename")
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        self._step("link")
        super().link(source, target)

    def unlink(self, path: Path) -> None:
        self._step("unlink")
        super().unlink(path)

    def remove_directory(self, path: Path) -> None:
        self._step("remove_directory")
        super().remove_directory(path)

    def make_read_only(self, path: Path) -> None:
        self._step("make_read_only")
        super().make_read_only(path)


class FailingVfs(_SteppedVfs):
    """A disk that refuses its Nth operation, or that one and all after it until it is healed.

    Only operations count that can meet the error in reality: ENOSPC comes from what needs room, EMFILE from what
    opens. A write that is refused has written half of its bytes.

    Args:
        error: The errno.
        nth: Which operation is the first to be refused, from 1; 0 = none.
        sticky: Whether those after it are refused as well.
        refused: Called at each refusal with the operation's name, on whatever thread met it.
    """

    def __init__(
        self, error: int, nth: int, *, sticky: bool = False, refused: Callable[[str], None] | None = None
    ) -> None:
        super().__init__()
        self.count = 0
        self.failures = 0
        self._error = error
        self._nth = nth
        self._sticky = sticky
        self._refused = refused
        self._healed = False
        self._counting = threading.Lock()

    @property
    def reached(self) -> bool:
        """Whether the run got as far as the Nth operation."""
        return self.failures > 0

    def heal(self) -> None:
        """Refuse nothing from now on."""
        self._healed = True

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of `data`, or half of it and fail."""
        try:
            super().pwrite(fd, data, offset)
        except OSError:
            with memoryview(data) as view:
                os.pwrite(fd, view[: len(view) // 2], offset)
            raise

    def _step(self, operation: str) -> None:
        can_fail = _CAN_FAIL.get(self._error, _EVERYTHING | {"create"})
        if operation not in can_fail and not (operation == "create" and "open" in can_fail):
            return
        with self._counting:
            self.count += 1
            due = self.count == self._nth or (self._sticky and self._nth and self.count > self._nth)
            if self._healed or not due:
                return
            self.failures += 1
        if self._refused is not None:
            self._refused(operation)
        raise OSError(self._error, os.strerror(self._error), operation)


class Fate(StrEnum):
    """What a power cut does to something that was not synced."""

    KEPT = "kept"
    LOST = "lost"
    TORN = "torn"


def fates(seed: int) -> Iterator[Fate]:
    """Fates without end; each seed has its own mood, from losing nearly everything to keeping it."""
    chance = random.Random(seed)  # noqa: S311 - a test's chance
    kept = chance.choice((0.02, 0.3, 0.5, 0.7, 0.98))
    while True:
        draw = chance.random()
        yield Fate.KEPT if draw < kept else Fate.TORN if draw > 1 - (1 - kept) / 4 else Fate.LOST


@dataclass(eq=False)
class _File:
    """One file's bytes: what is durable, and what was written since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        self.durable = self.after(Fate.KEPT for _ in self.pending)
        self.pending.clear()

    def after(self, fates: Iterable[Fate]) -> bytearray:
        """The bytes when each pending write has had its fate; a torn one ends at the end of some sector."""
        data = bytearray(self.durable)
        for (offset, written), fate in zip(self.pending, fates, strict=False):
            if fate is Fate.LOST:
                continue
            if written is None:
                data[offset:] = bytes(max(0, offset - len(data)))
                continue
            part = written[: len(written) // 2 // _SECTOR * _SECTOR or 4] if fate is Fate.TORN else written
            data.extend(bytes(max(0, offset - len(data))))
            data[offset : offset + len(part)] = part
        return data


_Names = dict[Path, _File | None]  # None = a directory


@dataclass(frozen=True, eq=False)
class _Renaming:
    """A change of names: one goes, one comes, or both at once."""

    gone: Path | None
    come: Path | None
    file: _File | None

    @property
    def names(self) -> set[Path]:
        return {path for path in (self.gone, self.come) if path is not None}

    @property
    def directories(self) -> set[Path]:
        return {path.parent for path in self.names}

    def apply(self, names: _Names) -> None:
        if self.gone is not None:
            names.pop(self.gone, None)
        if self.come is not None:
            names[self.come] = self.file


class ForgetfulVfs(_SteppedVfs):
    """A disk that remembers which writes and names were synced, so that `crash` can lose any of the others.

    What holds after a power cut is what POSIX promises and nothing more: a synced file has its bytes, a synced
    directory has its names, a rename happens whole or not at all, and a change of a name never without those
    before it of the same name. Everything else may be kept, lost or torn, in any combination.

    Args:
        root: The directory that is watched; what is in it now counts as durable.
        before: Called before each operation with its number, from 1, while nothing else moves: the instant to
            call `crash` at.
    """

    def __init__(self, root: Path, *, before: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self.root = root
        self.count = 0
        self._before = before
        self._moving = threading.RLock()
        self._open: dict[int, _File] = {}
        self._now: _Names = {}
        for path in sorted(root.rglob("*")):
            self._now[path] = _File(bytearray(path.read_bytes())) if path.is_file() else None
        self._durable: _Names = dict(self._now)
        self._pending: list[_Renaming] = []

    def crash(self, into: Path, chooser: Iterator[Fate]) -> None:
        """Put into a new directory what the root could hold after a power cut at this instant.

        Args:
            into: The directory; made.
            chooser: Draws the fate of each unsynced name and write; see `fates`.
        """
        with self._moving:
            into.mkdir(parents=True)
            names = self._names_after(chooser)
            written: dict[int, Path] = {}
            for path, file in sorted(names.items()):
                if any(parent not in names for parent in self._below_root(path)):
                    continue
                target = into / path.relative_to(self.root)
                if file is None:
                    target.mkdir()
                elif id(file) in written:
                    os.link(written[id(file)], target)
                else:
                    target.write_bytes(file.after(chooser))
                    written[id(file)] = target

    def _names_after(self, chooser: Iterator[Fate]) -> _Names:
        names, lost = dict(self._durable), set[Path]()
        for change in self._pending:
            if change.names & lost or next(chooser) is not Fate.KEPT:
                lost |= change.names
            else:
                change.apply(names)
        return names

    def _below_root(self, path: Path) -> list[Path]:
        return [parent for parent in path.parents if self.root in parent.parents]

    # The operations, and what they mean for what survives.

    def open(self, path: Path, *, create: bool = False, readonly: bool = False) -> int:
        with self._moving:
            fd = super().open(path, create=create, readonly=readonly)
            file = self._now.get(path)
            if file is None:
                file = _File()
                self._rename(None, path, file)
            self._open[fd] = file
            return fd

    def close(self, fd: int) -> None:
        """Give the descriptor back."""
        with self._moving:
            self._open.pop(fd, None)
            super().close(fd)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        with self._moving:
            super().pwrite(fd, data, offset)
            self._open[fd].pending.append((offset, bytes(data)))

    def allocate(self, fd: int, length: int) -> None:
        with self._moving:
            before = os.fstat(fd).st_size
            super().allocate(fd, length)
            if length > before:
                self._open[fd].pending.append((length, None))

    def truncate(self, fd: int, length: int) -> None:
        with self._moving:
            super().truncate(fd, length)
            self._open[fd].pending.append((length, None))

    def datasync(self, fd: int) -> None:
        with self._moving:
            super().datasync(fd)
            self._open[fd].sync()

    def sync(self, fd: int) -> None:
        with self._moving:
            super().sync(fd)
            self._open[fd].sync()

    def sync_directory(self, path: Path) -> None:
        with self._moving:
            super().sync_directory(path)
            due: set[Path] = set()
            flushed = []
            for change in reversed(self._pending):  # with those before it that it builds on
                if path in change.directories or change.names & due:
                    due |= change.names
                    flushed.append(change)
            for change in reversed(flushed):
                change.apply(self._durable)
                self._pending.remove(change)

    def make_directory(self, path: Path) -> None:
        with self._moving:
            missing = [each for each in (path, *path.parents) if not each.exists()]
            super().make_directory(path)
            for each in reversed(missing):
                self._rename(None, each, None)

    def rename(self, source: Path, target: Path) -> None:
        with self._moving:
            super().rename(source, target)
            self._rename(source, target, self._now[source])

    def link(self, source: Path, target: Path) -> None:
        with self._moving:
            super().link(source, target)
            self._rename(None, target, self._now[source])

    def unlink(self, path: Path) -> None:
        with self._moving:
            super().unlink(path)
            if path in self._now:
                self._rename(path, None, None)

    def remove_directory(self, path: Path) -> None:
        with self._moving:
            super().remove_directory(path)
            if path in self._now and not path.exists():
                self._rename(path, None, None)

    def _rename(self, gone: Path | None, come: Path | None, file: _File | None) -> None:
        change = _Renaming(gone, come, file)
        change.apply(self._now)
        self._pending.append(change)

    def _step(self, operation: str) -> None:
        self.count += 1
        if self._before is not None:
            self._before(self.count)
