"""One record's life: an event in, commands out, nothing touched.

A record is queued until the scheduler starts it, runs flights (segments under way) until every byte is held, is
verified, committed and settled; in between it may wait for the network, for a retry, for a person or for disk space.
`transitions` is that picture as data, `transfer` the bytes, `patience` the counts, `repair` what a wrong digest
leads to; here is who is asked when.

Rules kept here: a record that runs has a flight under way or a timer set; flights are under way only while it runs;
a good piece is never thrown away because another one is bad; an upload is sent once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.digests import Digest
from bgfetch.core.flights import Leg
from bgfetch.core.model import FailureReason, Fault, Request, Result, State
from bgfetch.core.patience import Patience, awaits_network
from bgfetch.core.policy import Policy
from bgfetch.core.spans import Span, Spans
from bgfetch.core.transfer import Recovered, Transfer
from bgfetch.core.transitions import TRANSITIONS
from bgfetch.core.urls import next_hop
from bgfetch.core.verdicts import (
    Accept,
    Complete,
    Follow,
    PlainRange,
    Refuse,
    ResolveAgain,
    Restart,
    Retry,
    Verdict,
    Whole,
)
from bgfetch.core.view import RecordView

__all__ = ["TRANSITIONS", "Policy", "RecordMachine", "Recovered"]


@dataclass(frozen=True, slots=True)
class _Hold:
    """No request is sent before `until`; `asked`: the server said so, and a network's return changes nothing."""

    until: float
    why: str
    state: State
    asked: bool


