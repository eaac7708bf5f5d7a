"""Finding the wrong pieces of a body whose digest is wrong, without throwing away the right ones.

A digest says that a body is wrong, not where. Pieces that no longer have the checksum they were stored with were
changed by this disk: they are fetched again. Otherwise the line or the server was wrong: all is fetched again and
compared piece by piece, then only the pieces that differed, for one of the two copies of each was right.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Span, Spans

__all__ = ["Repair"]


@dataclass(frozen=True, slots=True)
class Repair:
    """How far the repair of a body has come.

    Args:
        rounds: Repairs begun.
        doubtful: Bytes held that are to be fetched again and compared; whole pieces.
        differing: Bytes that came differently when they were compared.
        compared: Whether any comparison was begun; then `differing` says where to look.
    """

    rounds: int = 0
    doubtful: Spans = field(default_factory=Spans)
    differing: Spans = field(default_factory=Spans)
    compared: bool = False

    def stored(self, span: Span, *, differs: bool) -> Repair:
        """After bytes came."""
        if not self.doubtful:
            return self
        differing = self.differing.add(span) if differs else self.differing
        return replace(self, doubtful=self.doubtful.remove(span), differing=differing)

    def next_round(self, damaged: Spans, total: int) -> Repair | None:
        """What to fetch again after a wrong digest, or None when no repair can help.

        Args:
            damaged: Pieces this disk changed; these are missing now, so nothing else is doubtful yet.
            total: Length of the body, bytes.
        """
        if damaged:
            return replace(self, rounds=self.rounds + 1)
        if self.compared and not self.differing:
            return None  # the server sent the very same bytes twice
        doubtful = _whole_pieces(self.differing, total) if self.compared else Spans.of([(0, total)])
        return Repair(self.rounds + 1, doubtful, compared=True)

    def given_up(self) -> Repair:
        """After every byte was thrown away: only the count stays."""
        return Repair(self.rounds)


def _whole_pieces(spans: Spans, total: int) -> Spans:
    return Spans.of(
        (span.start // PIECE * PIECE, min(total, -(-span.stop // PIECE) * PIECE)) for span in spans
    )
