"""What comes ahead of its piece waits for the bytes before it, and never for ever."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bgfetch.cache.partials import Partial, Partials
from bgfetch.cache.room import Room
from bgfetch.cache.writer import BufferPool
from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.model import Fault, Headers, ReplyHead
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Spans
from bgfetch.core.verdicts import Ask, Known
from bgfetch.engine.receiver import FlightReceiver
from bgfetch.vfs import Vfs

BODY = random.Random(4).randbytes(PIECE)
HALF = PIECE // 2
KNOWN = Known(total=PIECE, etag='"1"', last_modified="", content_type="", held=0, front=0)


class Flight:
    """A receiver of one half of the only piece, and what it told the driver."""

    def __init__(self, partial: Partial, start: int) -> None:
        ask = Ask("http://host/x", start, start + HALF, ranged=True, conditional=True, resolved=False)
        self.start, self.told = start, list[on.Event]()
        self.receiver = FlightReceiver(
            do.OpenFlight(1, ask, Headers(), ahead=start > 0),
            known=KNOWN,
            partial=partial,
            generation=0,
            pool=BufferPool(),
            now=lambda: 0.0,
            post=self.told.append,
            reached=lambda _: None,
            replied=lambda _reply, _total: None,
            sent=lambda _: None,
            room=Room(partial.path, Vfs()),
            needs=lambda _: None,
        )

    def bring(self) -> None:
        """The server's reply and all its bytes."""
        fields = (("Content-Range", f"bytes {self.start}-{self.start + HALF - 1}/{PIECE}"), ("ETag", '"1"'))
        assert self.receiver.head(ReplyHead("http://host/x", 206, Headers(fields)))
        assert self.receiver.body([BODY[self.start : self.start + HALF]])

    @property
    def outcome(self) -> on.Event | None:
        """How it ended, if it did."""
        last = self.told[-1]
        return last if isinstance(last, on.FlightEnded | on.FlightFailed) else None


@pytest.fixture
def partial(tmp_path: Path) -> Partial:
    """An empty one."""
    return Partials(tmp_path / "partials", Vfs()).open("ab" * 32)


@pytest.fixture
def late(partial: Partial) -> Flight:
    """The second half, which came first: its exchange is over."""
    flight = Flight(partial, HALF)
    flight.bring()
    assert flight.receiver.gathered == HALF
    flight.receiver.ended()
    flight.receiver.settle()
    assert (flight.outcome, flight.receiver.waiting, partial.held) == (None, True, Spans())
    return flight


def test_it_ends_when_the_bytes_before_are_stored(partial: Partial, late: Flight) -> None:
    """Both halves are held then, and the driver hears of both."""
    front = Flight(partial, 0)
    front.bring()
    front.receiver.ended()
    assert not front.receiver.waiting
    late.receiver.settle()
    assert isinstance(late.outcome, on.FlightEnded)
    assert on.BytesStored(1, 0, HALF, PIECE, differs=False) in late.told
    assert (late.receiver.waiting, late.receiver.gathered) == (False, 0)
    assert partial.held == Spans.of([(0, PIECE)])


def test_it_is_given_up_with_its_record(partial: Partial, late: Flight) -> None:
    """What nobody wants any more, or what the disk has lost the beginning of, fails, and once only."""
    late.receiver.settle(hopeless=True)
    assert isinstance(late.outcome, on.FlightFailed)
    assert late.outcome.fault.kind == "disk"
    told = len(late.told)
    late.receiver.settle(hopeless=True)
    assert (len(late.told), late.receiver.waiting, partial.held) == (told, False, Spans())


def test_given_up_before_its_exchange_is_over_it_does_not_wait(partial: Partial) -> None:
    """The transport may end it a moment after the driver gave it up."""
    flight = Flight(partial, HALF)
    flight.bring()
    flight.receiver.settle(hopeless=True)
    assert flight.outcome is None
    flight.receiver.ended()
    assert isinstance(flight.outcome, on.FlightFailed)


def test_what_broke_off_ahead_of_its_piece_brought_nothing(partial: Partial) -> None:
    """The fault is the line's."""
    flight = Flight(partial, HALF)
    flight.bring()
    flight.receiver.tick()
    flight.receiver.failed(Fault("reset", "the line broke", transient=True))
    assert isinstance(flight.outcome, on.FlightFailed)
    assert (flight.outcome.fault.kind, partial.held) == ("reset", Spans())
