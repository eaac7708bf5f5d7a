"""The daemon, from its first moment to its last."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bgfetch.address import Address
from bgfetch.config import Settings, load
from bgfetch.daemon import logs
from bgfetch.daemon.instance import Instance
from bgfetch.errors import BgfetchError
from bgfetch.version import __version__
from bgfetch.wire import PROTOCOL

if TYPE_CHECKING:  # a process that finds another daemon at work pays for none of these
    from bgfetch.daemon.state import State

__all__ = ["Daemon"]

_LOG: Final = logging.getLogger(__name__)
_LOOK: Final = 5.0  # s between looks at whether anybody needs the daemon
_LAST: Final = 1.0  # s for those who are being answered when it ends


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Daemon:
    """The daemon of a home.

    Args:
        settings: How to behave, and where.
        service: Whether something else keeps it running, so that it does not end by itself.
        port: TCP port of loopback for browsers; 0 for none.
        ready: Called once clients can connect.
    """

    settings: Settings
    service: bool = False
    port: int = 0
    ready: Callable[[], None] = _nothing

    def run(self) -> int:
        """Be the daemon until told to end; the process's exit code.

        Raises:
            InvalidState: Another one is.
            DaemonError, CacheError, OSError: It cannot begin.
        """
        from bgfetch.vfs import Vfs  # noqa: PLC0415 - as above

        address = Address(self.settings.home)
        instance = Instance(address, Vfs())
        instance.take()
        try:
            listening = [instance.listen(os.environ), *self._tcp()]
            logs.begin(address.log, os.environ)
            _raise_limits()
            return asyncio.run(_serve(self, instance, listening, self._token(address)))
        finally:
            instance.release()

    def _tcp(self) -> list[socket.socket]:
        if not self.port:
            return []
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        return [listener]

    def _token(self, address: Address) -> str:
        """What a caller over TCP must know: made anew by each daemon, read by its owner only."""
        from bgfetch.vfs import Vfs  # noqa: PLC0415 - as above

        if not self.port:
            return ""
        token = secrets.token_urlsafe(32)
        Vfs().replace(address.token, token.encode(), durable=False)
        return token


async def _serve(daemon: Daemon, instance: Instance, listening: list[socket.socket], token: str) -> int:
    from bgfetch.daemon.app import application  # noqa: PLC0415 - the others connect while this is imported
    from bgfetch.daemon.assembly import assembled  # noqa: PLC0415 - as above
    from bgfetch.daemon.guard import allowed_hosts  # noqa: PLC0415 - as above
    from bgfetch.daemon.server import Server  # noqa: PLC0415 - as above

    ending = _Ending()
    state = assembled(replace(daemon.settings, in_process=True), stop=ending.ask)
    hosts = allowed_hosts(daemon.port) if daemon.port else frozenset[str]()
    server = Server(application(state, hosts=hosts, token=token))
    life = _Life(daemon, state, ending, _Ground(instance, state.wiring.database.path))
    instance.announce({"version": __version__, "protocol": PROTOCOL, "started_at": state.started_at})
    with life.signals():
        serving = asyncio.create_task(server.serve(sockets=listening))
        _LOG.info("bgfetch %s began, process %d, for %s", __version__, os.getpid(), daemon.settings.home)
        state.begin()
        daemon.ready()
        watching = asyncio.create_task(life.watch())
        await asyncio.wait(
            [serving, asyncio.create_task(ending.asked.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        watching.cancel()
        began = time.monotonic()
        await _end(state, server, serving)
    _LOG.info("ended within %.2f s (%s)", time.monotonic() - began, ending.reason)
    logging.shutdown()
    return ending.code


async def _end(state: State, server: object, serving: asyncio.Task[None]) -> None:
    """Stop transfers and make what they brought durable, while those who listen are told."""
    stopping = asyncio.get_running_loop().run_in_executor(None, state.close)
    await state.hub.close()
    server.should_exit = True  # type: ignore[attr-defined]  # uvicorn's own way
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(serving), _LAST)
    server.force_exit = True  # type: ignore[attr-defined]
    await stopping
    await serving


class _Ending:
    """That it is to end, and why. Made on the loop's thread; asked for from any."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.reason = ""
        self.code = 0
        self._loop = asyncio.get_running_loop()

    def ask(self, reason: str = "asked to", code: int = 0) -> None:
        """End it; the first reason counts."""
        self._loop.call_soon_threadsafe(self._note, reason, code)

    def _note(self, reason: str, code: int) -> None:
        if not self.asked.is_set():
            self.reason, self.code = reason, code
            self.asked.set()


class _Ground:
    """What a daemon stands on. Deleted under it, what it does is seen by nobody, and a client would start another one.

    Args:
        instance: Its claim to the home.
        database: The file it has open: while it is, no other one can have its number.
    """

    def __init__(self, instance: Instance, database: Path) -> None:
        self._instance = instance
        self._database = database
        self._number = _number(database)
        self._missed = ""

    def lost(self) -> str:
        """What is gone, in words, when that was so at the last look, too: a share may be away for a moment."""
        before, self._missed = self._missed, self._gone()
        return self._missed if before else ""

    def _gone(self) -> str:
        if not self._instance.holds:
            return "its folder is gone, or another daemon's"
        return "" if _number(self._database) == self._number else f"{self._database} is gone, or another file"


def _number(path: Path) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return 0, 0


class _Life:
    """What the daemon does besides answering."""

    def __init__(self, daemon: Daemon, state: State, ending: _Ending, ground: _Ground) -> None:
        self._daemon = daemon
        self._state = state
        self._ending = ending
        self._ground = ground

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Obey the system."""
        loop = asyncio.get_running_loop()
        wanted = {"SIGTERM": self._terminate, "SIGINT": self._terminate, "SIGHUP": self._reload}
        known = {getattr(signal, name): call for name, call in wanted.items() if hasattr(signal, name)}
        with contextlib.suppress(NotImplementedError):  # Windows
            for number, call in known.items():
                loop.add_signal_handler(number, call)
        yield

    def _terminate(self) -> None:
        self._ending.ask("a signal")

    def _reload(self) -> None:
        """Read the settings again, and take over those that may change while it runs."""
        try:
            settings = load({"home": self._daemon.settings.home})
            asked = {"limit_rate": settings.limit_rate, "schedule": getattr(settings, "schedule", "")}
            self._state.steering.change(asked)
        except BgfetchError as error:
            _LOG.error("the settings stay as they are: %s", error)
        else:
            _LOG.info("read the settings again")

    async def watch(self) -> None:
        """End when a part has died, when its home was deleted, or when nobody has needed the daemon for long."""
        linger = self._daemon.settings.daemon_linger
        idle_since: float | None = None
        while True:
            await asyncio.sleep(min(_LOOK, linger / 4) if linger else _LOOK)
            if self._state.admission.bug is not None:
                _LOG.critical("what fetches has died", exc_info=self._state.admission.bug)
                self._ending.ask("a bug", 1)
                return
            if lost := self._ground.lost():
                _LOG.warning("it ends and keeps nothing: %s", lost)
                self._ending.ask(lost)
                return
            if self._daemon.service or not linger or await self._needed():
                idle_since = None
            elif idle_since is None:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since >= linger:
                self._ending.ask("nobody needs it")
                return

    async def _needed(self) -> bool:
        if self._state.hub.readers:
            return True
        with contextlib.suppress(BgfetchError):
            return await asyncio.get_running_loop().run_in_executor(None, self._state.busy)
        return True


def _raise_limits() -> None:
    """Each download under way needs a lock, a file and sockets; each client one more."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not everywhere

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
