"""What a scenario is: a named way to misbehave, and what a correct client makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from bgfetch.testing.exchange import Exchange, Fuse, Handler
from bgfetch.testing.origin import OriginServer

__all__ = ["Make", "Outcome", "Scenario", "forced_to_resume", "part"]


class Outcome(StrEnum):
    """What a correct client must do.

    FINISH: end with the right bytes. REFUSE: end with a named error and without a file. DIGEST: finish when it knows
    the digest; without one it must finish or refuse, and cannot be expected to notice.
    """

    FINISH = "finish"
    REFUSE = "refuse"
    DIGEST = "digest"


Make = Callable[..., Handler]
"""Given the server and the scenario's own keyword parameters: the handler, with its counts at their start."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named fault.

    Args:
        name: What tests call it.
        family: Scenarios about the same thing share it.
        outcome: What a correct client must do.
        description: One line: what the server does.
        make: Makes the handler; its keyword parameters are the scenario's.
        needs_tls: Whether it is only itself over https.
    """

    name: str
    family: str
    outcome: Outcome
    description: str
    make: Make
    needs_tls: bool = False


def part(server: OriginServer, asked: int | None, fraction: int) -> int:
    """This many bytes, or the body's length divided by `fraction` (at least 1) when None was asked."""
    return max(1, server.content.length // fraction) if asked is None else asked


def forced_to_resume(
    server: OriginServer,
    on_range: Callable[[Exchange], object],
    *,
    after: int | None = None,
    drops: int | None = 1,
    on_whole: Callable[[Exchange, Fuse], object] | None = None,
) -> Handler:
    """A handler for faults that only a range meets: whole replies break off, ranges go to `on_range`.

    Args:
        server: The server it is for.
        on_range: Answers each GET with a Range header.
        after: Body bytes of a whole reply before it breaks off; a third of the body when None.
        drops: How many whole replies break off before one arrives; None = all of them.
        on_whole: Sends a whole reply with this fuse; the correct one when None.
    """
    cut, left = part(server, after, 3), Fuse(drops)

    def answer(exchange: Exchange) -> None:
        if not exchange.wants_bytes:
            exchange.send(exchange.correct())
        elif exchange.request.range is not None:
            on_range(exchange)
        else:
            fuse = Fuse(cut if left.take() else None)
            if on_whole is None:
                exchange.send(exchange.correct(), fuse)
            else:
                on_whole(exchange, fuse)

    return answer
