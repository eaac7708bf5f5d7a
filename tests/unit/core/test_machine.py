"""The machine, event by event: what each state promises to do about what happens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import pytest

from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.digests import Digest
from bgfetch.core.machine import TRANSITIONS, Policy, RecordMachine, Recovered
from bgfetch.core.model import FailureReason, Fault, Headers, Request, Result, State, Verified
from bgfetch.core.ranges import (
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
from bgfetch.core.segments import FIRST_SEGMENT, PIECE
from bgfetch.core.spans import Spans

URL = "https://host/model.bin"
TAG = '"v1"'
TOTAL = 12 * PIECE
RESET = Fault("reset", "the connection broke", transient=True)
CONNECT = Fault("connect", "no connection", transient=True)
FULL = Fault("disk-full", "the disk is full", transient=True)
DISK = Fault("disk", "the disk refused", transient=True)
FINAL = Fault("encoded", "gzip")
DENIED = Fault("status-403", "no", FailureReason.BAD_STATUS)
CHANGED = Fault("changed", "another ETag")
MD5, OTHER_MD5 = Digest("md5", b"1" * 16), Digest("md5", b"2" * 16)
SHA = Digest("sha256", b"1" * 32)
POLICY = Policy(attempts=3, first_attempts=2, server_waits=2, resolves=2, restarts=3, repairs=2)

Some = TypeVar("Some", bound=do.Command)


def accept(
    start: int = 0,
    stop: int | None = FIRST_SEGMENT,
    total: int | None = TOTAL,
    etag: str = TAG,
    *,
    ranges: bool = True,
    modified: str = "monday",
) -> Accept:
    """An accepted reply."""
    return Accept(start, stop, total, etag, modified, "application/x", ranges)


def of(kind: type[Some], commands: Iterable[do.Command]) -> list[Some]:
    """The commands of one kind."""
    return [command for command in commands if isinstance(command, kind)]


class Script:
    """A machine and what it was told; `chance` is 0, so waits are at their shortest."""

    def __init__(
        self, request: Request | None = None, policy: Policy = POLICY, digest: Digest | None = None
    ) -> None:
        self.machine = RecordMachine(request or Request(URL), policy=policy, digest=digest)
        self.now = 1000.0

    def send(self, *events: on.Event) -> list[do.Command]:
        """Tell it; the commands of the last one."""
        commands: list[do.Command] = []
        for event in events:
            commands = self.machine.handle(event, now=self.now, chance=0.0)
        return commands

    @property
    def state(self) -> State:
        """Where it is."""
        return self.machine.state

    @property
    def flights(self) -> list[int]:
        """What is under way."""
        return list(self.machine.flights)

    @property
    def spans(self) -> list[tuple[int, int | None]]:
        """What is asked for now."""
        return [(leg.position, leg.stop) for leg in self.machine.flights.values()]

    def judge(
        self, verdict: Verdict, flight: int | None = None, digest: Digest | None = None
    ) -> list[do.Command]:
        """A reply to the last flight, or to this one."""
        return self.send(on.ReplyJudged(flight or self.flights[-1], verdict, digest))

    def store(self, start: int, stop: int, flight: int = 0, *, differs: bool = False) -> list[do.Command]:
        """Bytes stored."""
        return self.send(on.BytesStored(flight, self.machine.generation, start, stop, differs))

    def fail(self, fault: Fault = RESET) -> list[do.Command]:
        """The last flight breaks."""
        return self.send(on.FlightFailed(self.flights[-1], fault))

    def start(self, connections: int = 1, **reply: int | str | bool | None) -> Script:
        """Started, and the first reply accepted."""
        self.send(on.Started(connections))
        self.judge(accept(**reply))  # type: ignore[arg-type]  # fields by name
        return self

    def bring_all(self) -> list[do.Command]:
        """Every byte is stored."""
        return self.store(0, self.machine.total or 0, self.flights[0])


def started(connections: int = 1, **reply: int | str | bool | None) -> Script:
    """A machine whose first reply was accepted."""
    return Script().start(connections, **reply)


def finish(commands: list[do.Command]) -> do.Finish:
    """How it ended."""
    (found,) = of(do.Finish, commands)
    return found


# The good day


def test_a_download_from_start_to_end() -> None:
    """One request learns the version; parts follow; all held is verified, committed and settled."""
    script = Script(digest=MD5)
    (first,) = of(do.OpenFlight, script.send(on.Started(2)))
    assert (first.ask.start, first.ask.stop, first.ask.ranged, first.ask.conditional) == (
        0,
        FIRST_SEGMENT,
        True,
        False,
    )
    (second,) = of(do.OpenFlight, script.judge(accept()))
    assert (second.ask.start, second.ask.conditional) == (FIRST_SEGMENT, True)
    assert script.machine.wants_connections == 12
    script.judge(accept(FIRST_SEGMENT, second.ask.stop))
    script.store(0, FIRST_SEGMENT, 1)
    commands = script.store(FIRST_SEGMENT, TOTAL, 2)
    assert commands == [do.CloseFlight(1), do.CloseFlight(2), do.Verify(TOTAL)]
    assert script.state is State.VERIFYING
    assert script.send(on.DigestMatched()) == [do.Commit(TOTAL)]
    assert script.send(on.BlobCommitted(Verified.DIGEST)) == [do.Finish(Result.SUCCESS)]
    assert script.machine.settled


def test_what_the_machine_shows() -> None:
    """Whoever writes the journal or shows progress reads the version and the bytes from here."""
    script = started()
    machine = script.machine
    seen = (machine.total, machine.etag, machine.last_modified, machine.content_type)
    assert seen == (TOTAL, TAG, "monday", "application/x")
    assert (machine.digest, machine.generation, machine.held, machine.settled) == (None, 0, Spans(), False)
    assert (machine.known.total, machine.known.etag) == (TOTAL, TAG)
    machine.total = 7
    assert machine.total == 7


def test_without_a_digest_a_complete_body_is_committed_at_once() -> None:
    """There is nothing to compare with."""
    assert of(do.Commit, started().bring_all()) == [do.Commit(TOTAL)]


def test_an_empty_body_is_complete() -> None:
    """A reply that announces no bytes is all of them."""
    script = Script()
    script.send(on.Started(1))
    assert of(do.Commit, script.judge(accept(0, 0, 0, ranges=False))) == [do.Commit(0)]
    assert script.machine.wants_connections == 1


def test_a_server_may_send_less_than_was_asked() -> None:
    """A legal cap: the rest is asked for, nothing is taken for complete."""
    script = started(stop=3 * PIECE)
    script.store(0, 3 * PIECE, 1)
    (after,) = of(do.OpenFlight, script.send(on.FlightEnded(1)))
    assert after.ask.start == 3 * PIECE


def test_what_a_capped_reply_leaves_out_is_asked_for_at_once() -> None:
    """Another connection need not wait for its end."""
    script = started(connections=2, total=FIRST_SEGMENT, stop=3 * PIECE)
    assert script.spans == [(0, 3 * PIECE), (3 * PIECE, 5 * PIECE)]


def test_a_body_of_hidden_length_is_asked_for_until_there_is_no_more() -> None:
    """`/*` totals: a 416 at the end tells how long it was."""
    script = started(total=None)
    script.store(0, FIRST_SEGMENT, 1)
    (after,) = of(do.OpenFlight, script.send(on.FlightEnded(1)))
    assert after.ask.start == FIRST_SEGMENT
    assert script.judge(Complete(FIRST_SEGMENT)) == [do.Commit(FIRST_SEGMENT)]


def test_more_connections_take_parts_of_what_is_under_way() -> None:
    """Where nothing is left to ask for, the slowest flight gives its later half."""
    script = started(total=FIRST_SEGMENT, stop=FIRST_SEGMENT)
    commands = script.send(on.ConnectionsGranted(2))
    (cut,) = of(do.ShortenFlight, commands)
    (taken,) = of(do.OpenFlight, commands)
    assert (cut.flight, cut.stop, taken.ask.start, taken.ask.stop) == (1, 4 * PIECE, 4 * PIECE, FIRST_SEGMENT)
    assert script.spans == [(0, 4 * PIECE), (4 * PIECE, FIRST_SEGMENT)]


def test_a_redirected_flight_asks_only_for_what_is_still_its_own() -> None:
    """What another flight took over meanwhile is not fetched twice."""
    script = started(total=FIRST_SEGMENT, stop=FIRST_SEGMENT)
    script.send(on.ConnectionsGranted(2))
    script.machine.flights[1].rate = 99.0 * PIECE  # nearly there, so the second one gives
    (cut,) = of(do.ShortenFlight, script.send(on.ConnectionsGranted(3)))
    assert cut == do.ShortenFlight(2, 6 * PIECE)
    (moved,) = of(do.OpenFlight, script.judge(Follow("https://cdn/x"), 2))
    assert (moved.ask.start, moved.ask.stop) == (4 * PIECE, 6 * PIECE)


def slow_last_piece() -> Script:
    """One piece under way at a quarter of it in a second, and a connection that is granted besides."""
    script = started(total=PIECE, stop=PIECE)
    leg = script.machine.flights[1]
    leg.rate, leg.age = PIECE / 4, 1.0
    return script


def test_a_slow_last_piece_is_shared() -> None:
    """The later half is asked for and kept until the earlier one is there, whoever brings it first."""
    script = slow_last_piece()
    assert script.machine.wants_connections == 4
    commands = script.send(on.ConnectionsGranted(2))
    (taken,) = of(do.OpenFlight, commands)
    assert of(do.ShortenFlight, commands) == [do.ShortenFlight(1, PIECE // 2)]
    assert (taken.ask.start, taken.ask.stop, taken.ahead) == (PIECE // 2, PIECE, True)
    script.judge(accept(PIECE // 2, PIECE, PIECE), 2)
    script.store(0, PIECE // 2, 1)
    assert of(do.Commit, script.store(PIECE // 2, PIECE, 2)) == [do.Commit(PIECE)]


def test_what_was_gathered_is_not_given_away() -> None:
    """A cut lies behind all bytes that came, stored or not."""
    script = slow_last_piece()
    script.machine.flights[1].gathered = PIECE // 2
    assert of(do.ShortenFlight, script.send(on.ConnectionsGranted(2))) == [
        do.ShortenFlight(1, PIECE * 3 // 4)
    ]


def test_what_waits_for_other_bytes_uses_no_connection() -> None:
    """Where the flight it waits for fails, the only connection is for what that did not bring."""
    script = slow_last_piece()
    script.send(on.ConnectionsGranted(2))
    script.judge(accept(PIECE // 2, PIECE, PIECE), 2)
    script.machine.flights[2].waiting = True
    assert script.machine.idle == 1
    script.send(on.ConnectionsGranted(1))
    script.send(on.FlightFailed(1, RESET))
    script.now += 99
    (again,) = of(do.OpenFlight, script.send(on.TimerRang()))
    assert (again.ask.start, again.ask.stop, again.ahead) == (0, PIECE // 2, False)


def test_no_more_waits_than_there_are_connections() -> None:
    """What waits is memory."""
    script = slow_last_piece()
    script.send(on.ConnectionsGranted(2))
    for expected in ([PIECE // 4], []):
        for flight, leg in script.machine.flights.items():
            leg.rate, leg.age, leg.waiting = 1.0, 1.0, flight > 1
        cuts = of(do.ShortenFlight, script.send(on.ConnectionsGranted(2)))
        assert [cut.stop for cut in cuts] == expected


def test_at_least_one_connection_is_always_granted() -> None:
    """A record that runs has a flight, whatever the scheduler says."""
    script = Script()
    script.send(on.Started(0))
    assert script.flights == [1]


def test_a_slow_connection_is_replaced() -> None:
    """What it had not brought is asked for again."""
    script = started()
    script.store(0, PIECE, 1)
    commands = script.send(on.FlightLagged(1))
    assert commands[:2] == [do.CloseFlight(1), do.Note("replaced", "a slow connection")]
    assert of(do.OpenFlight, commands)[0].ask.start == PIECE


def test_a_slow_connection_that_cannot_be_resumed_is_left_alone() -> None:
    """Another one would begin at byte 0."""
    script = started(ranges=False, stop=TOTAL)
    assert script.send(on.FlightLagged(1)) == []
    assert script.flights == [1]


# Whole bodies


def test_a_server_without_ranges_sends_the_whole_on_one_connection() -> None:
    """More connections are of no use to it."""
    script = started(connections=4, ranges=False, stop=TOTAL)
    assert (script.machine.wants_connections, script.flights) == (1, [1])
    script.store(0, TOTAL, 1)
    assert script.state is State.VERIFYING


def test_a_chunked_body_ends_where_it_ends() -> None:
    """Its framing is all that tells."""
    script = started(ranges=False, stop=None, total=None)
    script.store(0, 5 * PIECE, 1)
    assert script.send(on.FlightEnded(1)) == [do.Commit(5 * PIECE)]


@pytest.mark.parametrize(
    ("request_", "stored", "kind"),
    [
        (Request(URL, expected_size=6 * PIECE), 5 * PIECE, "truncated"),
        (Request(URL, expected_size=4 * PIECE), 5 * PIECE, "size"),
    ],
)
def test_a_chunked_body_must_have_the_promised_size(request_: Request, stored: int, kind: str) -> None:
    """Shorter may pass, longer is refused as soon as it shows."""
    script = Script(request_).start(ranges=False, stop=None, total=None, etag="")
    commands = [*script.store(0, stored, 1), *script.send(on.FlightEnded(1))]
    if kind == "size":
        assert (finish(commands).kind, finish(commands).reason) == ("size", FailureReason.FETCH_ERROR)
    else:
        assert of(do.Commit, commands) == []
        assert script.state is State.WAITING_RETRY or script.flights


def test_a_body_that_never_ends_is_refused() -> None:
    """Of unannounced length so much is believed and no more."""
    script = Script(policy=Policy(most_bytes=PIECE)).start(ranges=False, stop=None, total=None)
    assert script.store(0, PIECE, 1) == []
    assert finish(script.store(PIECE, 2 * PIECE, 1)).kind == "endless"


def test_a_body_shorter_than_announced_is_no_success() -> None:
    """However well its framing ended."""
    script = started(ranges=False, stop=TOTAL)
    script.store(0, PIECE, 1)
    script.send(on.FlightEnded(1))
    assert script.state in (State.RUNNING, State.WAITING_RETRY)


def test_a_second_body_shorter_than_the_first_is_no_success() -> None:
    """A chunked reply that ends before what an earlier one brought was cut."""
    script = Script(digest=MD5).start(ranges=False, stop=None, total=None)
    script.store(0, 5 * PIECE, 1)
    script.fail()
    script.judge(Whole(RESET))
    script.judge(accept(0, None, None, ranges=False))
    script.store(0, 3 * PIECE, script.flights[-1])
    assert of(do.Verify, script.send(on.FlightEnded(script.flights[-1]))) == []
    assert script.machine.total is None


def test_what_cannot_be_resumed_begins_again() -> None:
    """No parts, no strong validator, no digest: nothing of a broken body is kept."""
    script = started(ranges=False, stop=TOTAL, etag="")
    script.store(0, PIECE, 1)
    commands = script.fail()
    assert of(do.Reset, commands) == [do.Reset(1)]
    assert script.machine.held == Spans()
    assert script.machine.restarts == 1
    assert of(do.OpenFlight, commands)[0].ask.start == 0


@pytest.mark.parametrize("digest", [None, MD5])
def test_what_may_be_resumed_is_kept(digest: Digest | None) -> None:
    """A strong validator or a digest will tell whether the rest belongs to it."""
    script = Script(digest=digest).start(ranges=False, stop=TOTAL, etag="" if digest else TAG)
    script.store(0, PIECE, 1)
    commands = script.fail()
    assert of(do.Reset, commands) == []
    assert of(do.OpenFlight, commands)[0].ask.start == PIECE


def test_ranges_that_cannot_be_trusted_are_given_up_once() -> None:
    """Then the whole is asked for; a server that cannot do that either is refused."""
    script = started()
    commands = script.judge(Whole(FINAL), 1)
    assert commands[:2] == [do.CloseFlight(1), do.Note("whole", "gzip")]
    (whole,) = of(do.OpenFlight, commands)
    assert (whole.ask.ranged, whole.ask.start, whole.ask.stop, whole.ask.conditional) == (
        False,
        0,
        None,
        False,
    )
    assert finish(script.judge(Whole(FINAL))).kind == "encoded"


def test_a_server_that_ignores_ranges_with_if_range_is_asked_without() -> None:
    """Some CDNs do; the reply's validators are compared all the same."""
    script = started()
    script.store(0, FIRST_SEGMENT, 1)
    (after,) = of(do.OpenFlight, script.send(on.FlightEnded(1)))
    assert after.ask.conditional
    (plain,) = of(do.OpenFlight, script.judge(PlainRange()))
    assert (plain.ask.start, plain.ask.conditional) == (FIRST_SEGMENT, False)