class RecordMachine(RecordView):
    """The decisions about one record.

    Args:
        request: What to fetch, unresolved.
        policy: How long to go on trying.
        digest: What the body must have, or None; one that a reply promises is taken when there is none.
    """

    def __init__(self, request: Request, *, policy: Policy, digest: Digest | None = None) -> None:
        super().__init__(request, Transfer(request, digest))
        self._policy = policy
        self._patience = Patience(policy)
        self._recovered = False
        self._pause_wanted = False
        self._hold: _Hold | None = None
        self._noted: do.Note | None = None  # why it waited last, until bytes come
        self._told_full = False

    def adopt(self, left: Recovered) -> None:
        """Go on from what an earlier process left; only before it is started."""
        self._transfer.adopt(left)
        if left.held:
            self._recovered = True
            self._patience = Patience(self._policy, answered=True, served=True, most=left.held.length)

    def handle(self, event: on.Event, *, now: float, chance: float) -> list[do.Command]:
        """What to do about an event.

        Args:
            event: What happened; one that means nothing in this state is ignored.
            now: Instant, seconds since the epoch.
            chance: A number in [0, 1) for jitter.
        """
        before = self.state
        targets = TRANSITIONS.get((before, type(event)))
        if targets is None:
            return []
        commands = self._decide(event, now, chance)
        assert self.state is before or self.state in targets, (before, event, self.state)  # noqa: S101 - the table must tell the truth
        return commands

    def _decide(self, event: on.Event, now: float, chance: float) -> list[do.Command]:
        if isinstance(event, on.FlightEvent):
            return self._on_flight(event, now, chance)
        if isinstance(event, on.CheckEvent):
            return self._on_check(event, now, chance)
        return self._on_wish(event) if isinstance(event, on.WishEvent) else self._on_turn(event, now)

    # Turns: when to go on.

    def _on_turn(self, event: on.TurnEvent, now: float) -> list[do.Command]:
        match event:
            case on.Started(connections):
                return self._started(connections, now)
            case on.ConnectionsGranted(connections):
                self._transfer.connections = max(1, connections)
            case on.TimerRang():
                if self.until is not None and now < self.until:
                    return [do.RingAt(self.until)]
            case on.NetworkReturned():
                if self._hold is not None and not self._hold.asked:
                    self._hold = None
            case _:
                assert_never(event)
        return self._go_on(now)

    def _started(self, connections: int, now: float) -> list[do.Command]:
        transfer = self._transfer
        transfer.connections = max(1, connections)
        recovered, self._recovered = self._recovered, False
        if recovered and not self.request.resumable:
            detail = "the process ended after it was sent; whether the server acted on it cannot be known"
            return self._refuse(Fault("interrupted", detail))
        if recovered and not transfer.trusted:
            why = "nothing tells that what the server has is still what was begun"
            return [*self._reset(why), *self._go_on(now)]
        return self._go_on(now)

    def _go_on(self, now: float) -> list[do.Command]:
        """Verify when nothing is missing, wait while that is due, else ask for more."""
        transfer = self._transfer
        if transfer.total is not None and transfer.complete:
            self._enter(State.VERIFYING)
            check = do.Commit if transfer.digest is None else do.Verify
            return [*transfer.close_all(), check(transfer.total)]
        if self._hold is not None and now < self._hold.until:
            if not transfer.flights:
                self._enter(self._hold.state, self._hold.until, self._hold.why)
            return [do.RingAt(self._hold.until)]
        self._enter(State.RUNNING)
        return transfer.open_more()

    # Flights: replies, bytes and ends.

    def _on_flight(self, event: on.FlightEvent, now: float, chance: float) -> list[do.Command]:
        if isinstance(event, on.BytesStored):
            return self._bytes_stored(event, now)
        leg = self._transfer.flights.get(event.flight)
        if leg is None:
            return []
        match event:
            case on.ReplyJudged(flight, verdict, digest):
                contradiction = self._transfer.promise(digest)
                return self._judged(flight, leg, contradiction or verdict, now, chance)
            case on.FlightEnded(flight):
                del self._transfer.flights[flight]
                return self._flight_ended(leg, now, chance)
            case on.FlightFailed(flight, fault):
                del self._transfer.flights[flight]
                return self._failed(fault, leg, now, chance)
            case on.FlightLagged(flight):
                return self._flight_lagged(flight, now)
            case _:
                assert_never(event)

    def _judged(self, flight: int, leg: Leg, verdict: Verdict, now: float, chance: float) -> list[do.Command]:
        self._patience = self._patience.heard()
        match verdict:
            case Accept():
                self._transfer.accept(leg, verdict)
                return self._go_on(now)
            case Refuse(fault):
                return self._refuse(fault)
            case Restart(fault):
                return self._changed(fault, now)
            case Whole(fault):
                if not self._transfer.ask_whole():
                    return self._refuse(fault)
                return [*self._transfer.close_all(), do.Note("whole", fault.detail), *self._go_on(now)]
        del self._transfer.flights[flight]
        match verdict:
            case Follow(location):
                return self._followed(leg, location, now, chance)
            case Complete(total):
                self._transfer.ends_at(total)
                return self._go_on(now)
            case PlainRange():
                self._transfer.ask_plainly()
                return self._go_on(now)
            case Retry(fault, after):
                return self._failed(fault, leg, now, chance, asked=after)
            case ResolveAgain(fault):
                return self._resolve_again(fault, leg, now)
            case _:
                assert_never(verdict)

    def _followed(self, leg: Leg, location: str, now: float, chance: float) -> list[do.Command]:
        hop = next_hop(leg.ask.url, location, leg.headers, granted_to=self.request.url, hops=leg.hops)
        if isinstance(hop, Fault):
            return self._failed(hop, leg, now, chance)
        return [self._transfer.redirect(leg, hop)]

    def _resolve_again(self, fault: Fault, leg: Leg, now: float) -> list[do.Command]:
        self._transfer.forget_address()
        if leg.hops or not leg.ask.resolved:  # a remembered URL may expire as often as it likes
            self._patience = self._patience.resolved()
        most = self._policy.resolves if leg.ask.resolved else 1  # the source itself is asked twice
        if self._patience.resolves > most + len(self.flights):
            return self._refuse(fault)
        return [do.Note("resolved-again", fault.detail), *self._go_on(now)]

    def _changed(self, fault: Fault, now: float) -> list[do.Command]:
        self._patience = self._patience.changed()
        if self._patience.unstable:
            detail = f"{fault.detail}; it changes faster than it can be fetched"
            return self._refuse(Fault("unstable", detail))
        if self._patience.changes >= 2:
            self._transfer.distrust(totals=self._patience.changes >= 3)
        return [*self._reset(fault.detail), *self._go_on(now)]

    def _reset(self, why: str) -> list[do.Command]:
        self.restarts += 1
        return [*self._transfer.reset(), do.Note("restarted", why)]

    def _bytes_stored(self, event: on.BytesStored, now: float) -> list[do.Command]:
        transfer = self._transfer
        if event.generation != transfer.generation:
            return []
        transfer.stored(event.flight, Span(event.start, event.stop), differs=event.differs)
        before, self._patience = self._patience, self._patience.progressed(transfer.progress)
        if self._patience.most > before.most and event.flight in self.flights:
            self.flights[event.flight].fresh = True
        self._noted = None
        if self.state is not State.RUNNING:
            return []
        too_much = transfer.excess(self._policy.most_bytes)
        if too_much is not None:
            return self._refuse(too_much)
        return [*self._has_room(), *(self._go_on(now) if transfer.complete else [])]

    def _flight_ended(self, leg: Leg, now: float, chance: float) -> list[do.Command]:
        short = self._transfer.shortfall(leg)
        if short:
            return self._failed(Fault("truncated", short, transient=True), leg, now, chance)
        if self._transfer.total is None and self._transfer.ended_whole(leg):
            self._transfer.ends_at(leg.position)
        return self._go_on(now)

    def _flight_lagged(self, flight: int, now: float) -> list[do.Command]:
        if not self._transfer.in_parts:
            return []  # another connection would begin at byte 0
        del self._transfer.flights[flight]
        return [do.CloseFlight(flight), do.Note("replaced", "a slow connection"), *self._go_on(now)]

    # Failing and waiting.

    def _failed(
        self, fault: Fault, leg: Leg, now: float, chance: float, *, asked: float | None = None
    ) -> list[do.Command]:
        if not self.request.resumable or not self._patience.bears(fault):
            return self._refuse(fault)
        if fault.kind == "disk-full":
            return self._wait_for_disk(fault, now)
        if leg.ask.resolved and asked is None:
            self._transfer.forget_address()  # its host may be what is broken
        if asked is None and self._hold is not None and now < self._hold.until:
            return self._go_on(now)  # flights that were up together fail together: that is one failure
        self._patience, delay = self._patience.after(fault, asked=asked, chance=chance, progressed=leg.fresh)
        if delay is None:
            return self._refuse(fault)
        lost = [] if self.flights or self._transfer.resumable or not self.held else self._reset(fault.detail)
        return [*lost, *self._wait(fault, delay, now, asked=asked is not None)]

    def _wait(self, fault: Fault, delay: float, now: float, *, asked: bool) -> list[do.Command]:
        if delay == 0:
            return self._go_on(now)
        offline = awaits_network(fault.kind) and not asked
        state = State.WAITING_NETWORK if offline else State.WAITING_RETRY
        hold = _Hold(now + delay, fault.detail, state, asked)
        if self._hold is None or self._hold.until < hold.until:
            self._hold = hold
        note = do.Note("asked-to-wait" if asked else "retrying", fault.detail)
        known, self._noted = note == self._noted, note
        return [
            *([] if known and offline else [note]),
            *self._go_on(now),
        ]  # an outage is one line, not one a look

    def _wait_for_disk(self, fault: Fault, now: float) -> list[do.Command]:
        until = now + self._policy.disk_poll
        self._enter(State.PAUSED_DISK, until, fault.detail)
        told, self._told_full = self._told_full, True  # once, not at each look
        note = [] if told else [do.Note("paused-disk", fault.detail)]
        return [*self._transfer.close_all(), *note, do.RingAt(until)]

    def _has_room(self) -> list[do.Command]:
        told, self._told_full = self._told_full, False
        return [do.Note("disk-has-room", "")] if told else []

    # Wishes.

    def _on_wish(self, event: on.WishEvent) -> list[do.Command]:
        match event:
            case on.PauseAsked(why):
                return self._pause_asked(why)
            case on.ResumeAsked():
                return self._resume_asked()
            case on.AbortAsked():
                return self._finish(FailureReason.ABORTED, "aborted", "aborted")
            case on.LimitPassed(fault):
                return self._refuse(fault)
            case _:
                assert_never(event)

    def _pause_asked(self, why: str) -> list[do.Command]:
        if self.state is State.VERIFYING:
            self._pause_wanted = True
            return []
        if self.flights and not self.request.resumable:
            return [do.Note("not-paused", "an upload is sent once and cannot be interrupted")]
        return self._pause(why)

    def _pause(self, why: str = "") -> list[do.Command]:
        self._pause_wanted = False
        self._enter(State.PAUSED, None, why or "paused by a person")
        return [*self._transfer.close_for_long(), do.Note("paused", why)]

    def _resume_asked(self) -> list[do.Command]:
        self._pause_wanted = False
        if self.state is State.VERIFYING:
            return []
        self._enter(State.QUEUED)
        self._hold = None
        return [do.Note("resumed", "")]

    # Checking and ending.

    def _on_check(self, event: on.CheckEvent, now: float, chance: float) -> list[do.Command]:
        match event:
            case on.DigestMatched():
                return [do.Commit(self.total or 0)]
            case on.DigestMismatched(found):
                return [
                    do.Note("digest-mismatch", f"found {found}, expected {self.digest}"),
                    do.CheckPieces(),
                ]
            case on.PiecesChecked(damaged, witnessed):
                if witnessed:
                    return self._refuse(_witnessed(self.digest, self.witness))
                return self._pieces_checked(damaged, now)
            case on.BlobCommitted():
                self._enter(State.SETTLED)
                return [do.Finish(Result.SUCCESS)]
            case on.StoreFailed(fault):
                return self._store_failed(fault, now, chance)
            case _:
                assert_never(event)

    def _pieces_checked(self, damaged: Spans, now: float) -> list[do.Command]:
        """A wrong digest: the disk's fault if pieces read back differently, otherwise the line's or the server's."""
        transfer = self._transfer
        sample = transfer.sample_will_do
        repair = transfer.repair.next_round(damaged, transfer.total or 0, sample=sample)
        if repair is None or repair.rounds > self._policy.repairs or not self.request.resumable:
            tried = transfer.repair.rounds
            how = "a sample of them was fetched again and is the same" if transfer.repair.sampled else ""
            how = how or f"also after {tried} repair{'' if tried == 1 else 's'}"
            detail = f"the server's bytes do not have the digest {self.digest}, {how}"
            return self._refuse(Fault("integrity", detail))
        transfer.repair = repair
        transfer.forget(damaged)
        self._patience = self._patience.measured_from(transfer.progress)
        if damaged:
            what, forget = "changed on this disk", [do.ForgetPieces(damaged)]
        else:
            what, forget = "are fetched again to find the wrong pieces", []
        note = do.Note("repairing", f"{damaged.length or repair.doubtful.length} bytes {what}")
        return [note, *forget, *(self._pause() if self._pause_wanted else self._go_on(now))]

    def _store_failed(self, fault: Fault, now: float, chance: float) -> list[do.Command]:
        """The bytes are all here, so this waits for the disk, uploads too."""
        if self._pause_wanted:
            return self._pause()
        if fault.kind == "disk-full":
            return self._wait_for_disk(fault, now)
        self._patience, delay = self._patience.after(fault, asked=None, chance=chance, progressed=False)
        if delay is None:
            return self._refuse(fault)
        self._enter(State.WAITING_RETRY, now + delay, fault.detail)
        return [do.Note("retrying", fault.detail), do.RingAt(now + delay)]

    def _refuse(self, fault: Fault) -> list[do.Command]:
        return self._finish(fault.reason, fault.detail, fault.kind)

    def _finish(self, reason: FailureReason, detail: str, kind: str) -> list[do.Command]:
        closing = self._transfer.close_all()
        self._enter(State.SETTLED)
        return [*closing, do.Finish(Result.FAILURE, reason, detail, kind)]


def _witnessed(digest: Digest | None, witness: Digest | None) -> Fault:
    detail = f"the file is what the server says it is ({witness}), but it does not have the digest {digest}"
    return Fault("integrity", detail)
