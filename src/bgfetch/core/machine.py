"""One record's life as one transition table: an event in, commands out, nothing touched.

A record is queued until the scheduler starts it, runs flights (segments under way) until every byte is held, is
verified, committed and settled; in between it may wait for the network, for a retry, for a person or for disk space.
`TRANSITIONS` is that picture as data; docs/states.md is drawn from it.

Rules kept here: progress resets the retry budget and waiting that a server asked for costs none of it; bytes of two
versions are never held together; a good piece is never thrown away because another one is bad.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.digests import Digest
from bgfetch.core.flights import Leg
from bgfetch.core.model import FailureReason, Fault, Request, Result, State
from bgfetch.core.ranges import (
    Accept,
    Ask,
    Complete,
    Follow,
    Known,
    PlainRange,
    Refuse,
    ResolveAgain,
    Restart,
    Retry,
    Whole,
    is_strong,
)
from bgfetch.core.retry import RetryBudget, backoff, looks_offline
from bgfetch.core.segments import FIRST_SEGMENT, PIECE, plan, segment_size, shorten
from bgfetch.core.spans import Span, Spans
from bgfetch.core.urls import next_hop, redacted

__all__ = ["TRANSITIONS", "Policy", "RecordMachine", "Recovered"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How long to go on trying.

    Args:
        attempts: Failures in a row, without a byte of progress, before a record fails.
        first_attempts: The same while nobody has answered yet: a mistyped host should be told soon.
        server_waits: Times in a row a server may ask to wait.
        resolves: Times in a row the source may be asked for a fresh URL.
        restarts: Times a body may turn out to be another version before that is an error.
        repairs: Times the doubtful pieces are fetched again before a wrong digest is an error.
        most_bytes: Longest body of unannounced length that is believed.
        retry_scale: Factor on all back-off delays.
        disk_poll: Seconds between looks at a full disk.
    """

    attempts: int = 12
    first_attempts: int = 6
    server_waits: int = 100
    resolves: int = 3
    restarts: int = 6
    repairs: int = 10
    most_bytes: int = 1 << 40
    retry_scale: float = 1.0
    disk_poll: float = 5.0


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an earlier process left: the bytes held, and of which version they are."""

    held: Spans = field(default_factory=Spans)
    total: int | None = None
    etag: str = ""
    last_modified: str = ""
    content_type: str = ""


class RecordMachine:
    """The decisions about one record.

    Args:
        request: What to fetch, unresolved.
        policy: How long to go on trying.
        digest: What the body must have, or None; one that a reply promises is taken when there is none.
    """

    def __init__(
        self,
        request: Request,
        *,
        policy: Policy,
        digest: Digest | None = None,
    ) -> None:
        self.request = request
        self.policy = policy
        self.state = State.QUEUED
        self.until: float | None = None
        self.waiting_for = ""
        self.held = Spans()
        self.total: int | None = None
        self.etag = ""
        self.last_modified = ""
        self.content_type = ""
        self.digest = digest
        self.generation = 0
        self.restarts = 0
        self.flights: dict[int, Leg] = {}
        self._pinned_by_person = digest is not None
        self._recovered = False
        self._connections = 1
        self._next_flight = 1
        self._resolved = ""
        self._resolved_headers = request.headers
        self._ranged: bool | None = None
        self._whole = not request.resumable
        self._conditional = True
        self._endure = False
        self._answered = False
        self._budget = RetryBudget(policy.attempts)
        self._server_waits = 0
        self._resolves = 0
        self._hold_until = 0.0
        self._doubtful = Spans()
        self._differing = Spans()
        self._repairs = 0

    def adopt(self, left: Recovered) -> None:
        """Go on from what an earlier process left; only before it is started."""
        self.held, self.total = left.held, left.total
        self.etag, self.last_modified, self.content_type = left.etag, left.last_modified, left.content_type
        self._recovered = bool(left.held)
        self._ranged = True if left.held else None

    # What the driver reads.

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
            by_digest=self._endure,
        )

    @property
    def wants_connections(self) -> int:
        """How many connections could be put to use, >= 1."""
        if self._whole or self._ranged is not True or self.total is None:
            return 1
        return max(1, -(-self._missing().length // PIECE))

    @property
    def settled(self) -> bool:
        """Whether it is over."""
        return self.state is State.SETTLED

    def handle(self, event: on.Event, *, now: float, chance: float) -> list[do.Command]:
        """What to do about an event.

        Args:
            event: What happened; one that means nothing in this state is ignored.
            now: Instant, seconds since the epoch.
            chance: A number in [0, 1) for jitter.
        """
        row = TRANSITIONS.get((self.state, type(event)))
        if row is None:
            return []
        before = self.state
        done = row.handler(self, event, now, chance)
        assert self.state is before or self.state in row.targets, (before, event, self.state)  # noqa: S101 - the table must tell the truth
        return done

    # Running.

    def _on_started(self, event: on.Started, now: float, _chance: float) -> list[do.Command]:
        self._connections = event.connections
        self._enter(State.RUNNING)
        if self._recovered and not self._may_continue():
            self._recovered = False
            return [
                *self._reset(
                    "no strong validator and no digest tell that the server's file is still the one begun"
                ),
                *self._go_on(now),
            ]
        return self._go_on(now)

    def _may_continue(self) -> bool:
        return self.request.resumable and (is_strong(self.etag) or self._pinned_by_person)

    def _on_granted(self, event: on.ConnectionsGranted, now: float, _chance: float) -> list[do.Command]:
        self._connections = event.connections
        return self._go_on(now)

    def _go_on(self, now: float) -> list[do.Command]:
        """Open what may be opened; verify when nothing is missing."""
        if self.total is not None and not self._missing():
            return [*self._close_all(), *self._complete(self.total)]
        if now < self._hold_until:
            return [do.RingAt(self._hold_until)]
        return [self._open(span) for span in self._next_spans()] + self._share_tail()

    def _missing(self) -> Spans:
        if self.total is None:
            return Spans()
        return self._doubtful or self.held.gaps(self.total)

    def _next_spans(self) -> list[tuple[int, int | None]]:
        if self._whole:
            return [] if self.flights else [(0, None)]
        if self.total is None or self._ranged is not True:
            front = self.held.front
            return [] if self.flights else [(front, front + FIRST_SEGMENT)]
        missing = self._missing()
        held = Spans.of([(0, self.total)]).without(missing)
        flying = [Span(leg.position, leg.stop) for leg in self.flights.values() if leg.stop is not None]
        size = segment_size(missing.length, self._connections)
        return list(plan(held, flying, total=self.total, size=size, streams=self._connections))

    def _share_tail(self) -> list[do.Command]:
        if (
            self._whole
            or self._ranged is not True
            or len(self.flights) >= self._connections
            or self._doubtful
        ):
            return []
        victim = shorten({key: leg.flight for key, leg in self.flights.items()})
        if victim is None:
            return []
        flight, stop = victim
        old = self.flights[flight].stop
        self.flights[flight].stop = stop
        return [do.ShortenFlight(flight, stop), self._open((stop, old))]

    def _open(self, span: tuple[int, int | None]) -> do.Command:
        start, stop = span
        conditional = self._conditional and self.known.version and is_strong(self.etag) and not self._endure
        ask = Ask(
            url=self._resolved or self.request.url,
            start=start,
            stop=stop,
            ranged=not self._whole,
            conditional=conditional and not self._whole,
            resolved=bool(self._resolved),
            safe=self.request.resumable,
        )
        headers = self._resolved_headers if self._resolved else self.request.headers
        return self._launch(Leg(ask, start, stop, headers=headers))

    def _launch(self, leg: Leg) -> do.Command:
        flight, self._next_flight = self._next_flight, self._next_flight + 1
        self.flights[flight] = leg
        return do.OpenFlight(flight, leg.ask, leg.headers, leg.hops, compare=bool(self._doubtful))

    def _close_all(self) -> list[do.Command]:
        closing: list[do.Command] = [do.CloseFlight(flight) for flight in self.flights]
        self.flights.clear()
        return closing

    def _enter(self, state: State, until: float | None = None, waiting_for: str = "") -> None:
        self.state, self.until, self.waiting_for = state, until, waiting_for

    # Replies.

    def _on_reply(self, event: on.ReplyJudged, now: float, chance: float) -> list[do.Command]:
        leg = self.flights.get(event.flight)
        if leg is None:
            return []
        self._answered = True
        match event.verdict:
            case Accept() as accept:
                return self._accepted(leg, accept, event.digest, now)
            case Follow(location):
                return self._followed(event.flight, leg, location, now, chance)
        del self.flights[event.flight]
        match event.verdict:
            case Complete(total):
                self.total = total
                return self._go_on(now)
            case PlainRange():
                self._conditional = False
                return self._go_on(now)
            case Whole(fault):
                return self._fetch_whole(fault, now)
            case Restart(fault):
                return self._restart(fault, now)
            case Retry(fault, after):
                return self._failed(fault, after, now, chance, progressed=False)
            case ResolveAgain(fault):
                return self._resolve_again(leg, fault, now)
            case Refuse(fault):
                return self._refuse(fault)

    def _accepted(self, leg: Leg, accept: Accept, digest: Digest | None, now: float) -> list[do.Command]:
        if not self.known.version:
            self.total = accept.total
            self.etag, self.last_modified = accept.etag, accept.last_modified
            self.content_type = accept.content_type
        elif self.total is None:
            self.total = accept.total
        contradiction = self._adopt(digest)
        if contradiction is not None:
            return self._refuse(contradiction)
        if leg.hops:
            self._resolved, self._resolved_headers = leg.ask.url, leg.headers
        leg.start = leg.position = accept.start
        leg.stop = (
            accept.stop
            if accept.ranges is False or leg.stop is None
            else min(leg.stop, accept.stop or leg.stop)
        )
        self._ranged = accept.ranges or (self._ranged is True and not self._whole)
        return self._go_on(now)

    def _adopt(self, promised: Digest | None) -> Fault | None:
        """Take a digest the server promises; a fault if it contradicts the person's."""
        if promised is None:
            return None
        if self.digest is None:
            self.digest = promised
        elif (
            self._pinned_by_person and self.digest.algorithm == promised.algorithm and self.digest != promised
        ):
            detail = f"the server says the file is {promised}, but {self.digest} was asked for"
            return Fault("integrity", detail)
        return None

    def _followed(self, flight: int, leg: Leg, location: str, now: float, chance: float) -> list[do.Command]:
        del self.flights[flight]
        hop = next_hop(leg.ask.url, location, leg.headers, granted_to=self.request.url, hops=leg.hops)
        if isinstance(hop, Fault):
            return (
                self._failed(hop, None, now, chance, progressed=False) if hop.transient else self._refuse(hop)
            )
        return [self._launch(leg.moved_to(hop))]

    def _fetch_whole(self, fault: Fault, now: float) -> list[do.Command]:
        if self._whole:
            return self._refuse(fault)
        self._whole = True
        return [*self._close_all(), do.Note("whole", fault.detail), *self._go_on(now)]

    def _resolve_again(self, leg: Leg, fault: Fault, now: float) -> list[do.Command]:
        self._resolved = ""
        self._resolves += 1
        # Where the source itself refused a second look is enough.
        most = self.policy.resolves if leg.ask.resolved else 1
        if self._resolves > most + len(self.flights):
            return self._refuse(fault)
        return [do.Note("resolved-again", fault.detail), *self._go_on(now)]

    def _restart(self, fault: Fault, now: float) -> list[do.Command]:
        self.restarts += 1
        if self.restarts > self.policy.restarts:
            return self._refuse(
                Fault("unstable", f"{fault.detail}; it changes faster than it can be fetched")
            )
        if self.restarts >= 2:
            # Replicas that disagree on the tag of the same bytes: a digest can tell, one connection can endure it.
            self._endure = self.digest is not None
            # Totals that still disagree are lies about ranges: only the whole body can show how long it is.
            self._whole = self.digest is None or self.restarts >= 3
        return [*self._reset(fault.detail), *self._go_on(now)]

    def _reset(self, why: str) -> list[do.Command]:
        closing = self._close_all()
        self.generation += 1
        self.held = self._doubtful = self._differing = Spans()
        self.total, self.etag, self.last_modified, self.content_type = None, "", "", ""
        self._ranged, self._resolved = None, ""
        if not self._pinned_by_person:
            self.digest = None
        return [*closing, do.Reset(self.generation), do.Note("restarted", why)]

    # Bytes.

    def _on_bytes(self, event: on.BytesStored, now: float, _chance: float) -> list[do.Command]:
        if event.generation != self.generation:
            return []
        before = self.held.length + (-self._doubtful.length)
        span = Span(event.start, event.stop)
        self.held = self.held.add(span)
        if event.differs:
            self._differing = self._differing.add(span)
        self._doubtful = self._doubtful.remove(span)
        leg = self.flights.get(event.flight)
        if leg is not None:
            leg.position = event.stop
        if self.held.length - self._doubtful.length > before:
            self._budget = self._budget.progressed()
            self._server_waits = self._resolves = 0
        if self.total is None and self.held.length > self.policy.most_bytes:
            detail = f"the body never ends: {self.held.length} bytes came and no length was announced"
            return self._refuse(Fault("endless", detail))
        if self.state is State.RUNNING and self.total is not None and not self._missing():
            return self._go_on(now)
        return []

    def _on_ended(self, event: on.FlightEnded, now: float, chance: float) -> list[do.Command]:
        leg = self.flights.pop(event.flight, None)
        if leg is None:
            return []
        if not leg.ask.ranged or self._ranged is False:
            return self._whole_ended(leg, now, chance)
        if leg.position == leg.start:
            detail = f"{redacted(leg.ask.url)}: the server closed the reply without a byte of it"
            nothing = Fault("truncated", detail, transient=True)
            return self._failed(nothing, None, now, chance, progressed=False)
        return self._go_on(now)

    def _whole_ended(self, leg: Leg, now: float, chance: float) -> list[do.Command]:
        if self.total is None:
            promised = self.request.expected_size
            if promised not in (None, leg.position):
                where = redacted(leg.ask.url)
                detail = f"{where}: the body ended after {leg.position} bytes where {promised} were promised"
                return self._failed(
                    Fault("size", detail, transient=True), None, now, chance, progressed=False
                )
            self.total = leg.position
            self.held = Spans.of([(0, self.total)])
            return self._go_on(now)
        if self._missing():
            detail = f"{redacted(leg.ask.url)}: the body was shorter than announced"
            short = Fault("truncated", detail, transient=True)
            return self._failed(short, None, now, chance, progressed=leg.position > leg.start)
        return self._go_on(now)

    def _on_failed(self, event: on.FlightFailed, now: float, chance: float) -> list[do.Command]:
        leg = self.flights.pop(event.flight, None)
        if leg is None:
            return []
        if leg.ask.resolved:
            self._resolved = ""  # its host may be what is broken
        return self._failed(event.fault, None, now, chance, progressed=leg.position > leg.start)

    def _on_lagged(self, event: on.FlightLagged, now: float, _chance: float) -> list[do.Command]:
        leg = self.flights.pop(event.flight, None)
        if leg is None:
            return []
        return [do.CloseFlight(event.flight), do.Note("replaced", "a slow connection"), *self._go_on(now)]

    # Failing and waiting.

    def _failed(
        self, fault: Fault, after: float | None, now: float, chance: float, *, progressed: bool
    ) -> list[do.Command]:
        if not fault.transient or not self.request.resumable:
            return self._refuse(fault)
        if fault.kind == "disk-full":
            return self._wait_for_disk(fault, now)
        delay = self._delay(after, now, chance, progressed=progressed)
        if delay is None:
            return self._refuse(fault)
        if self._unresumable() and not self.flights and self.held:
            return [*self._reset(fault.detail), *self._wait(fault, now + delay, now, asked=after is not None)]
        return self._wait(fault, now + delay, now, asked=after is not None)

    def _unresumable(self) -> bool:
        return self._ranged is False and not is_strong(self.etag) and self.digest is None

    def _delay(self, after: float | None, now: float, chance: float, *, progressed: bool) -> float | None:
        """Seconds to wait before trying again, or None when it was tried often enough."""
        if after is not None:
            self._server_waits += 1
            return None if self._server_waits > self.policy.server_waits else after * (1 + chance / 10)
        if progressed and self._budget.failures == 0:
            return 0.0
        if now < self._hold_until:  # flights that were up together fail together: that is one failure
            return self._hold_until - now
        self._budget = self._budget.failed()
        most = self.policy.attempts if self._answered else self.policy.first_attempts
        if self._budget.failures > most:
            return None
        return backoff(self._budget.failures, chance) * self.policy.retry_scale

    def _wait(self, fault: Fault, until: float, now: float, *, asked: bool) -> list[do.Command]:
        if until <= now:
            return self._go_on(now)
        note = do.Note("asked-to-wait" if asked else "retrying", fault.detail)
        self._hold_until = max(self._hold_until, until)
        if not self.flights:
            offline = looks_offline(fault.kind) and not asked
            self._enter(
                State.WAITING_NETWORK if offline else State.WAITING_RETRY, self._hold_until, fault.detail
            )
        return [note, do.RingAt(self._hold_until)]

    def _wait_for_disk(self, fault: Fault, now: float) -> list[do.Command]:
        until = now + self.policy.disk_poll
        self._enter(State.PAUSED_DISK, until, fault.detail)
        return [*self._close_all(), do.Note("paused-disk", fault.detail), do.RingAt(until)]

    def _on_timer(self, _event: on.TimerRang, now: float, _chance: float) -> list[do.Command]:
        if self.until is not None and now < self.until:
            return [do.RingAt(self.until)]
        if self.state is not State.RUNNING:
            self._enter(State.RUNNING)
        return self._go_on(now)

    def _on_network(self, _event: on.NetworkReturned, now: float, _chance: float) -> list[do.Command]:
        self._hold_until = 0.0
        self._enter(State.RUNNING)
        return self._go_on(now)

    def _on_pause(self, _event: on.PauseAsked, _now: float, _chance: float) -> list[do.Command]:
        self._enter(State.PAUSED, None, "paused by a person")
        return [*self._close_all(), do.Note("paused", "")]

    def _on_resume(self, _event: on.ResumeAsked, _now: float, _chance: float) -> list[do.Command]:
        self._enter(State.QUEUED)
        self._hold_until = 0.0
        return [do.Note("resumed", "")]

    # Ending.

    def _complete(self, total: int) -> list[do.Command]:
        self._enter(State.VERIFYING)
        return [do.Commit(total) if self.digest is None else do.Verify(total)]

    def _on_matched(self, _event: on.DigestMatched, _now: float, _chance: float) -> list[do.Command]:
        return [do.Commit(self.total or 0)]

    def _on_mismatched(self, event: on.DigestMismatched, _now: float, _chance: float) -> list[do.Command]:
        return [do.Note("digest-mismatch", f"found {event.found}, expected {self.digest}"), do.CheckPieces()]

    def _on_checked(self, event: on.PiecesChecked, now: float, _chance: float) -> list[do.Command]:
        """A wrong digest: the disk's fault if pieces read back differently, otherwise the line's or the server's."""
        self._repairs += 1
        if self._repairs > self.policy.repairs or not self.request.resumable:
            return self._refuse(self._wrong_digest())
        if event.damaged:
            self._enter(State.RUNNING)
            self.held = self.held.without(event.damaged)
            note = do.Note("repairing", f"{event.damaged.length} bytes changed on this disk")
            return [note, do.ForgetPieces(event.damaged), *self._go_on(now)]
        if self._ranged is not True or self._whole:
            self._enter(State.RUNNING)
            return [*self._reset("the digest is wrong and the server sends no parts"), *self._go_on(now)]
        if self._repairs > 1 and not self._differing:
            return self._refuse(self._wrong_digest())
        self._enter(State.RUNNING)
        total = self.total or 0
        self._doubtful = self._whole_pieces(self._differing, total) or Spans.of([(0, total)])
        self._differing = Spans()
        note = do.Note("repairing", f"fetching {self._doubtful.length} bytes again to find the wrong pieces")
        return [note, *self._go_on(now)]

    @staticmethod
    def _whole_pieces(spans: Spans, total: int) -> Spans:
        return Spans.of(
            (span.start // PIECE * PIECE, min(total, -(-span.stop // PIECE) * PIECE)) for span in spans
        )

    def _wrong_digest(self) -> Fault:
        detail = (
            f"the server's bytes do not have the digest {self.digest}, also after {self._repairs - 1} repairs"
        )
        return Fault("integrity", detail)

    def _on_store_failed(self, event: on.StoreFailed, now: float, chance: float) -> list[do.Command]:
        if event.fault.kind == "disk-full":
            return self._wait_for_disk(event.fault, now)
        self._budget = self._budget.failed()
        if self._budget.exhausted:
            return self._refuse(event.fault)
        until = now + backoff(self._budget.failures, chance) * self.policy.retry_scale
        self._enter(State.WAITING_RETRY, until, event.fault.detail)
        return [do.Note("retrying", event.fault.detail), do.RingAt(until)]

    def _on_committed(self, _event: on.BlobCommitted, _now: float, _chance: float) -> list[do.Command]:
        self._enter(State.SETTLED)
        return [do.Finish(Result.SUCCESS)]

    def _on_abort(self, _event: on.AbortAsked, _now: float, _chance: float) -> list[do.Command]:
        return self._finish(FailureReason.ABORTED, "aborted", "aborted")

    def _on_limit(self, event: on.LimitPassed, _now: float, _chance: float) -> list[do.Command]:
        return self._refuse(event.fault)

    def _refuse(self, fault: Fault) -> list[do.Command]:
        return self._finish(fault.reason, fault.detail, fault.kind)

    def _finish(self, reason: FailureReason, detail: str, kind: str) -> list[do.Command]:
        closing = self._close_all()
        self._enter(State.SETTLED)
        return [*closing, do.Finish(Result.FAILURE, reason, detail, kind)]


@dataclass(frozen=True, slots=True)
class Transition:
    """What an event does in a state: who decides, and which other states it may lead to."""

    handler: Handler
    targets: frozenset[State]


_M = RecordMachine
_WAITING = (State.WAITING_NETWORK, State.WAITING_RETRY, State.PAUSED_DISK)
_UNFINISHED = (State.QUEUED, State.RUNNING, *_WAITING, State.PAUSED, State.VERIFYING)


def _table() -> dict[tuple[State, type], Transition]:
    run, wait, verify, over = State.RUNNING, set(_WAITING), State.VERIFYING, State.SETTLED
    after_flight = {*wait, verify, over}
    rows: list[tuple[tuple[State, ...], type, Handler, set[State]]] = [
        ((State.QUEUED,), on.Started, _M._on_started, {run, verify}),
        ((run,), on.ConnectionsGranted, _M._on_granted, {verify}),
        ((run,), on.ReplyJudged, _M._on_reply, after_flight),
        ((run, *_WAITING, State.PAUSED, State.QUEUED), on.BytesStored, _M._on_bytes, {verify, over}),
        ((run,), on.FlightEnded, _M._on_ended, after_flight),
        ((run,), on.FlightFailed, _M._on_failed, after_flight),
        ((run,), on.FlightLagged, _M._on_lagged, {verify}),
        ((run, *_WAITING), on.TimerRang, _M._on_timer, {run, verify}),
        ((State.WAITING_NETWORK, State.WAITING_RETRY), on.NetworkReturned, _M._on_network, {run, verify}),
        ((State.QUEUED, run, *_WAITING), on.PauseAsked, _M._on_pause, {State.PAUSED}),
        ((State.PAUSED,), on.ResumeAsked, _M._on_resume, {State.QUEUED}),
        ((verify,), on.DigestMatched, _M._on_matched, set()),
        ((verify,), on.DigestMismatched, _M._on_mismatched, set()),
        ((verify,), on.PiecesChecked, _M._on_checked, {run, verify, over}),
        ((verify,), on.BlobCommitted, _M._on_committed, {over}),
        ((verify,), on.StoreFailed, _M._on_store_failed, {*wait, over}),
        (_UNFINISHED, on.AbortAsked, _M._on_abort, {over}),
        (_UNFINISHED, on.LimitPassed, _M._on_limit, {over}),
    ]
    return {
        (state, event): Transition(handler, frozenset(targets))
        for states, event, handler, targets in rows
        for state in states
    }


TRANSITIONS = _table()