def test_an_unasked_whole_body_beside_parts_is_taken() -> None:
    """A server that answers one range of many with everything: it is the same version, so it helps."""
    script = started()
    script.fail()
    script.now += 60
    script.send(on.TimerRang())
    script.judge(accept(0, TOTAL, TOTAL, ranges=False))
    assert script.spans == [(0, TOTAL)]
    assert script.store(0, TOTAL, script.flights[-1])[-1] == do.Commit(TOTAL)


# Other versions


def test_another_version_restarts_and_nothing_of_the_first_is_held() -> None:
    """Bytes of two versions are never mixed; those still on their way count for nothing."""
    script = started()
    script.store(0, PIECE, 1)
    commands = script.judge(Restart(CHANGED))
    assert commands[:3] == [do.CloseFlight(1), do.Reset(1), do.Note("restarted", "another ETag")]
    assert (script.machine.held, script.machine.total, script.machine.etag) == (Spans(), None, "")
    assert script.send(on.BytesStored(1, 0, PIECE, 2 * PIECE)) == []
    assert script.machine.held == Spans()


def test_another_version_is_asked_for_at_the_source() -> None:
    """Where the first one was may know nothing of the second."""
    assert of(do.OpenFlight, resolved().judge(Restart(CHANGED)))[0].ask.url == URL


