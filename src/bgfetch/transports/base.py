"""The seam between deciding and transferring: what a transport is given, and what it tells back.

A transport makes exactly one HTTP exchange for each `Exchange`: it follows no redirect, retries nothing and decides
nothing. It calls the receiver from a thread of its own, in the order head, body*, then once ended or failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bgfetch.core.model import Fault, ReplyHead
from bgfetch.transports.surroundings import Surroundings

__all__ = ["Deadlines", "Exchange", "Limits", "Receiver", "Transport"]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When a silent or dripping peer is given up, seconds (Slowloris-like peers defeat per-read time-outs).

    Args:
        connect: Name look-up, connection and TLS together.
        head: From the request to the end of the reply head.
        silence: Between two arrivals of body bytes.
        least_rate: Bytes a second a body must average over `window`.
        window: Seconds that average is taken over.
        dial: From the last SYN sent to an answer: on no line does one take longer, and asking afresh notices a server's
            return sooner than TCP does, which doubles its waits.
    """

    connect: float = 15.0
    head: float = 30.0
    silence: float = 30.0
    least_rate: int = 1024
    window: float = 60.0
    dial: float = 3.5


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request to send.

    Args:
        flight: Number it is known by; never used twice.
        url: Absolute URL.
        method: HTTP method.
        headers: Every header field to send, besides Host and those of the body.
        body: Request body, or None.
        multiplex: Whether HTTP/2 may share a connection; false for large ranges, which want one each.
        lane: Whose rate limit it shares: a registration's number.
        public_only: Whether an address that is not public is refused once connected, before anything is sent.
        named_by_person: Whether a person gave this URL, so that the credentials kept for its host may be sent; what a
            redirect leads to gets none.
        surroundings: Proxies, certificates and passwords to use; None for the transport's own.
    """

    flight: int
    url: str
    method: str = "GET"
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    multiplex: bool = False
    lane: int = 0
    public_only: bool = False
    named_by_person: bool = True
    surroundings: Surroundings | None = None


class Receiver(Protocol):
    """Whom a transport tells; called on the transport's thread, so it must be quick."""

    def connected(self, address: str) -> None:
        """The IP address that was reached, unless a proxy stands between."""
        ...

    def head(self, reply: ReplyHead) -> bool:
        """The reply head is there; False = the body is not wanted."""
        ...

    def body(self, chunks: Sequence[bytes]) -> bool:
        """The next bytes of the body as they came, together 1 MiB at most; False = no more are wanted. May raise
        OSError.
        """
        ...

    def tick(self) -> None:
        """About once a second while the exchange is open: time to write what was gathered. May raise OSError."""
        ...

    def sent(self, count: int) -> None:
        """Bytes of the request body sent so far."""
        ...

    def ended(self) -> None:
        """The exchange is over and its framing was complete, or the receiver wanted no more. Called at most once."""
        ...

    def failed(self, fault: Fault) -> None:
        """The exchange is over and was not complete. Called at most once, never together with `ended`."""
        ...


class Transport(Protocol):
    """Makes exchanges. All methods may be called from any thread and return at once."""

    @property
    def bug(self) -> BaseException | None:
        """What a thread of it died of, or None while they live; read from any thread. Nothing will come any more."""
        ...

    def start(self, exchange: Exchange, receiver: Receiver) -> None:
        """Begin; the receiver hears of the end in every case."""
        ...

    def stop(self, flight: int) -> None:
        """Give this exchange up; the receiver hears `failed` with kind "stopped", unless it ended before."""
        ...

    def pause(self, flight: int) -> None:
        """Take no more bytes of this exchange until `resume`; its deadlines stand still."""
        ...

    def resume(self, flight: int) -> None:
        """Go on after `pause`."""
        ...

    def network_changed(self) -> None:
        """The machine has a network again, or another one: what has been silent since is given up, with kind "stall"; no
        connection made before is used again.
        """
        ...

    def close(self) -> None:
        """Give everything up, telling every receiver "stopped", and end the thread; returns when it has ended."""
        ...


class Limits(Protocol):
    """Sets how fast exchanges may be; `transports.limited` keeps to it. Any thread, at any time."""

    def set_limit(self, rate: float | None) -> None:
        """Let all exchanges together have so many bytes a second, > 0; None for no limit."""
        ...

    def set_lane_limit(self, lane: int, rate: float | None) -> None:
        """The same for the exchanges of one lane, besides the limit for all."""
        ...
