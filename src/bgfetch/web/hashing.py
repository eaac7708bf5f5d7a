"""Hashing files in the background: one thread, what is asked for first, every result remembered.

A file is hashed once it has been left alone for as long as its date needs to tell two states apart, and what was read
counts only if the file was the same before and after. One that changes meanwhile is tried again later and later. A
process that ends begins again with the file it was at, not with those before it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bgfetch.core.names import printable
from bgfetch.vfs import Vfs
from bgfetch.web.digesting import Digests, digests_of
from bgfetch.web.folder import Stamp, grain, stamp_of
from bgfetch.web.index import Index
from bgfetch.web.paths import Parts

__all__ = ["Hashing", "Progress", "Wanted"]

_log = logging.getLogger(__name__)
_COARSE = 2.0  # s, the most that `grain` says
_AGAIN = 5.0  # s after which a file that could not be read is tried again
# A file that changed while it was read is tried again after so many seconds, doubled each time.
_SOONEST, _LATEST = 2.0, 300.0
_LOOK_EVERY = 64 << 20  # bytes between two looks at whether it is still the same; whole blocks


@dataclass(frozen=True, slots=True)
class Progress:
    """How far hashing has come.

    Args:
        done: Bytes hashed, of `total`.
        total: Bytes of all files that were asked about.
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to hash.

    Args:
        name: Below the folder.
        stamp: As it was found.
        path: Absolute, what it is remembered under.
    """

    name: Parts
    stamp: Stamp
    path: Path


class Hashing:
    """The digests of files: those known, and those in the making.

    Args:
        open: Gives a descriptor of a file; FileNotFoundError where it is gone.
        index: Where results are kept.
        vfs: What reads.
    """

    def __init__(self, open: Callable[[Parts], int], index: Index, vfs: Vfs) -> None:  # noqa: A002 - what it does
        self._open = open
        self._index = index
        self._vfs = vfs
        self._changed = threading.Condition()
        self._known: dict[Parts, tuple[Stamp, Digests]] = {}
        self._queue: dict[Parts, Wanted] = {}  # in the order to be hashed in
        self._due: dict[Parts, float] = {}  # not before, monotonic
        self._changing: dict[Parts, float] = {}  # not hashed since found so; s to put it off next time
        self._at: tuple[Wanted, int] | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._stopped = False
        self._done = 0
        self._beginning: Callable[[], object] | None = None

    def known(self, wanted: Wanted) -> Digests | None:
        """What this file hashes to, without reading it; may ask the index, so not on an event loop."""
        found = self._known.get(wanted.name)
        if found is not None and found[0].state == wanted.stamp.state:
            return found[1]
        try:
            digests = self._index.find(str(wanted.path), wanted.stamp)
        except (sqlite3.Error, OSError) as error:
            _log.warning("what was hashed before cannot be read: %s", error)
            return None
        if digests is not None:
            self._known[wanted.name] = (wanted.stamp, digests)
        return digests

    def want(self, files: Iterable[Wanted], *, first: bool = True) -> None:
        """Have these hashed: before all others that wait, or after them. Those known are passed over."""
        missing = {each.name: each for each in files if self.known(each) is None}
        with self._changed:
            if self._stopped or not missing:
                return
            if self._at is not None and missing.get(self._at[0].name) == self._at[0]:
                del missing[self._at[0].name]
            rest = {name: each for name, each in self._queue.items() if name not in missing}
            self._queue = {**missing, **rest} if first else {**self._queue, **missing}
            self._start()
            self._changed.notify_all()

    def is_changing(self, name: Parts) -> bool:
        """Whether this file was found changing when it was to be hashed, and has not been hashed since."""
        return name in self._changing

    def begin(self, everything: Callable[[], object]) -> None:
        """Call this on the thread before all else, such as what finds all that is to be hashed."""
        with self._changed:
            self._beginning = everything
            self._start()

    def progress(self, files: Iterable[Wanted]) -> Progress:
        """How far these are."""
        files = list(files)
        done = sum(each.stamp.size for each in files if self.known(each) is not None)
        at = self._at
        if at is not None and at[0] in files and self.known(at[0]) is None:
            done += at[1]
        return Progress(done, sum(each.stamp.size for each in files))

    @property
    def overall(self) -> Progress:
        """How far everything is that was wanted since this was made."""
        with self._changed:
            at = self._at
            left = sum(each.stamp.size for each in self._queue.values())
            current = (0, 0) if at is None else (at[1], at[0].stamp.size)
            return Progress(self._done + current[0], self._done + current[1] + left)

    def wait(self, timeout: float | None = None) -> bool:
        """Return when nothing is left to hash, or the time is up; whether nothing is."""
        with self._changed:
            return self._changed.wait_for(self._idle, timeout)

    def _idle(self) -> bool:
        return self._stopped or not (self._queue or self._at or self._beginning)

    def close(self) -> None:
        """Stop at the next mebibyte."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            thread = self._thread if self._pid == os.getpid() else None
        if thread is not None:
            thread.join()
        self._index.close()

    def _start(self) -> None:
        """A thread of this process; one that was forked has none of its parent's. In place of one that died, another."""
        if self._thread is None or not self._thread.is_alive() or self._pid != os.getpid():
            self._pid, self._at = os.getpid(), None
            self._thread = threading.Thread(target=self._run, name="bgfetch-hashing", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        self._run_beginning()
        while (wanted := self._next()) is not None:
            try:
                self._hash(wanted)
            except FileNotFoundError:
                self._changing.pop(wanted.name, None)  # gone; whoever asks again is told so
            except (OSError, sqlite3.Error) as error:
                _log.warning("%s cannot be hashed yet: %s", printable("/".join(wanted.name)), error)
                self._put_off(wanted, _AGAIN)
            except Exception:  # noqa: BLE001 - one file must not keep all others from being hashed
                _log.exception("%s cannot be hashed yet", printable("/".join(wanted.name)))
                self._put_off(wanted, _AGAIN)
            finally:
                with self._changed:
                    self._at = None
                    self._changed.notify_all()

    def _run_beginning(self) -> None:
        if self._beginning is None:
            return
        try:
            self._beginning()
        except Exception:  # noqa: BLE001 - what is asked for can be hashed all the same
            _log.exception("not everything that is to be hashed was found")
        finally:
            with self._changed:
                self._beginning = None
                self._changed.notify_all()

    def _next(self) -> Wanted | None:
        """The next one whose time has come, taken from the queue; None when it is over."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                for name, wanted in self._queue.items():
                    if self._due.get(name, 0.0) <= now:
                        del self._queue[name]
                        self._due.pop(name, None)
                        self._at = (wanted, 0)
                        return wanted
                later = [self._due[name] for name in self._queue]
                self._changed.wait(min(later) - now if later else None)
            return None

    def _hash(self, wanted: Wanted) -> None:
        fd = self._open(wanted.name)
        try:
            before = stamp_of(fd)
            found = Wanted(wanted.name, before, wanted.path)
            young = grain(before) - (time.time() - before.mtime_ns / 1e9)
            if 0 < young <= _COARSE:
                if before.state != wanted.stamp.state:  # written to at every look: it would wait for ever
                    self._changing.setdefault(wanted.name, _SOONEST)
                self._put_off(found, young)
                return
            if self.known(found) is not None:  # another process was faster
                self._changing.pop(wanted.name, None)
                return
            with self._changed:
                self._at = (found, 0)
            digests = self._read(fd, before)
        finally:
            os.close(fd)
        if digests is not None:
            self._known[wanted.name] = (before, digests)
            self._changing.pop(wanted.name, None)
            self._index.put(str(wanted.path), before, digests)
            with self._changed:
                self._done += before.size
                self._at = None
        elif not self._stopped:
            seconds = self._changing.get(wanted.name, _SOONEST)
            self._changing[wanted.name] = min(2 * seconds, _LATEST)
            self._put_off(found, seconds)

    def _read(self, fd: int, before: Stamp) -> Digests | None:
        """The digests of a file that stays as it was; None as soon as it is seen not to, or when all is over."""
        read = 0

        def go_on(count: int) -> bool:
            nonlocal read
            read += count
            same = read % _LOOK_EVERY != 0 or stamp_of(fd).state == before.state
            return same and self._advance(count)

        digests = digests_of(self._vfs, fd, before.size, go_on)
        return digests if stamp_of(fd).state == before.state else None

    def _advance(self, count: int) -> bool:
        with self._changed:
            if self._at is not None:
                self._at = (self._at[0], self._at[1] + count)
        return not self._stopped

    def _put_off(self, wanted: Wanted, seconds: float) -> None:
        with self._changed:
            self._queue.setdefault(wanted.name, wanted)
            self._due[wanted.name] = time.monotonic() + seconds
