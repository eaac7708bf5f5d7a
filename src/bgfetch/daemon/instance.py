"""One daemon for a home, whoever else tries at the same moment.

Two things decide, and both must agree. A lock that the system gives back when the process ends, however it ends. And,
since some mounts give a lock to everybody, the file `owner`, which is only ever made whole and under a name that nobody
has: it says which process the daemon is. Of a dead owner there is exactly one successor: who first links its own file
to the name `owner.<nonce of the dead one>`. Nobody takes away a socket that answers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from bgfetch.address import Address, private_directory
from bgfetch.daemon.identity import ProcessIdentity
from bgfetch.errors import DaemonError, InvalidState
from bgfetch.vfs import Vfs
from bgfetch.wire import dump

__all__ = ["Instance"]

_BACKLOG = 512
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_NO_SOCKETS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EINVAL})

_UNREADABLE = ProcessIdentity(0, "", "none", "unreadable")


class Instance:
    """This process's claim to be the daemon of a home.

    Args:
        address: Of the home.
        vfs: The file system.
    """

    def __init__(self, address: Address, vfs: Vfs) -> None:
        self._address = address
        self._vfs = vfs
        self._own = ProcessIdentity.own()
        self._lock = -1
        self._socket: Path | None = None

    def take(self) -> None:
        """Become the daemon.

        Raises:
            InvalidState: Another one is; the message says which process.
            CacheError: The folder is not ours.
            OSError: The folder refuses.
        """
        private_directory(self._address.folder)
        self._lock = self._vfs.open(self._address.lock, create=True)
        if not _locked(self._lock) or not self._succeed():
            self._vfs.close(self._lock)
            self._lock = -1
            raise InvalidState(self._taken())

    def _taken(self) -> str:
        owner = ProcessIdentity.read(self._address.owner)
        who = (
            f"process {owner.pid}"
            if owner is not None and owner.lives
            else "a process that is just beginning"
        )
        return f"a daemon of {self._address.home} runs already: {who}"

    def _succeed(self) -> bool:
        """Whether `owner` names this process now."""
        draft = self._address.owner.with_name(f"owner.new.{self._own.nonce}")
        self._vfs.put(draft, self._own.pack())
        try:
            while (before := self._owner()) is not None:
                last = self._last_of(before)
                if last.lives:
                    return False
                if not self._linked(draft, self._after(last)):
                    continue
                if self._owner() == before:
                    self._vfs.rename(draft, self._address.owner)
                    self._sweep()
                    return True
                self._vfs.unlink(self._after(last))  # that one had been succeeded already
            return self._linked(draft, self._address.owner)
        except OSError as error:
            if error.errno in _NO_LINKS:  # then the lock alone decides
                self._vfs.replace(self._address.owner, self._own.pack(), durable=False)
                return True
            raise
        finally:
            self._vfs.unlink(draft)

    def _owner(self) -> ProcessIdentity | None:
        """Whom the file names; None where there is no file. One that cannot be read was torn by a power cut."""
        found = ProcessIdentity.read(self._address.owner)
        return _UNREADABLE if found is None and self._vfs.size(self._address.owner) is not None else found

    def _last_of(self, identity: ProcessIdentity) -> ProcessIdentity:
        """The last of those that succeeded this one and died before they could say so."""
        while (after := ProcessIdentity.read(self._after(identity))) is not None:
            identity = after
        return identity

    def _after(self, dead: ProcessIdentity) -> Path:
        return self._address.owner.with_name(f"owner.{dead.nonce}")

    def _linked(self, draft: Path, name: Path) -> bool:
        try:
            self._vfs.link(draft, name)
        except FileExistsError:
            return False
        return True

    def _sweep(self) -> None:
        """Remove the names that told who succeeded whom, and what dead ones left."""
        folder = self._address.folder
        for name in self._vfs.names(folder):
            if name.startswith("owner.") and not name.startswith("owner.new."):
                self._vfs.unlink(folder / name)
            elif name.startswith("owner.new."):
                left = ProcessIdentity.read(folder / name)
                if left is not None and not left.lives:
                    self._vfs.unlink(folder / name)

    def listen(self, environ: Mapping[str, str]) -> socket.socket:
        """The socket clients connect to, 0600 in a 0700 directory.

        Raises:
            InvalidState: Another daemon answers there.
            DaemonError: There can be none.
        """
        near, far = self._address.preferred_socket(environ), self._address.distant_socket(environ)
        for path in dict.fromkeys((near, far)):
            try:
                return self._listen_at(path)
            except OSError as error:
                if error.errno not in _NO_SOCKETS or path == far:
                    raise DaemonError(f"{path}: there can be no socket ({error.strerror})") from error
        raise AssertionError(near)

    def _listen_at(self, path: Path) -> socket.socket:
        private_directory(path.parent)
        if _answers(path):
            raise InvalidState(f"a daemon answers at {path} already")
        self._vfs.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _mask(0o177):
                listener.bind(str(path))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self._socket = path
        return listener

    def announce(self, facts: Mapping[str, object]) -> None:
        """Write `daemon.json`, once the socket answers."""
        told = {"pid": self._own.pid, "socket": str(self._socket), **facts}
        self._vfs.replace(self._address.facts, dump(told), durable=False)

    @property
    def holds(self) -> bool:
        """Whether this process is still the one that the home names; not so where somebody deleted the folder."""
        return ProcessIdentity.read(self._address.owner) == self._own

    def release(self) -> None:
        """Be the daemon no more; what is at our names is only removed while they are ours."""
        if self._lock < 0:
            return
        if self.holds:
            if self._socket is not None:
                self._vfs.unlink(self._socket)
                if self._socket.parent != self._address.folder:
                    self._vfs.remove_directory(self._socket.parent)
            self._vfs.unlink(self._address.facts)
            self._vfs.unlink(self._address.owner)
        self._vfs.close(self._lock)
        self._lock = -1


def _locked(fd: int) -> bool:
    """Whether this process has the lock; True as well where the file system has none, since `owner` decides too."""
    if os.name != "posix":  # pragma: no cover - Windows
        return _locked_on_windows(fd)
    import fcntl  # noqa: PLC0415 - not everywhere

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _locked_on_windows(fd: int) -> bool:  # pragma: no cover - Windows
    import importlib  # noqa: PLC0415 - not everywhere

    msvcrt = importlib.import_module("msvcrt")
    try:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(2.0)
        try:
            caller.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except TimeoutError:  # its queue is full: somebody is there
            return True
        except OSError as error:
            return error.errno == errno.EAGAIN
    return True


@contextlib.contextmanager
def _mask(mask: int) -> Iterator[None]:
    """Make what is made within without these rights; for the whole process, so only before other threads begin."""
    former = os.umask(mask)
    try:
        yield
    finally:
        os.umask(former)