def test_a_body_that_keeps_changing_is_fetched_on_one_connection_then_refused() -> None:
    """Without a digest, one whole reply is one version; where that changes as well, this ends."""
    script = started()
    script.judge(Restart(CHANGED))
    assert of(do.OpenFlight, script.judge(Restart(CHANGED)))[0].ask.ranged is False
    script.judge(Restart(CHANGED))
    assert finish(script.judge(Restart(CHANGED))).kind == "unstable"
    assert script.machine.restarts == 3


def test_replicas_that_disagree_are_endured_where_a_digest_decides() -> None:
    """The second change of the same length is taken for another replica's tag."""
    script = Script(digest=MD5).start()
    endured = []
    for _ in range(2):
        script.judge(Restart(CHANGED))
        endured.append(script.machine.known.by_digest)
    assert endured == [False, True]
    script.judge(accept())
    script.store(0, FIRST_SEGMENT, script.flights[0])
    (after,) = of(do.OpenFlight, script.send(on.FlightEnded(script.flights[0])))
    assert (after.ask.ranged, after.ask.conditional) == (True, False)
    assert of(do.OpenFlight, script.judge(Restart(CHANGED)))[0].ask.ranged is False


def test_disagreement_is_not_endured_on_a_promise_that_is_gone() -> None:
    """A digest that only the thrown-away version promised decides nothing."""
    script = Script()
    script.send(on.Started(1))
    script.judge(accept(), digest=MD5)
    script.judge(Restart(CHANGED), 1)
    script.judge(accept(), digest=OTHER_MD5)
    script.judge(Restart(CHANGED), script.flights[-1])
    assert script.machine.digest is None
    assert not script.machine.known.by_digest


