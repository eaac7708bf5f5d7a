"""What libcurl hands to a transfer, and when the transfer hands it on."""

from __future__ import annotations

from collections.abc import Sequence

from bgfetch.core.model import Fault, ReplyHead
from bgfetch.transports.base import Deadlines, Exchange
from bgfetch.transports.transfer import Transfer


class Taker:
    """A receiver that wants all, and remembers how many chunks came at a time."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def connected(self, address: str) -> None:
        """It is of no matter where."""

    def head(self, reply: ReplyHead) -> bool:
        """Any will do."""
        return True

    def body(self, chunks: Sequence[bytes]) -> bool:
        """Remember how many."""
        self.batches.append(len(chunks))
        return True

    def tick(self) -> None:
        """Nothing waits."""

    def sent(self, count: int) -> None:
        """Nothing is sent."""

    def ended(self) -> None:
        """Nothing ends."""

    def failed(self, fault: Fault) -> None:
        """Nothing fails."""


def test_a_limit_hears_of_the_first_bytes_before_more_have_come() -> None:
    """The first chunk is handed on by itself, more and more of them then; after a pause it begins again with one."""
    taker = Taker()
    transfer = Transfer(Exchange(1, "http://memory/"), taker, Deadlines())
    for _ in range(47):
        transfer.on_body(b"x")
    assert taker.batches == [1, 2, 4, 8, 16, 16]
    transfer.pause()
    transfer.resume()
    transfer.on_body(b"x")
    transfer.on_body(b"x")
    assert taker.batches[6:] == [1]
