"""Asks the daemon of a home, over its Unix socket.

HTTP/1.1 as little as it takes, one connection a question: the standard library's client imports TLS, which costs more
than most commands take.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Final, Self
from urllib.parse import urlencode

from bgfetch.address import Address
from bgfetch.errors import DaemonError, DaemonNotRunning
from bgfetch.wire import Hello, Json, dump, load, unpack_error

__all__ = ["Connection", "Event", "Query", "Stream"]

_PATIENCE: Final = 30.0  # seconds for one answer
_SILENCE: Final = 45.0  # seconds; the daemon says something on a stream every 15
_MOST_LINE: Final = 1 << 20

Query = Mapping[str, str | int | list[int]]


@dataclass(frozen=True, slots=True)
class Event:
    """What the daemon told on a stream; `id` is the line of the log it stands for, or None."""

    name: str
    data: Json
    id: int | None = None


class Connection:
    """The way to the daemon of one home; it starts nothing.

    Args:
        address: Where the daemon is.
        environ: Says where sockets are when the home is too far down; the process's own.
    """

    def __init__(self, address: Address, environ: Mapping[str, str]) -> None:
        self.address = address
        self._environ = environ

    def hello(self, *, timeout: float = _PATIENCE) -> Hello:
        """Who answers.

        Raises:
            DaemonNotRunning: Nobody.
        """
        return Hello.unpack(self.call("GET", "/v1/", timeout=timeout))

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Query | None = None,
        timeout: float = _PATIENCE,
    ) -> Json:
        """What the daemon answers; {} where it has nothing to say.

        Args:
            method: HTTP method.
            path: Below the root, such as "/v1/registrations".
            body: What becomes JSON, or None.
            query: Of the URL.
            timeout: Seconds for each step of the answer.

        Raises:
            DaemonNotRunning: Nobody answers, or it ended before it had answered.
            DaemonError: It did not answer in time, or not as this version speaks.
            BgfetchError: What the daemon raised, as the same class.
        """
        with self._opened(timeout) as opened:
            reply = _good(opened.ask(method, _target(path, query), None if body is None else dump(body)))
            text = reply.read()
            return load(text, "the daemon's answer") if text else {}

    def stream(self, path: str, *, query: Query | None = None, last_event_id: int | None = None) -> Stream:
        """What the daemon tells from now on; with `last_event_id`, everything that was logged after it first.

        Raises:
            As `call`.
        """
        opened = self._opened(_SILENCE)
        try:
            fields = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
            reply = _good(opened.ask("GET", _target(path, query), None, accept="text/event-stream", **fields))
        except BaseException:
            opened.close()
            raise
        return Stream(opened, reply)

    def _opened(self, timeout: float) -> _Opened:
        path = self.address.socket(self._environ)
        if not hasattr(socket, "AF_UNIX"):  # pragma: no cover - Windows
            raise DaemonNotRunning(
                "this platform has no Unix sockets: say --in-process (BGFETCH_IN_PROCESS=1)"
            )
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end.settimeout(timeout)
        try:
            end.connect(os.fspath(path))
        except OSError as error:
            end.close()
            raise DaemonNotRunning(
                f"no daemon answers at {path}; `bgfetch daemon start` starts one"
            ) from error
        return _Opened(end)


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    lines: Callable[[], Iterator[bytes]]

    def read(self) -> bytes:
        return b"".join(self.lines())


class _Opened:
    """One connection, for one question."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._file: BinaryIO = end.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(
        self, method: str, target: str, body: bytes | None, *, accept: str = "application/json", **fields: str
    ) -> _Reply:
        """The head of the answer."""
        told = {"Host": "bgfetch", "Accept": accept, "Connection": "close", **fields}
        if body is not None:
            told |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        with _broken():
            self._end.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("ascii") + (body or b""))
            status, answered = self._head()
        if answered.get("transfer-encoding") == "chunked":
            return _Reply(status, self._chunks)
        return _Reply(
            status,
            lambda: self._rest(int(answered["content-length"]) if "content-length" in answered else -1),
        )

    def _head(self) -> tuple[int, dict[str, str]]:
        line = self._file.readline(_MOST_LINE)
        if not line:
            raise ConnectionResetError("it ended before it answered")
        words = line.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise DaemonError(f"what answers at the daemon's socket is no daemon of bgfetch: {line[:40]!r}")
        fields: dict[str, str] = {}
        while line := self._file.readline(_MOST_LINE).strip():
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip().lower()
        return int(words[1]), fields

    def _rest(self, length: int) -> Iterator[bytes]:
        with _broken():
            data = self._file.read(length)
        if len(data) < length:
            raise DaemonNotRunning("the daemon ended in the middle of its answer")
        yield data

    def _chunks(self) -> Iterator[bytes]:
        with _broken():
            while size := int(self._file.readline(_MOST_LINE).partition(b";")[0] or b"0", 16):
                yield self._file.read(size)
                self._file.readline(_MOST_LINE)

    def wake(self) -> None:
        """End whatever waits for it, from another thread."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it."""
        self._file.close()
        self._end.close()


class Stream:
    """Events as they are told. Ends when the daemon ends; `close` from another thread ends it, too."""

    def __init__(self, opened: _Opened, reply: _Reply) -> None:
        self._opened = opened
        self._reply = reply

    def __iter__(self) -> Iterator[Event]:
        """Each event.

        Raises:
            DaemonNotRunning: The daemon has died.
            DaemonError: It said nothing for longer than it should.
        """
        name, data, number = "message", "", None
        try:
            for line in self._lines():
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if not line:
                    if data:
                        yield Event(name, load(data, f"the event {name}"), number)
                    name, data, number = "message", "", None
                elif field == "event":
                    name = value
                elif field == "data":
                    data += value
                elif field == "id" and value.isdecimal():
                    number = int(value)
        finally:
            self._opened.close()

    def close(self) -> None:
        """End it; who iterates sees its end."""
        self._opened.wake()

    def _lines(self) -> Iterator[str]:
        kept = b""
        for chunk in self._reply.lines():
            *lines, kept = (kept + chunk).split(b"\n")
            for line in lines:
                yield line.removesuffix(b"\r").decode("utf-8", "replace")


def _good(reply: _Reply) -> _Reply:
    if reply.status >= 400:
        raise unpack_error(load(reply.read(), "the daemon's answer"))
    return reply


@contextlib.contextmanager
def _broken() -> Iterator[None]:
    """What breaks while the daemon is listened to, as errors of ours; to ask again is safe after either."""
    try:
        yield
    except TimeoutError as error:
        raise DaemonError("the daemon does not answer; see its log, or `bgfetch daemon restart`") from error
    except (OSError, ValueError) as error:
        raise DaemonNotRunning(f"the daemon ended before it had answered ({error})") from error


def _target(path: str, query: Query | None) -> str:
    if not query:
        return path
    return f"{path}?{urlencode({name: value for name, value in query.items() if value != ''}, doseq=True)}"
