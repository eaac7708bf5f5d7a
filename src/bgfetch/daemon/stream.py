"""What happens, told as it happens: `GET /v1/events`, a stream of server-sent events.

Three kinds. `log` carries the number of its line as the event's id, so that whoever comes back with `Last-Event-ID`
misses none. `progress` is how a registration stands: one that is not read in time is replaced by the next, so that a
slow reader costs no memory and always gets the last one. `message` is for one client.

Source: HTML, section 9.2 "Server-sent events".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial as bind
from typing import Final, TypeVar

from bgfetch.core.model import Progress
from bgfetch.daemon.clients import Client, Clients
from bgfetch.errors import CacheError
from bgfetch.registrations.port import LoggedEvent, RegistrationRow, Registrations
from bgfetch.running import stored_progress
from bgfetch.wire import Json, ToldProgress, dump, pack_line

__all__ = ["Hub", "Wanted"]

_KEEP_ALIVE: Final = 15.0
_AT_ONCE: Final = 1000  # lines read from the store
_REMEMBERED: Final = 4096  # lines kept for those who are nearly up to date
_MESSAGES: Final = 1000  # not read yet, for one client; the oldest go first

_T = TypeVar("_T")
Last = Callable[[int], Progress | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader asked for.

    Args:
        scope: Only of this scope; "" for all.
        uids: Only of these registrations; none for all.
        client: What the reader calls itself, to get messages; "" for nobody.
        after: The last line of the log it knows; None for those that are to come.
    """

    scope: str = ""
    uids: frozenset[int] = frozenset()
    client: str = ""
    after: int | None = None

    def matches(self, uid: int, scope: str) -> bool:
        """Whether it wants to hear of this registration."""
        return (not self.uids or uid in self.uids) and self.scope in ("", scope)


@dataclass(frozen=True, slots=True)
class _Line:
    seq: int
    uid: int
    scope: str
    text: bytes

    @classmethod
    def of(cls, event: LoggedEvent) -> _Line:
        return cls(event.seq, event.uid, event.scope, _event("log", pack_line(event), id_=event.seq))


