"""The bytes of one record: what is held, of which version, what is under way and what to ask for next.

The rule it keeps is invariant 3: bytes of two versions are never held together. `RecordMachine` decides when to go
on; this decides with what.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from bgfetch.core import commands as do
from bgfetch.core.digests import Digest, strongest
from bgfetch.core.flights import Address, Leg
from bgfetch.core.model import Fault, Request
from bgfetch.core.ranges import is_strong
from bgfetch.core.repair import Repair
from bgfetch.core.segments import FIRST_SEGMENT, PIECE, plan, segment_size, shorten, useful
from bgfetch.core.spans import Span, Spans
from bgfetch.core.urls import Hop, redacted
from bgfetch.core.verdicts import Accept, Ask, Known, Refuse, Restart

__all__ = ["Recovered", "Transfer"]

_TAG_DIGEST = re.compile('"([0-9a-fA-F]{32}|[0-9a-fA-F]{64})"')
_BY_LENGTH = {32: "md5", 64: "sha256"}
_PROOF = 16  # bytes of a digest that no accident hits


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an earlier process left: the bytes held, and of which version they are."""

    held: Spans = field(default_factory=Spans)
    total: int | None = None
    etag: str = ""
    last_modified: str = ""
    content_type: str = ""


class Transfer:
    """The body of one record while it comes.

    Args:
        request: What to fetch, unresolved.
        digest: What the body must have, or None; one that a reply promises is taken when there is none.
    """

    def __init__(self, request: Request, digest: Digest | None) -> None:
        self.request = request
        self.held = Spans()
        self.total: int | None = None
        self.etag = ""
        self.last_modified = ""
        self.content_type = ""
        self.digest = digest
        self.generation = 0
        self.flights: dict[int, Leg] = {}
        self.connections = 1
        self.repair = Repair()
        self._digest_by_person = digest is not None
        self._witnesses: dict[str, Digest] = {}  # what else the server says the body hashes to
        self._vouched = False  # the server says the same digest as the person
        self._plain = False  # some byte came where anybody on the way could have changed it
        self._next_flight = 1
        self._source = self._address = Address(request.url, request.headers)
        # How the server lets itself be asked, as far as its replies have shown.
        self._ranged: bool | None = None
        self._whole = not request.resumable
        self._conditional = True
        self._endure = False

    def adopt(self, left: Recovered) -> None:
        """Go on from what an earlier process left."""
        self.held, self.total = left.held, left.total
        self.etag, self.last_modified, self.content_type = left.etag, left.last_modified, left.content_type
        self._ranged = True if left.held else None
        self._plain = bool(left.held)  # nobody knows how those came

    # What is known.

    @property
    def known(self) -> Known:
        """What the reply checker is told."""
        return Known(
            total=self.total,
            etag=self.etag,
            last_modified=self.last_modified,
            content_type=self.content_type,
            held=self.held.length,
            front=self.held.front,
            expected_size=self.request.expected_size,
            by_digest=self._endure and self.digest is not None,
        )

    @property
    def trusted(self) -> bool:
        """Whether bytes of an earlier process may be gone on with: what tells another version, and they fit."""
        end = self.held.items[-1].stop if self.held else 0
        fits = self.total is None or (end <= self.total and self.request.expected_size in (None, self.total))
        return fits and (is_strong(self.etag) or self._digest_by_person)

    @property
    def witness(self) -> Digest | None:
        """What the server itself says the body hashes to, beside the digest that a person gave, or None.

        An entity tag in the shape of a digest often is one (S3, Hugging Face); one that is not proves nothing.
        """
        tag = _TAG_DIGEST.fullmatch(self.etag)
        if not self._digest_by_person or self._vouched:
            return None
        said = strongest(self._witnesses.values())
        if said is not None and len(said.value) >= _PROOF:
            return said
        return None if tag is None else Digest(_BY_LENGTH[len(tag[1])], bytes.fromhex(tag[1]))

    @property
    def sample_will_do(self) -> bool:
        """Whether a sample tells as much of a wrong digest as a whole second download; see `core.repair`."""
        return self._digest_by_person and not (self._vouched or self._plain)

    @property
    def complete(self) -> bool:
        """Whether every byte is held and none is in doubt."""
        return self.total is not None and not self._missing(self.total)

    @property
    def progress(self) -> int:
        """Bytes held and not in doubt."""
        return self.held.length - self.repair.doubtful.length

    @property
    def in_parts(self) -> bool:
        """Whether the server sends parts, and the body is asked for so."""
        return self._ranged is True and not self._whole

    @property
    def resumable(self) -> bool:
        """Whether an interrupted body may be gone on with: by parts, by the same version, or since a digest judges."""
        return self._ranged is not False or is_strong(self.etag) or self.digest is not None

    @property
    def wants_connections(self) -> int:
        """How many connections could be put to use, >= 1."""
        if self.total is None or not self.in_parts:
            return 1
        under_way = useful(leg.flight for leg in self.flights.values() if not leg.waiting)
        return max(1, -(-self._missing(self.total).length // PIECE), under_way)

    @property
    def idle(self) -> int:
        """Connections it may use and does not."""
        return self.connections - len(self.flights) + self._waiting

    @property
    def _waiting(self) -> int:
        return sum(leg.waiting for leg in self.flights.values())

    def _missing(self, total: int) -> Spans:
        return self.repair.doubtful or self.held.gaps(total)

    # Opening and closing.

    def open_more(self) -> list[do.Command]:
        """Ask for what is missing, as far as there are connections; at least one flight is under way afterwards."""
        if self.total is None or not self.in_parts:
            return [] if self.flights else [self._open(*self._only_span())]
        missing = self._missing(self.total)
        held = Spans.of([(0, self.total)]).without(missing)
        flying = [Span(leg.position, leg.stop) for leg in self.flights.values() if leg.stop is not None]
        size = segment_size(missing.length, self.connections, held=held.length)
        streams = self.connections + self._waiting
        spans = plan(held, flying, total=self.total, size=size, streams=streams)
        before = list(self.flights)
        opened = [self._open(span.start, span.stop) for span in spans]
        return [*opened, *self._share_tails(before)]

    def _only_span(self) -> tuple[int, int | None]:
        """What one connection asks for while nobody knows whether there are parts, or how many."""
        if self._whole:
            return 0, None
        start = self.held.front if self.total is None else self._missing(self.total).items[0].start
        return start, start + FIRST_SEGMENT

    def _share_tails(self, givers: Sequence[int]) -> list[do.Command]:
        """Give idle connections the tails of those flights; what has only just been opened gives nothing."""
        shared: list[do.Command] = []
        settled = {
            flight: self.flights[flight].flight for flight in givers if not self.flights[flight].waiting
        }
        # What waits takes memory though no connection: no more of it than there are connections.
        while self.idle > 0 and self._waiting < self.connections and not self.repair.doubtful:
            victim = shorten(settled)
            if victim is None:
                break
            flight, cut = victim
            leg = self.flights[flight]
            stop, leg.stop = leg.stop, cut
            settled[flight] = leg.flight
            shared += [do.ShortenFlight(flight, cut), self._open(cut, stop)]
        return shared

    def _open(self, start: int, stop: int | None) -> do.Command:
        known = self.known
        conditional = self._conditional and not known.by_digest and known.version and is_strong(self.etag)
        ask = Ask(
            url=self._address.url,
            start=start,
            stop=stop,
            ranged=not self._whole,
            conditional=conditional and not self._whole,
            resolved=self._address.resolved,
            safe=self.request.resumable,
            source=self.request.url,
        )
        return self._launch(Leg(ask, start, stop, headers=self._address.headers))

    def _launch(self, leg: Leg) -> do.Command:
        flight, self._next_flight = self._next_flight, self._next_flight + 1
        self.flights[flight] = leg
        ahead = leg.start % PIECE > 0 and not self.held.covers((leg.start - 1, leg.start))
        compare = bool(self.repair.doubtful)
        return do.OpenFlight(flight, leg.ask, leg.headers, leg.hops, compare=compare, ahead=ahead)

    def redirect(self, leg: Leg, hop: Hop) -> do.Command:
        """Ask for a flight's segment at the target of a redirect."""
        return self._launch(leg.moved_to(hop))

    def close_all(self) -> list[do.Command]:
        """Give up all flights; what they gathered may still come as bytes stored."""
        closing: list[do.Command] = [do.CloseFlight(flight) for flight in self.flights]
        self.flights.clear()
        return closing

    def close_for_long(self) -> list[do.Command]:
        """Give up all flights; nobody will be there to judge a reply that is on its way.

        Before a version is known such a reply could bring bytes of one that nothing else belongs to: where they
        would be stored must go.
        """
        if self.known.version or not self.flights:
            return self.close_all()
        self.generation += 1
        return [*self.close_all(), do.Reset(self.generation)]

    # What replies and bytes teach.

    def promise(self, digest: Digest | None) -> Refuse | Restart | None:
        """Take the digest that a reply promises, or say what follows where it contradicts the one known."""
        if digest is None:
            return None
        if self.digest is None or self.digest == digest:
            self._vouched = True
            self.digest = digest
            return None
        if self.digest.algorithm != digest.algorithm:
            self._witnesses[digest.algorithm] = digest
            return None
        if self._digest_by_person:
            detail = f"the server says the file is {digest}, but {self.digest} was asked for"
            return Refuse(Fault("integrity", detail))
        return Restart(Fault("changed", f"the server says the file is {digest} now, {self.digest} before"))

    def accept(self, leg: Leg, accept: Accept) -> None:
        """Take over what an accepted reply says about the body and about its own part of it."""
        if not self.known.version:
            self.etag, self.last_modified = accept.etag, accept.last_modified
            self.content_type = accept.content_type
        if self.total is None:
            self.total = accept.total
        self._plain = self._plain or not leg.ask.url.lower().startswith("https:")
        if leg.hops:
            self._address = leg.address
        leg.start = leg.position = accept.start
        if accept.ranges and leg.stop is not None and accept.stop is not None:
            leg.stop = min(leg.stop, accept.stop)
        else:
            leg.stop = accept.stop
        self._ranged = accept.ranges or self.in_parts

    def stored(self, flight: int, span: Span, *, differs: bool) -> None:
        """Take over that bytes are on disk."""
        self.held = self.held.add(span)
        self.repair = self.repair.stored(span, differs=differs)
        if flight in self.flights:
            self.flights[flight].position = span.stop

    def ended_whole(self, leg: Leg) -> bool:
        """Whether this flight was to bring the body up to its end, whatever that is."""
        return not leg.ask.ranged or self._ranged is False

    def shortfall(self, leg: Leg) -> str:
        """What a flight that ended well did not bring although it was to, or ""."""
        where, promised = redacted(leg.ask.url), self.request.expected_size
        if not self.ended_whole(leg):
            empty = f"{where}: the server closed the reply without a byte of it"
            return "" if leg.position > leg.start else empty
        if self.total is not None:  # what was complete would be verified by now
            return f"{where}: the body was shorter than announced"
        if promised not in (None, leg.position):
            return f"{where}: the body ended after {leg.position} bytes where {promised} were promised"
        return "" if leg.position >= self.held.length else f"{where}: the body was shorter than before"

    def excess(self, most_bytes: int) -> Fault | None:
        """Why a body of unknown length brought too much, or None.

        Args:
            most_bytes: Longest such body that is believed.
        """
        held, promised = self.held.length, self.request.expected_size
        if self.total is not None:
            return None
        if promised is not None and held > promised:
            return Fault("size", f"more than the {promised} bytes came that were promised")
        if held > most_bytes:
            detail = f"the body never ends: {held} bytes came and no length was announced"
            return Fault("endless", detail)
        return None

    def ends_at(self, total: int) -> None:
        """The body turned out to be this long."""
        self.total = total
        self.held = Spans.of([(0, total)])

    # Changing the way to ask.

    def forget_address(self) -> None:
        """Ask the source again, not where it once redirected to."""
        self._address = self._source

    def ask_plainly(self) -> None:
        """Send no If-Range: this server ignores ranges that carry it."""
        self._conditional = False

    def ask_whole(self) -> bool:
        """Ask for the whole body on one connection from now on; False when that was so already."""
        was, self._whole = self._whole, True
        return not was

    def distrust(self, *, totals: bool) -> None:
        """Replicas disagree on the tag of the same bytes: a digest can tell, else one connection can endure it.

        Args:
            totals: The totals disagree as well, which are lies about ranges: only the whole body shows its length.
        """
        self._endure = True
        self._whole = self._whole or totals or self.digest is None

    def forget(self, damaged: Spans) -> None:
        """Hold these no longer."""
        self.held = self.held.without(damaged)

    def reset(self) -> list[do.Command]:
        """Throw away every byte: what comes next is another version."""
        closing = self.close_all()
        self.generation += 1
        self.held, self.repair = Spans(), self.repair.given_up()
        self.total, self.etag, self.last_modified, self.content_type = None, "", "", ""
        self._ranged, self._address = None, self._source
        self._witnesses, self._vouched, self._plain = {}, False, False
        if not self._digest_by_person:
            self.digest = None
        return [*closing, do.Reset(self.generation)]