def test_a_flight_given_up_before_its_reply_cannot_bring_an_unknown_version() -> None:
    """A pause while the first reply is on its way: what that reply would bring is stored where nobody looks."""
    script = Script()
    script.send(on.Started(1))
    commands = script.send(on.PauseAsked())
    assert commands[:2] == [do.CloseFlight(1), do.Reset(1)]
    script.send(on.BytesStored(1, 0, 0, PIECE))
    assert script.machine.held == Spans()
    assert script.machine.restarts == 0


def test_bytes_of_a_known_version_count_although_their_flight_was_given_up() -> None:
    """What was in hand at a pause is kept."""
    script = started()
    assert of(do.Reset, script.send(on.PauseAsked())) == []
    script.store(0, PIECE, 1)
    assert script.machine.held.length == PIECE


# Digests


def test_a_promised_digest_is_taken_and_checked() -> None:
    """Where a person gave none, the server's own promise must hold."""
    script = Script()
    script.send(on.Started(1))
    script.judge(accept(), digest=MD5)
    assert script.machine.digest == MD5
    assert of(do.Verify, script.bring_all()) == [do.Verify(TOTAL)]


def test_a_promise_against_the_persons_digest_is_refused_before_the_first_byte() -> None:
    """The server itself says that this is not the file; also when it says so with a redirect."""
    for verdict in (accept(), Follow("https://cdn/x")):
        script = Script(digest=MD5)
        script.send(on.Started(1))
        over = finish(script.judge(verdict, digest=OTHER_MD5))
        assert (over.kind, over.reason) == ("integrity", FailureReason.FETCH_ERROR)
        assert (str(MD5) in over.detail, str(OTHER_MD5) in over.detail) == (True, True)


@pytest.mark.parametrize(("first", "second"), [(MD5, MD5), (MD5, SHA), (SHA, MD5)])
def test_promises_that_agree_or_cannot_be_compared(first: Digest, second: Digest) -> None:
    """Digests of two kinds contradict nothing; the first stays."""
    script = Script(digest=first)
    script.send(on.Started(1))
    script.judge(accept(), digest=second)
    assert (script.state, script.machine.digest) == (State.RUNNING, first)


def test_two_promises_are_two_versions() -> None:
    """A server that promises another digest than before has another file."""
    script = Script()
    script.send(on.Started(2))
    script.judge(accept(), digest=MD5)
    commands = script.judge(accept(FIRST_SEGMENT, TOTAL), digest=OTHER_MD5)
    assert of(do.Reset, commands) == [do.Reset(1)]


def verifying(*, ranges: bool = True, request: Request | None = None) -> Script:
    """A machine whose digest was found wrong."""
    script = Script(request, digest=MD5).start(ranges=ranges, stop=FIRST_SEGMENT if ranges else TOTAL)
    script.bring_all()
    commands = script.send(on.DigestMismatched("md5:00"))
    assert commands == [do.Note("digest-mismatch", f"found md5:00, expected {MD5}"), do.CheckPieces()]
    return script


def test_pieces_that_the_disk_changed_are_fetched_again() -> None:
    """And no others."""
    script = verifying()
    damaged = Spans.of([(PIECE, 2 * PIECE)])
    commands = script.send(on.PiecesChecked(damaged))
    assert of(do.ForgetPieces, commands) == [do.ForgetPieces(damaged)]
    (again,) = of(do.OpenFlight, commands)
    assert (again.ask.start, again.ask.stop, again.compare) == (PIECE, 2 * PIECE, False)
    script.judge(accept(PIECE, 2 * PIECE))
    assert of(do.Verify, script.store(PIECE, 2 * PIECE, again.flight)) == [do.Verify(TOTAL)]


