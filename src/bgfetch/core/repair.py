"""Finding the wrong pieces of a body whose digest is wrong, without throwing away the right ones.

A digest says that a body is wrong, not where. Pieces that no longer have the checksum they were stored with were
changed by this disk: they are fetched again. Otherwise the line or the server was wrong: all is fetched again and
compared piece by piece, then only the pieces that differed, for one of the two copies of each was right.

Mostly, though, it is the digest that is wrong: a person took it from elsewhere, and nobody beside them vouches for it.
Then a whole second download would only repeat the answer. How little is honest depends on who can have changed bytes.
Over plain HTTP anybody on the way: one flipped bit is in any piece, so only comparing all finds it. Where all came
authenticated (TLS) nobody on the way could, and what is left, a server that sends other bytes now than before, shows
in a sample spread over the body; one piece of it that differs, and all is compared. A server that itself says what the
body hashes to, and is right about what is held, needs not be asked again at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Span, Spans

__all__ = ["Repair"]

_SAMPLE = 64  # pieces


@dataclass(frozen=True, slots=True)
class Repair:
    """How far the repair of a body has come.

    Args:
        rounds: Repairs begun.
        doubtful: Bytes held that are to be fetched again and compared; whole pieces.
        differing: Bytes that came differently when they were compared.
        compared: Whether any comparison was begun; then `differing` says where to look.
        sampled: Whether it was of a sample only.
    """

    rounds: int = 0
    doubtful: Spans = field(default_factory=Spans)
    differing: Spans = field(default_factory=Spans)
    compared: bool = False
    sampled: bool = False

    def stored(self, span: Span, *, differs: bool) -> Repair:
        """After bytes came."""
        if not self.doubtful:
            return self
        differing = self.differing.add(span) if differs else self.differing
        return replace(self, doubtful=self.doubtful.remove(span), differing=differing)

    def next_round(self, damaged: Spans, total: int, *, sample: bool = False) -> Repair | None:
        """What to fetch again after a wrong digest, or None when no repair can help.

        Args:
            damaged: Pieces this disk changed; these are missing now, so nothing else is doubtful yet.
            total: Length of the body, bytes.
            sample: Whether to begin with a sample: nobody on the way can have changed a byte, nobody else knows this digest.
        """
        if damaged:
            return replace(self, rounds=self.rounds + 1)
        if self.compared and not self.differing:
            return None  # the server sent the very same bytes twice
        whole = Spans.of([(0, total)])
        if self.compared:
            doubtful = whole if self.sampled else _whole_pieces(self.differing, total)
            return Repair(self.rounds + 1, doubtful, compared=True)
        doubtful = _spread(total) if sample else whole
        return Repair(self.rounds + 1, doubtful, compared=True, sampled=doubtful != whole)

    def given_up(self) -> Repair:
        """After every byte was thrown away: only the count stays."""
        return Repair(self.rounds)


def _spread(total: int) -> Spans:
    """So many pieces from the first to the last at even distances; all where there are not more."""
    last = max(0, total - 1) // PIECE
    places = range(last + 1) if last < _SAMPLE else (last * n // (_SAMPLE - 1) for n in range(_SAMPLE))
    return Spans.of((at * PIECE, min(total, (at + 1) * PIECE)) for at in places)


def _whole_pieces(spans: Spans, total: int) -> Spans:
    return Spans.of(
        (span.start // PIECE * PIECE, min(total, -(-span.stop // PIECE) * PIECE)) for span in spans
    )