class _Reader:
    """What one stream has not sent yet. On the loop's thread."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.progress: dict[int, bytes] = {}
        self.messages: deque[bytes] = deque(maxlen=_MESSAGES)
        self.news = asyncio.Event()

    def post(self, message: Json) -> None:
        self.messages.append(_event("message", message))
        self.news.set()

    def take(self) -> bytes:
        """Progress and messages that wait."""
        waiting = b"".join([*self.messages, *self.progress.values()])
        self.messages.clear()
        self.progress.clear()
        return waiting


class Hub:
    """Everybody who reads events. Made and used on the loop's thread, but for `told` and `changed`.

    Args:
        registrations: The store.
        last: What was told last of a registration that runs here.
        clients: Where readers that have a name are found.
        greet: Messages kept for a scope, given to the first client that comes.
    """

    def __init__(
        self,
        registrations: Registrations,
        last: Last,
        clients: Clients,
        *,
        greet: Callable[[str], Sequence[Json]] = lambda _scope: (),
    ) -> None:
        self._registrations = registrations
        self._last = last
        self._clients = clients
        self._greet = greet
        self._loop = asyncio.get_running_loop()
        self._readers: set[_Reader] = set()
        self._lines: deque[_Line] = deque(maxlen=_REMEMBERED)
        self._seq = registrations.last_line()
        self._names: dict[int, tuple[str, str]] = {}
        self._told: dict[int, Progress] = {}
        self._work = asyncio.Event()
        self._changed = False
        self._ending = False
        # One thread, so that what the store says of changes is about the same connection each time.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="bgfetch-events")
        self._task = self._loop.create_task(self._spread())

    @property
    def readers(self) -> int:
        """How many streams are open."""
        return len(self._readers)

    def told(self, uid: int, progress: Progress) -> None:
        """A registration has got on. From any thread."""
        self._told[uid] = progress
        self._soon(self._work.set)

    def changed(self) -> None:
        """The store is not what it was. From any thread."""
        self._soon(self._note_change)

    def _note_change(self) -> None:
        self._changed = True
        self._work.set()

    def _soon(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call)

    async def _spread(self) -> None:
        """Give what has come to those who want it."""
        while True:
            await self._work.wait()
            self._work.clear()
            with contextlib.suppress(
                CacheError
            ):  # locked, or a full disk; the next change tells of this one too
                await self._spread_progress()
                await self._spread_lines()

    async def _spread_progress(self) -> None:
        told, self._told = self._told, {}
        if not self._readers:
            self._names.clear()
            return
        for uid, progress in told.items():
            scope, id_ = await self._name(uid)
            if progress.result:
                self._names.pop(uid, None)
            text = _event("progress", ToldProgress(uid, scope, id_, progress).pack())
            for reader in self._readers:
                if reader.wanted.matches(uid, scope):
                    reader.progress[uid] = text
                    reader.news.set()

    async def _name(self, uid: int) -> tuple[str, str]:
        if uid not in self._names:
            row = await self._in_thread(bind(self._registrations.get, uid))
            self._names[uid] = ("", "") if row is None else (row.scope, row.id)
        return self._names[uid]

    async def _spread_lines(self) -> None:
        if not self._changed:
            return
        self._changed = False
        if not self._readers:
            self._lines.clear()
            self._seq = await self._in_thread(self._registrations.last_line)
            return
        while lines := await self._in_thread(
            bind(self._registrations.events, after=self._seq, limit=_AT_ONCE)
        ):
            self._lines.extend(_Line.of(line) for line in lines)
            self._seq = lines[-1].seq
            for reader in self._readers:
                reader.news.set()

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(self._pool, call)

    async def stream(self, wanted: Wanted) -> AsyncIterator[bytes]:
        """The events, as they are sent, until the reader goes or the daemon ends."""
        reader = _Reader(wanted)
        client = Client(wanted.client, wanted.scope, lambda message: self._soon(bind(reader.post, message)))
        self._readers.add(reader)
        if wanted.client:
            self._clients.add(client)
        try:
            seq = self._seq if wanted.after is None else wanted.after
            yield b"retry: 500\n\n"
            async for text in self._standing(wanted):
                yield text
            if wanted.client and wanted.scope:
                for message in await self._in_thread(bind(self._greet, wanted.scope)):
                    reader.post(message)
            while True:
                async for known, text in self._lines_after(seq, wanted):
                    seq = known
                    if text:
                        yield text
                if waiting := reader.take():
                    yield waiting
                if self._ending:
                    yield _event("goodbye", {})
                    return
                if seq >= self._seq and not await self._has_news(reader):
                    yield b":\n\n"
        finally:
            self._readers.discard(reader)
            self._clients.remove(client)

    async def _has_news(self, reader: _Reader) -> bool:
        try:
            await asyncio.wait_for(reader.news.wait(), _KEEP_ALIVE)
        except TimeoutError:
            return False
        reader.news.clear()
        return True

    async def _standing(self, wanted: Wanted) -> AsyncIterator[bytes]:
        """How each active registration stands that the reader wants to hear of."""
        rows = await self._in_thread(bind(self._active, wanted))
        texts: list[bytes] = []
        for row in rows:
            if wanted.matches(row.uid, row.scope):
                progress = self._last(row.uid) or stored_progress(row)
                texts.append(_event("progress", ToldProgress(row.uid, row.scope, row.id, progress).pack()))
        for first in range(0, len(texts), 500):
            yield b"".join(texts[first : first + 500])

    def _active(self, wanted: Wanted) -> list[RegistrationRow]:
        if not wanted.uids:
            return self._registrations.listing(wanted.scope or None, active=True)
        named = (self._registrations.get(uid) for uid in sorted(wanted.uids))
        return [row for row in named if row is not None and row.settled_at is None]

    async def _lines_after(self, seq: int, wanted: Wanted) -> AsyncIterator[tuple[int, bytes]]:
        """(the last line's number, lines that are wanted) until there is none that is newer."""
        while seq < self._seq:
            if self._lines and self._lines[0].seq <= seq + 1:
                lines = [line for line in self._lines if line.seq > seq]
            else:
                read = await self._in_thread(bind(self._registrations.events, after=seq, limit=_AT_ONCE))
                lines = [_Line.of(line) for line in read]
            if not lines:  # those between have been removed with their registrations
                yield max(seq, self._seq), b""
                return
            seq = lines[-1].seq
            yield seq, b"".join(line.text for line in lines if wanted.matches(line.uid, line.scope))

    async def close(self) -> None:
        """Say goodbye to everybody, and wait a moment for them to hear it."""
        self._ending = True
        for reader in self._readers:
            reader.news.set()
        for _turn in range(20):
            if not self._readers:
                break
            await asyncio.sleep(0.01)
        self._task.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _event(name: str, data: Json, *, id_: int = 0) -> bytes:
    """One event; JSON has no line break in it."""
    head = f"id: {id_}\nevent: {name}\n" if id_ else f"event: {name}\n"
    return b"%bdata: %b\n\n" % (head.encode(), dump(data))