def test_a_wrong_body_is_compared_and_only_what_differed_is_fetched_a_third_time() -> None:
    """Good pieces are never thrown away, and what is held stays held while it is in doubt."""
    script = verifying()
    (compare,) = of(do.OpenFlight, script.send(on.PiecesChecked(Spans())))
    assert (compare.ask.start, compare.compare) == (0, True)
    assert script.machine.held.length == TOTAL
    assert of(do.ShortenFlight, script.send(on.ConnectionsGranted(1))) == []
    script.store(0, PIECE, 0, differs=True)
    assert of(do.Verify, script.store(PIECE, TOTAL, 0)) == [do.Verify(TOTAL)]
    script.send(on.DigestMismatched("md5:01"))
    (third,) = of(do.OpenFlight, script.send(on.PiecesChecked(Spans())))
    assert (third.ask.start, third.ask.stop, third.compare) == (0, PIECE, True)
    script.store(0, PIECE, 0, differs=True)
    script.send(on.DigestMismatched("md5:02"))
    over = finish(script.send(on.PiecesChecked(Spans())))
    assert (over.kind, "after 2 repairs" in over.detail) == ("integrity", True)


def test_a_server_that_sends_the_same_wrong_bytes_twice_is_believed_to_have_no_others() -> None:
    """A wrong digest costs one more download, not many."""
    script = verifying()
    script.send(on.PiecesChecked(Spans()))
    script.store(0, TOTAL, 0)
    script.send(on.DigestMismatched("md5:00"))
    assert finish(script.send(on.PiecesChecked(Spans()))).kind == "integrity"


def test_a_server_without_ranges_is_compared_as_a_whole() -> None:
    """Its body passes by once more; what is right stays."""
    script = verifying(ranges=False)
    (compare,) = of(do.OpenFlight, script.send(on.PiecesChecked(Spans())))
    assert (compare.compare, compare.ask.start) == (True, 0)
    script.judge(accept(0, TOTAL, ranges=False))
    assert of(do.Verify, script.store(0, TOTAL, compare.flight, differs=True)) == [do.Verify(TOTAL)]


def test_an_idle_connection_does_not_cut_a_repair() -> None:
    """Doubtful pieces are compared whole."""
    script = verifying()
    script.send(on.PiecesChecked(Spans()))
    assert of(do.ShortenFlight, script.send(on.ConnectionsGranted(16))) == []


def test_progress_of_a_repair_renews_the_budget() -> None:
    """Pieces that are no longer in doubt are progress, though no byte more is held."""
    script = verifying()
    script.send(on.PiecesChecked(Spans()))
    for index in range(8):
        script.store(index * PIECE, (index + 1) * PIECE, script.flights[0])
        assert of(do.OpenFlight, script.fail()), "a connection that brought something is replaced at once"


# Redirects and addresses


def test_a_redirect_is_remembered_once_it_served() -> None:
    """Later parts go straight to where the bytes are, with what headers may go there."""
    script = Script(Request(URL, headers=Headers([("Authorization", "secret"), ("X-Y", "z")])))
    script.send(on.Started(2))
    (moved,) = of(do.OpenFlight, script.judge(Follow("https://cdn/x?signed")))
    assert (moved.ask.url, moved.hops, moved.headers.pairs) == ("https://cdn/x?signed", 1, (("x-y", "z"),))
    (later,) = of(do.OpenFlight, script.judge(accept()))
    assert (later.ask.url, later.ask.resolved, later.ask.source) == ("https://cdn/x?signed", True, URL)
    assert later.headers.pairs == (("x-y", "z"),)


def test_a_redirect_that_leads_nowhere_is_refused() -> None:
    """A scheme that is no http."""
    script = Script()
    script.send(on.Started(1))
    assert finish(script.judge(Follow("file:///etc/passwd"))).kind == "redirect-scheme"


def test_an_outage_is_one_line_of_the_log() -> None:
    """A network that is away for a week does not fill the disk with words; bytes end it, and the next is told."""
    script = Script(policy=Policy(patient=True)).start()

    def outage() -> list[str]:
        told: list[str] = []
        for _ in range(5):
            told += [note.detail for note in of(do.Note, script.fail(CONNECT))]
            script.now += 10
            script.send(on.TimerRang())
        return told

    assert outage() == [CONNECT.detail]
    script.store(0, PIECE, script.flights[-1])
    assert outage() == [CONNECT.detail]


def test_a_portals_redirect_is_tried_again() -> None:
    """Over plain http a private address is more likely a login page than an attack."""
    script = Script(Request("http://host.example/model.bin"))
    script.send(on.Started(1))
    script.judge(Follow("http://192.168.0.1/login"))
    assert script.state is State.WAITING_NETWORK


def resolved() -> Script:
    """A machine that remembers where a redirect led."""
    script = Script()
    script.send(on.Started(1))
    script.judge(Follow("https://cdn/x?1"))
    script.judge(accept())
    script.store(0, FIRST_SEGMENT, script.flights[-1])
    (later,) = of(do.OpenFlight, script.send(on.FlightEnded(script.flights[-1])))
    assert later.ask.resolved
    return script


def test_an_expired_address_is_asked_for_anew() -> None:
    """Identity is the source: a refusal elsewhere is just another redirect, and no byte is lost."""
    script = resolved()
    commands = script.judge(ResolveAgain(DENIED))
    assert of(do.Note, commands) == [do.Note("resolved-again", "no")]
    (again,) = of(do.OpenFlight, commands)
    assert (again.ask.url, again.ask.resolved, again.ask.start) == (URL, False, FIRST_SEGMENT)


def test_fresh_addresses_that_are_refused_end() -> None:
    """A few are enough to know."""
    script = resolved()
    script.judge(ResolveAgain(DENIED))
    for number in range(POLICY.resolves):
        script.judge(Follow(f"https://cdn/x?{number}"))
        assert of(do.OpenFlight, script.judge(ResolveAgain(DENIED)))
    script.judge(Follow("https://cdn/x?9"))
    over = finish(script.judge(ResolveAgain(DENIED)))
    assert (over.kind, over.reason) == ("status-403", FailureReason.BAD_STATUS)


def test_the_source_itself_is_asked_twice() -> None:
    """A refusal there may be a replica's hiccup once, not more."""
    script = Script()
    script.send(on.Started(1))
    assert of(do.OpenFlight, script.judge(ResolveAgain(DENIED)))
    assert finish(script.judge(ResolveAgain(DENIED))).reason is FailureReason.BAD_STATUS


@pytest.mark.parametrize("how", ["breaks", "is in trouble"])
def test_an_address_that_fails_is_not_asked_again(how: str) -> None:
    """Its host may be what is broken; the source knows others."""
    script = resolved()
    commands = script.fail() if how == "breaks" else script.judge(Retry(RESET))
    script.now += 60
    commands = commands + script.send(on.TimerRang())
    assert of(do.OpenFlight, commands)[-1].ask.url == URL


# Failing and waiting


def test_failures_in_a_row_end_the_record() -> None:
    """With waits that grow between them, each with a reason and an end."""
    script = started()
    waits: list[float] = []
    while script.state is not State.SETTLED:
        commands = script.fail()
        if script.state is State.WAITING_RETRY:
            assert script.machine.until is not None
            waits.append(script.machine.until - script.now)
            assert script.machine.waiting_for == RESET.detail
            assert commands == [do.Note("retrying", RESET.detail), do.RingAt(script.machine.until)]
            script.now = script.machine.until
            commands = script.send(on.TimerRang())
    assert waits == [0.5, 1.0]
    assert finish(commands).kind == "reset"


def test_progress_renews_the_budget() -> None:
    """A line that brings a little each time is asked for ever."""
    script = started()
    for index in range(8):
        script.store(index * PIECE, (index + 1) * PIECE, script.flights[-1])
        assert of(do.OpenFlight, script.fail())[0].ask.start == (index + 1) * PIECE


def test_a_final_fault_ends_the_record_at_once() -> None:
    """Trying again would not help."""
    assert finish(started().fail(FINAL)).kind == "encoded"
    assert finish(started().judge(Refuse(DENIED))).reason is FailureReason.BAD_STATUS


def test_an_empty_reply_is_a_failure() -> None:
    """A server that closes well without a byte must not be asked in a circle."""
    script = started()
    commands = script.send(on.FlightEnded(1))
    assert script.state is State.WAITING_RETRY
    assert "without a byte" in of(do.Note, commands)[0].detail


def test_flights_that_fail_together_are_one_failure() -> None:
    """A line that breaks under sixteen connections broke once."""
    script = started(connections=4)
    for _ in range(4):
        script.fail()
    assert script.state is State.WAITING_RETRY
    assert script.machine.until == 1000.5


def test_other_flights_go_on_while_one_waits() -> None:
    """Nothing new is opened before the time, what brings bytes goes on."""
    script = started(connections=2)
    assert script.fail() == [do.Note("retrying", RESET.detail), do.RingAt(1000.5)]
    assert (script.state, script.flights) == (State.RUNNING, [1])
    script.store(0, FIRST_SEGMENT, 1)
    assert script.send(on.FlightEnded(1)) == [do.RingAt(1000.5)]
    assert (script.state, script.machine.until) == (State.WAITING_RETRY, 1000.5)


def test_a_server_that_names_a_time_is_obeyed_and_costs_no_budget() -> None:
    """However often, up to a bound; nobody's return changes it."""
    script = started()
    script.judge(Retry(RESET, 60.0))
    assert (script.state, script.machine.until) == (State.WAITING_RETRY, 1060.0)
    assert script.send(on.NetworkReturned()) == [do.RingAt(1060.0)]
    assert script.state is State.WAITING_RETRY
    assert script.send(on.TimerRang()) == [do.RingAt(1060.0)]
    script.now = 1060.0
    assert of(do.OpenFlight, script.send(on.TimerRang()))
    script.judge(Retry(RESET, 60.0))
    script.now = 1120.0
    script.send(on.TimerRang())
    assert finish(script.judge(Retry(RESET, 60.0))).kind == "reset"


def test_a_longer_wait_is_not_shortened_by_a_later_failure() -> None:
    """What the server asked for stands."""
    script = started(connections=2)
    script.judge(Retry(RESET, 60.0))
    script.store(0, PIECE, 1)
    script.fail()
    assert script.machine.until == 1060.0


def test_being_offline_costs_nothing_once_the_server_served() -> None:
    """It waits for the network, looks often, and goes on when told."""
    script = started()
    script.store(0, PIECE, 1)
    script.fail()
    for _ in range(100):
        script.fail(CONNECT)
        assert script.state is State.WAITING_NETWORK
        assert script.machine.until is not None
        script.now = script.machine.until
        script.send(on.TimerRang())
    script.fail(CONNECT)
    assert of(do.OpenFlight, script.send(on.NetworkReturned()))[0].ask.start == PIECE


def test_a_host_that_never_answered_is_given_up_soon() -> None:
    """Most likely its name is wrong."""
    script = Script()
    script.send(on.Started(1))
    script.fail(CONNECT)
    assert script.state is State.WAITING_NETWORK
    script.now += 60
    script.send(on.TimerRang())
    assert finish(script.fail(CONNECT)).kind == "connect"


def test_a_full_disk_pauses_and_looks_again() -> None:
    """No byte is lost, no budget used."""
    script = started(connections=2)
    commands = script.fail(FULL)
    assert of(do.CloseFlight, commands) == [do.CloseFlight(1)]
    assert commands[-2:] == [do.Note("paused-disk", FULL.detail), do.RingAt(1005.0)]
    for _ in range(20):
        assert (script.state, script.machine.until) == (State.PAUSED_DISK, script.now + 5)
        script.now += 5
        assert of(do.OpenFlight, script.send(on.TimerRang()))
        script.fail(FULL)


def test_a_full_disk_is_told_once() -> None:
    """One line when it is full and one when there is room, however often it was looked at; then anew."""
    script = started(connections=2)
    for begin in (0, PIECE):
        told = of(do.Note, script.fail(FULL))
        for _ in range(3):
            script.now += 5
            assert script.send(on.StoreFailed(FULL)) == [do.RingAt(script.now + 5)]
            assert script.state is State.PAUSED_DISK
        script.now += 5
        script.send(on.TimerRang())
        told += of(do.Note, script.store(begin, begin + PIECE, script.flights[-1]))
        told += of(do.Note, script.store(begin + PIECE, begin + PIECE + 1, script.flights[-1]))
        assert told == [do.Note("paused-disk", FULL.detail), do.Note("disk-has-room", "")]


def test_a_full_disk_does_not_shorten_the_servers_wait() -> None:
    """When there is room again the time is still to come."""
    script = started(connections=2)
    script.judge(Retry(RESET, 60.0))
    script.fail(FULL)
    script.now += 5
    assert script.send(on.TimerRang()) == [do.RingAt(1060.0)]
    assert script.state is State.WAITING_RETRY


def test_bytes_that_come_late_complete_a_record_that_waits() -> None:
    """At the end of its wait it has nothing to ask for."""
    script = started()
    script.fail()
    assert script.store(0, TOTAL, 1) == []
    script.now += 60
    assert script.send(on.TimerRang()) == [do.Commit(TOTAL)]


# A person's wishes


def test_pause_and_resume_keep_everything() -> None:
    """It queues again and goes on from the byte."""
    script = started()
    script.store(0, PIECE, 1)
    assert script.send(on.PauseAsked()) == [do.CloseFlight(1), do.Note("paused", "")]
    assert (script.state, script.flights) == (State.PAUSED, [])
    assert script.send(on.TimerRang()) == []
    assert script.send(on.ResumeAsked()) == [do.Note("resumed", "")]
    assert script.state is State.QUEUED
    assert of(do.OpenFlight, script.send(on.Started(1)))[0].ask.start == PIECE


def test_resuming_does_not_wait_out_an_old_failure() -> None:
    """A person wants it now."""
    script = started()
    script.judge(Retry(RESET, 600.0))
    script.send(on.PauseAsked(), on.ResumeAsked())
    assert of(do.OpenFlight, script.send(on.Started(1)))


def test_a_pause_while_verifying_is_remembered() -> None:
    """The check goes on, a repair does not begin before it is wished for."""
    script = verifying()
    assert script.send(on.PauseAsked()) == []
    commands = script.send(on.PiecesChecked(Spans()))
    assert (script.state, of(do.OpenFlight, commands)) == (State.PAUSED, [])
    script.send(on.ResumeAsked())
    assert of(do.OpenFlight, script.send(on.Started(1)))[0].compare


def test_a_pause_while_verifying_can_be_taken_back() -> None:
    """As if it had not been said."""
    script = verifying()
    script.send(on.PauseAsked(), on.ResumeAsked())
    assert of(do.OpenFlight, script.send(on.PiecesChecked(Spans())))


def test_a_pause_while_verifying_holds_where_the_disk_fails() -> None:
    """It waits for the person, not for the disk."""
    script = verifying()
    script.send(on.PauseAsked(), on.StoreFailed(DISK))
    assert script.state is State.PAUSED
    script.send(on.ResumeAsked())
    assert script.send(on.Started(1)) == [do.Verify(TOTAL)]


@pytest.mark.parametrize("event", [on.AbortAsked(), on.LimitPassed(Fault("quota", "too much"))])
@pytest.mark.parametrize("state", ["queued", "running", "waiting", "paused", "verifying"])
def test_a_record_can_be_ended_in_any_state(event: on.Event, state: str) -> None:
    """At once, and nothing is asked for afterwards."""
    script = Script() if state == "queued" else started()
    if state == "waiting":
        script.fail()
    if state == "paused":
        script.send(on.PauseAsked())
    if state == "verifying":
        script.bring_all()
    over = finish(script.send(event))
    assert over.reason is (FailureReason.ABORTED if event == on.AbortAsked() else FailureReason.FETCH_ERROR)
    assert (script.state, script.flights) == (State.SETTLED, [])
    assert (
        script.send(on.Started(1), on.TimerRang(), on.AbortAsked(), on.BlobCommitted(Verified.LENGTH)) == []
    )


# The store


def test_a_disk_that_fails_at_the_end_is_tried_again() -> None:
    """The bytes are all there, so only the check is repeated; not for ever."""
    script = started()
    script.bring_all()
    script.send(on.StoreFailed(DISK))
    assert (script.state, script.machine.until) == (State.WAITING_RETRY, 1000.5)
    assert script.send(on.NetworkReturned()) == [do.Commit(TOTAL)]
    script.send(on.StoreFailed(DISK))
    script.now += 60
    assert script.send(on.TimerRang()) == [do.Commit(TOTAL)]
    assert finish(script.send(on.StoreFailed(DISK))).kind == "disk"


def test_a_disk_that_is_full_at_the_end_pauses() -> None:
    """And goes on by itself."""
    script = started()
    script.bring_all()
    script.send(on.StoreFailed(FULL))
    assert script.state is State.PAUSED_DISK
    script.now += 5
    assert script.send(on.TimerRang()) == [do.Commit(TOTAL)]


# Earlier processes


@pytest.mark.parametrize(
    ("left", "digest", "expected_size", "kept"),
    [
        (Recovered(Spans.of([(0, PIECE)]), TOTAL, TAG), None, None, True),
        (Recovered(Spans.of([(0, PIECE)]), None, TAG), None, None, True),
        (Recovered(Spans.of([(0, PIECE)]), TOTAL, 'W/"v1"', "monday"), None, None, False),
        (Recovered(Spans.of([(0, PIECE)]), TOTAL, 'W/"v1"', "monday"), MD5, None, True),
        (Recovered(Spans.of([(0, PIECE)])), None, None, False),
        (
            Recovered(Spans.of([(0, PIECE)]), TOTAL, TAG),
            None,
            TOTAL + 1,
            False,
        ),  # of another size than promised
        (Recovered(Spans.of([(0, PIECE)]), TOTAL, TAG), None, TOTAL, True),
        (Recovered(Spans.of([(0, TOTAL + PIECE)]), TOTAL, TAG), MD5, None, False),  # more than there is
    ],
)
def test_what_an_earlier_process_left(
    left: Recovered,
    digest: Digest | None,
    expected_size: int | None,
    kept: bool,  # noqa: FBT001 - a table
) -> None:
    """It is gone on with where something will tell another version, and where it fits; else it begins again."""
    script = Script(Request(URL, expected_size=expected_size), digest=digest)
    script.machine.adopt(left)
    commands = script.send(on.Started(1))
    assert (of(do.Reset, commands) == []) == kept
    (first,) = of(do.OpenFlight, commands)
    assert first.ask.start == (PIECE if kept else 0)


def test_what_was_judged_at_the_start_is_not_judged_again() -> None:
    """A weak version fetched by this process survives a pause in it."""
    script = Script()
    script.machine.adopt(Recovered(Spans.of([(0, PIECE)])))
    script.send(on.Started(1))
    script.judge(accept(etag="", modified=""))
    script.store(0, PIECE, script.flights[0])
    script.send(on.PauseAsked(), on.ResumeAsked(), on.Started(1))
    assert script.machine.held.length == PIECE


def test_nothing_left_is_no_history() -> None:
    """An empty partial makes no promises about the server."""
    script = Script()
    script.machine.adopt(Recovered())
    (first,) = of(do.OpenFlight, script.send(on.Started(1)))
    assert (first.ask.start, first.ask.stop) == (0, FIRST_SEGMENT)


def test_a_complete_body_of_an_earlier_process_is_verified_without_asking() -> None:
    """Only the check was missing."""
    script = Script(digest=MD5)
    script.machine.adopt(Recovered(Spans.of([(0, TOTAL)]), TOTAL, TAG))
    assert script.send(on.Started(1)) == [do.Verify(TOTAL)]


def test_a_resumed_download_that_starts_offline_waits() -> None:
    """The server served an earlier process, so its name is right."""
    script = Script()
    script.machine.adopt(Recovered(Spans.of([(0, PIECE)]), TOTAL, TAG))
    script.send(on.Started(1))
    for _ in range(20):
        script.fail(CONNECT)
        assert script.state is State.WAITING_NETWORK
        script.now += 60
        script.send(on.TimerRang())


# Uploads


UPLOAD = Request(URL, method="POST", body=b"x")


def test_an_upload_is_sent_once_and_its_answer_kept() -> None:
    """Any 2xx is the answer, of whatever length."""
    script = Script(UPLOAD)
    (sent,) = of(do.OpenFlight, script.send(on.Started(4)))
    assert (sent.ask.ranged, sent.ask.safe) == (False, False)
    assert script.judge(accept(0, None, None, ranges=False)) == []
    script.store(0, 10, 1)
    assert script.send(on.FlightEnded(1)) == [do.Commit(10)]


@pytest.mark.parametrize("fault", [RESET, CONNECT, FULL])
def test_an_upload_that_broke_is_not_sent_again(fault: Fault) -> None:
    """Whether the server acted on it cannot be known."""
    script = Script(UPLOAD)
    script.send(on.Started(1))
    assert finish(script.fail(fault)).kind == fault.kind


def test_an_upload_under_way_is_not_paused() -> None:
    """Pausing would mean sending it again."""
    script = Script(UPLOAD)
    assert of(do.Note, script.send(on.PauseAsked())) == [do.Note("paused", "")]
    script.send(on.ResumeAsked(), on.Started(1))
    assert [note.name for note in of(do.Note, script.send(on.PauseAsked()))] == ["not-paused"]
    assert script.flights == [1]


def test_an_upload_that_an_earlier_process_sent_is_not_sent_again() -> None:
    """Part of an answer shows that it was."""
    script = Script(UPLOAD)
    script.machine.adopt(Recovered(Spans.of([(0, 10)]), None, ""))
    assert finish(script.send(on.Started(1))).kind == "interrupted"


def test_an_answer_with_the_wrong_digest_is_not_asked_for_again() -> None:
    """There is only this one."""
    script = Script(UPLOAD, digest=MD5)
    script.send(on.Started(1))
    script.judge(accept(0, None, None, ranges=False))
    script.store(0, 10, 1)
    script.send(on.FlightEnded(1), on.DigestMismatched("md5:00"))
    assert finish(script.send(on.PiecesChecked(Spans()))).kind == "integrity"


# The table


STATES = [state for state in State if state not in (State.PAUSED_SCHEDULE, State.PAUSED_METERED)]


def test_the_table_speaks_of_every_state_and_event() -> None:
    """Each unfinished state can be left, each event means something somewhere, and the end is the end."""
    assert {state for state, _ in TRANSITIONS} == set(STATES) - {State.SETTLED}
    events = {event for _, event in TRANSITIONS}
    assert events == set(on.Event.__args__)
    for state in set(STATES) - {State.SETTLED}:
        assert any(TRANSITIONS[key] for key in TRANSITIONS if key[0] is state)
    assert {target for targets in TRANSITIONS.values() for target in targets} == set(STATES)


def test_what_means_nothing_in_a_state_is_ignored() -> None:
    """Late events of flights and stores that nobody waits for."""
    script = started()
    assert (
        script.send(
            on.BlobCommitted(Verified.LENGTH), on.DigestMatched(), on.Started(1), on.NetworkReturned()
        )
        == []
    )
    assert script.send(on.FlightEnded(99), on.FlightFailed(99, RESET), on.FlightLagged(99)) == []
    assert script.judge(Refuse(FINAL), 99) == []


def test_all_idle_connections_take_tails_at_once() -> None:
    """A line that pays for 8 connections is not left with 2 until a segment ends: that may take half a minute."""
    script = started(total=64 * PIECE, stop=FIRST_SEGMENT)
    script.send(on.ConnectionsGranted(2))
    for leg in script.machine.flights.values():
        leg.rate = PIECE / 4
    script.send(on.ConnectionsGranted(8))
    assert len(script.machine.flights) == 8
    for leg in script.machine.flights.values():
        leg.rate = PIECE / 4
    while script.machine.held.gaps(64 * PIECE).without(
        [(leg.position, leg.stop or 0) for leg in script.machine.flights.values()]
    ):
        script.send(on.ConnectionsGranted(len(script.machine.flights) + 1))
    before = len(script.machine.flights)
    commands = script.send(on.ConnectionsGranted(before + 4))
    assert len(of(do.ShortenFlight, commands)) == len(of(do.OpenFlight, commands)) == 4
