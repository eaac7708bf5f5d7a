"""A simulated server, line and disk against the machine: it never hangs, always ends, and never believes wrong bytes.

The simulation is numbers: a cell is the least that a flight may be cut at, and what stands in it is the version of the body it came
from, or that with a mark when the line spoilt it. Replies are judged by the real reply checker.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.digests import Digest
from bgfetch.core.machine import Policy, RecordMachine, Recovered
from bgfetch.core.model import FailureReason, Fault, Headers, ReplyHead, Request, Result, State, Verified
from bgfetch.core.ranges import Accept, Known, check_reply
from bgfetch.core.segments import CRUMB, PIECE
from bgfetch.core.spans import Span, Spans

CELL = CRUMB
QUARTER = PIECE // 4
SOURCE = "https://host/model.bin"
POLICY = Policy(attempts=4, first_attempts=3, server_waits=4, offline_waits=8, restarts=4, repairs=4)
BAD = 1000  # what the line spoils is the version plus this
BREAKS = ("reset", "stall", "truncated", "connect", "dns", "resources")


def digest_of(version: int) -> Digest:
    """The digest that stands for a version."""
    return Digest("md5", version.to_bytes(16, "big"))


@dataclass
class Server:
    """What the far end does.

    Args:
        version: Which body it has.
        quarters: Length of each version in quarters of a piece; versions beyond the list repeat the last.
        tags: "strong", "weak", "none" or "rotating" (a new tag with each reply).
        ranges: Whether it sends parts.
        star: Whether it hides the total in its parts.
        lengths: Whether it announces the length of a whole body.
        cap: Most quarters of a piece in a part, or 0.
        if_range: Whether it honours If-Range; "dropped" answers 200 to any.
        redirects: Whether the source answers with a signed URL.
        token: Which signature is valid.
        promises: Whether it promises a digest.
    """

    version: int = 1
    quarters: tuple[int, ...] = (50,)
    tags: str = "strong"
    ranges: bool = True
    star: bool = False
    lengths: bool = True
    cap: int = 0
    if_range: bool = True
    redirects: bool = False
    token: int = 0
    promises: bool = False
    replies: int = 0

    @property
    def length(self) -> int:
        """Bytes of the present version."""
        return self.length_of(self.version)

    def length_of(self, version: int) -> int:
        """Bytes of any version."""
        return self.quarters[min(version, len(self.quarters)) - 1] * QUARTER

    @property
    def tag(self) -> str:
        """The present ETag."""
        marks = {"strong": f'"{self.version}"', "weak": f'W/"{self.version}"', "none": ""}
        return marks.get(self.tags, f'"{self.version}-{self.replies}"')

    def reply(self, command: do.OpenFlight, known: Known) -> ReplyHead:
        """An honest answer."""
        self.replies += 1
        ask = command.ask
        if self.redirects and ask.url == SOURCE:
            return self._head(ask.url, 302, ("Location", f"https://cdn/x?token={self.token}"))
        if self.redirects and ask.url != f"https://cdn/x?token={self.token}":
            return self._head(ask.url, 403)
        validators = [("ETag", self.tag)] if self.tag else []
        if ask.ranged and self.ranges and self._fresh(ask.conditional, known):
            return self._part(command, validators)
        lengths = [("Content-Length", str(self.length))] if self.lengths else []
        return self._head(ask.url, 200, *validators, *lengths)

    def _fresh(self, conditional: bool, known: Known) -> bool:  # noqa: FBT001 - as asked
        return not conditional or (self.if_range and known.etag == self.tag)

    def _part(self, command: do.OpenFlight, validators: list[tuple[str, str]]) -> ReplyHead:
        ask = command.ask
        if ask.start >= self.length:
            return self._head(ask.url, 416, ("Content-Range", f"bytes */{self.length}"), *validators)
        stop = min(self.length, ask.stop or self.length)
        if self.cap:
            stop = min(stop, ask.start + self.cap * QUARTER)
        total = "*" if self.star else str(self.length)
        return self._head(
            ask.url, 206, ("Content-Range", f"bytes {ask.start}-{stop - 1}/{total}"), *validators
        )

    @staticmethod
    def _head(url: str, status: int, *fields: tuple[str, str]) -> ReplyHead:
        return ReplyHead(url, status, Headers(fields))


@dataclass
class Stream:
    """One exchange: where its bytes go, and of which version they are once a reply was accepted."""

    command: do.OpenFlight
    known: Known
    generation: int
    disk: dict[int, int]
    version: int = 0
    position: int = 0
    stop: int = 0
    cut: int | None = None
    gathered: int = 0

    @property
    def waits(self) -> bool:
        """Whether the piece's bytes before it are not there yet."""
        before = self.position // CELL - 1
        return self.command.ahead and self.position % PIECE > 0 and before not in self.disk

    @property
    def end(self) -> int:
        """Where it stops by itself or by order."""
        return self.stop if self.cut is None else min(self.stop, self.cut)


@dataclass
class World:
    """Everything around a machine, and what must always be true of both."""

    server: Server
    request: Request = field(default_factory=lambda: Request(SOURCE))
    digest: Digest | None = None
    policy: Policy = POLICY
    now: float = 1_000_000.0
    timer: float | None = None
    disk: dict[int, int] = field(default_factory=dict)
    rotten: set[int] = field(default_factory=set)
    streams: dict[int, Stream] = field(default_factory=dict)
    check: do.Command | None = None
    finish: do.Finish | None = None
    sent: int = 0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = RecordMachine(self.request, policy=self.policy, digest=self.digest)

    # What is told to the machine, and what it wants.

    def tell(self, event: on.Event, chance: float = 0.5) -> None:
        """An event, its commands carried out, and the bytes that given-up flights still had in hand."""
        late: list[on.Event] = []
        for command in self.machine.handle(event, now=self.now, chance=chance):
            late += self._execute(command)
        self.hold_true()
        for each in late:
            self.tell(each)

    def _execute(self, command: do.Command) -> list[on.Event]:
        match command:
            case do.OpenFlight(flight):
                assert flight not in self.streams, "a flight is opened once"
                machine = self.machine
                self.streams[flight] = Stream(command, machine.known, machine.generation, self.disk)
                self.sent += 1
            case do.CloseFlight(flight):
                stream = self.streams.pop(flight, None)
                return [] if stream is None else self._store(flight, stream, 1)
            case do.ShortenFlight(flight, stop):
                self.streams[flight].cut = stop
            case do.Reset():
                self.disk, self.rotten = {}, set()
            case do.ForgetPieces(spans):
                for cell in [cell for cell in self.disk if spans.covers((cell * CELL, cell * CELL + 1))]:
                    del self.disk[cell]
                    self.rotten.discard(cell)
            case do.RingAt(when):
                assert when > self.now, "a timer in the past is a busy loop"
                self.timer = when
            case do.Verify() | do.CheckPieces() | do.Commit():
                assert self.check is None
                self.check = command
            case do.Note(name, _):
                self.notes.append(name)
            case do.Finish():
                assert self.finish is None, "a record ends once"
                self.finish = command
        return []

    def _store(self, flight: int, stream: Stream, quarters: int, spoil: int = 0) -> list[on.Event]:
        """What a writer does with the next cells; a repair stores whole pieces and says whether they differ."""
        if not stream.version:
            return []
        stop = min(stream.end, stream.position + stream.gathered + quarters * QUARTER)
        stream.gathered = stop - stream.position if stream.waits else 0
        if stream.waits:
            return []
        if stream.command.compare and stop < stream.end:
            stop = stop // PIECE * PIECE
        stored: list[on.Event] = []
        while stream.position < stop:
            start, upto = stream.position, min(stop, (stream.position // PIECE + 1) * PIECE)
            new = dict.fromkeys(range(start // CELL, -(-upto // CELL)), stream.version + spoil)
            differs = stream.command.compare and any(
                stream.disk.get(cell) != value for cell, value in new.items()
            )
            stream.disk.update(new)
            if stream.disk is self.disk:
                self.rotten -= new.keys()
            stream.position = upto
            stored.append(on.BytesStored(flight, stream.generation, start, upto, differs))
        return stored

    # What the world does.

    def begin(self, connections: int = 4) -> None:
        """The scheduler's turn."""
        self.tell(on.Started(connections))

    def reply(self, flight: int, head: ReplyHead | None = None) -> None:
        """The server answers."""
        stream = self.streams[flight]
        if head is None:
            head = self.server.reply(stream.command, stream.known)
        verdict = check_reply(stream.command.ask, head, stream.known, now=self.now)
        if isinstance(verdict, Accept):
            stream.version = self.server.version
            stream.position, stream.stop = verdict.start, verdict.stop or self.server.length
            stream.stop = min(stream.stop, self.server.length)
        else:
            del self.streams[flight]
        promised = (
            digest_of(self.server.version) if self.server.promises and isinstance(verdict, Accept) else None
        )
        self.tell(on.ReplyJudged(flight, verdict, promised))

    def bring(self, flight: int, quarters: int, spoil: int = 0) -> None:
        """Bytes come; with the last one the exchange ends."""
        stream = self.streams[flight]
        for event in self._store(flight, stream, quarters, spoil):
            self.tell(event)
        if (
            stream.position + stream.gathered >= stream.end
            and stream.waits
            and flight in self.machine.flights
        ):
            self.machine.flights[flight].waiting = True
        elif stream.position >= stream.end and flight in self.streams:
            del self.streams[flight]
            self.tell(on.FlightEnded(flight))

    def break_off(self, flight: int, kind: str = "reset", *, transient: bool = True) -> None:
        """The exchange breaks."""
        del self.streams[flight]
        self.tell(on.FlightFailed(flight, Fault(kind, f"{kind} happened", transient=transient)))

    def ring(self) -> None:
        """Time passes until the timer."""
        assert self.timer is not None
        self.now, self.timer = max(self.now, self.timer), None
        self.tell(on.TimerRang())

    def examine(self) -> None:
        """The keeper does what it was told to do."""
        check, self.check = self.check, None
        match check:
            case do.Verify(total):
                right = self.right(total)
                self.tell(on.DigestMatched() if right else on.DigestMismatched("another"))
            case do.CheckPieces():
                pieces = {cell * CELL // PIECE for cell in self.rotten}
                self.tell(on.PiecesChecked(Spans.of((each * PIECE, (each + 1) * PIECE) for each in pieces)))
            case do.Commit(total):
                self.judge(total)
                self.tell(on.BlobCommitted(Verified.LENGTH))

    def body(self, total: int) -> list[int | None]:
        """What stands in each cell of the file."""
        return [None if cell in self.rotten else self.disk.get(cell) for cell in range(-(-total // CELL))]

    def right(self, total: int) -> bool:
        """Whether the file has the digest."""
        digest = self.machine.digest
        assert digest is not None
        version = int.from_bytes(digest.value, "big")
        return total == self.server.length_of(version) and set(self.body(total)) <= {version}

    # What must be true.

    def judge(self, total: int) -> None:
        """Nothing that is not a whole version has a final name."""
        found = set(self.body(total))
        assert len(found) <= 1, f"a file of {found}"
        for version in found:
            assert version is not None
            assert version < BAD
            assert total == self.server.length_of(version)
        if self.digest is not None:
            assert self.right(total)
        assert self.request.expected_size in (None, total)

    def hold_true(self) -> None:
        """The rules of the machine, after every event."""
        machine, state = self.machine, self.machine.state
        assert set(machine.flights) <= set(self.streams)
        assert (state is State.RUNNING) == bool(machine.flights), (
            "flights are under way while it runs, then only"
        )
        if state in (State.WAITING_NETWORK, State.WAITING_RETRY, State.PAUSED_DISK):
            assert self.timer is not None, "who waits is woken"
            assert machine.until is not None
            assert machine.waiting_for
        if state is State.VERIFYING:
            assert self.check is not None, "who is verified hears the result"
        assert (state is State.SETTLED) == (self.finish is not None)
        if not machine.known.by_digest:
            versions = {self.disk.get(cell, 0) % BAD for span in machine.held for cell in cells_of(span)}
            assert len(versions) <= 1, f"bytes of {versions} are held together"
            assert 0 not in versions, "what is held is there"
        self._no_overlap()

    def _no_overlap(self) -> None:
        seen = Spans()
        for leg in self.machine.flights.values():
            if leg.stop is None or (leg.start == 0 and leg.stop == self.machine.total):
                continue  # a whole body, which comes where a part was asked
            span = Span(leg.position, leg.stop)
            assert seen.remove(span) == seen, "two flights bring the same bytes"
            seen = seen.add(span)

    # Left alone.

    def step(self) -> None:
        """The next thing that happens where nothing goes wrong."""
        machine = self.machine
        if self.check is not None:
            self.examine()
        elif machine.state is State.QUEUED:
            self.begin()
        elif machine.state is State.PAUSED:
            self.tell(on.ResumeAsked())
        elif machine.flights:
            flight = self._next()
            if self.streams[flight].version:
                self.bring(flight, 8)
            else:
                self.reply(flight)
        else:
            self.ring()

    def _next(self) -> int:
        """A flight that can go on; where all wait for others, one is asked for."""
        for _ in range(3):
            for flight, leg in self.machine.flights.items():
                if not (leg.waiting and self.streams[flight].waits):
                    return flight
            if self.timer is None:
                self.tell(on.ConnectionsGranted(1))
            else:
                self.ring()
        raise AssertionError("all wait for what nobody is asked for")

    def slow_down(self, connections: int) -> None:
        """The line turns out to be slow, and there are connections to spare."""
        for leg in self.machine.flights.values():
            leg.rate, leg.age = CELL / 2, 9.0
        self.tell(on.ConnectionsGranted(connections))

    def settle(self, steps: int = 3000) -> do.Finish:
        """Go on until it is over, which must come."""
        for _ in range(steps):
            if self.finish is not None:
                return self.finish
            self.step()
        raise AssertionError(f"not over after {steps} steps: {self.machine.state} {self.notes[-9:]}")


def cells_of(span: Span) -> range:
    """The cells that a span touches."""
    return range(span.start // CELL, -(-span.stop // CELL))


# Servers that go wrong in one way for ever


@pytest.mark.parametrize("tags", ["strong", "weak", "none"])
@pytest.mark.parametrize("digest", [None, digest_of(1)])
@pytest.mark.parametrize(
    "server",
    [
        Server(),
        Server(quarters=(1,)),
        Server(quarters=(0,)),
        Server(quarters=(7,), star=True),
        Server(star=True, cap=3),
        Server(cap=5),
        Server(cap=1),
        Server(ranges=False),
        Server(ranges=False, lengths=False),
        Server(if_range=False),
        Server(redirects=True),
        Server(promises=True),
    ],
)
def test_every_honest_server_is_finished(server: Server, tags: str, digest: Digest | None) -> None:
    """Whatever a server can or cannot do, a body that is sent right arrives right."""
    world = World(replace(server, tags=tags), digest=digest)
    assert world.settle() == do.Finish(Result.SUCCESS)


def test_tags_that_rotate_are_endured() -> None:
    """Replicas that disagree on the tag of the same bytes: by a digest, or on one connection."""
    for digest in (None, digest_of(1)):
        assert World(Server(tags="rotating"), digest=digest).settle().result is Result.SUCCESS


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("tags", ["strong", "none"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("digest", [None, digest_of(1)])
def test_a_line_that_always_breaks_at_the_same_byte_is_given_up(
    ranges: bool,  # noqa: FBT001 - a table
    lengths: bool,  # noqa: FBT001 - a table
    tags: str,
    digest: Digest | None,
) -> None:
    """No server is sent the same request for ever, resumable or not."""
    world = World(Server(quarters=(40,), ranges=ranges, lengths=lengths, tags=tags), digest=digest)
    world.begin()
    for _ in range(250):
        if world.finish is not None:
            break
        if not world.machine.flights:
            world.ring()
            continue
        flight = next(iter(world.machine.flights))
        world.reply(flight)
        stream = world.streams.get(flight)
        if stream is not None:
            wall = 20 * QUARTER - stream.position
            if wall > 0:
                world.bring(flight, -(-wall // QUARTER))
            if flight in world.streams:
                world.break_off(flight)
    assert world.finish is not None
    assert (world.finish.result, world.finish.kind) == (Result.FAILURE, "reset")


@pytest.mark.parametrize("kind", [kind for kind in BREAKS if kind != "resources"])  # then nobody was asked
def test_a_server_that_never_answers_is_given_up_soon(kind: str) -> None:
    """A mistyped host is told after a few attempts."""
    world = World(Server())
    while world.finish is None:
        if world.machine.flights:
            world.break_off(next(iter(world.machine.flights)), kind)
        elif world.machine.state is State.QUEUED:
            world.begin()
        else:
            world.ring()
    assert (world.sent, world.finish.kind) == (POLICY.first_attempts, kind)


@pytest.mark.parametrize("breaks", [False, True])
def test_a_body_that_changes_with_every_reply(breaks: bool) -> None:  # noqa: FBT001 - a table
    """One whole reply is one version; where even that breaks off, the body is unstable and this ends."""
    world = World(Server(quarters=(40,)))
    while world.finish is None:
        world.server.version += 1
        flight = next(iter(world.streams), None)
        if breaks and flight is not None and world.streams[flight].version:
            world.bring(flight, 3)
            world.break_off(flight)
        else:
            world.step()
    assert (world.finish.kind, world.machine.restarts) == (("unstable", 4) if breaks else ("", 2))


# Everything at once


TROUBLES = (
    *(
        "reset",
        "stall",
        "connect",
        "dns",
        "resources",
        "disk-full",
        "certificate",
    ),  # of the line and the disk
    *("429", "500", "503", "511", "416", "206", "403", "page", "inwards"),  # replies
    *("early end", "spoilt", "lag", "rot", "expire", "change", "change"),
)
WISHES = ("pause", "resume", "resume", "network", "time", "back", "early", "turn", "slow", "process")


class Simulation(RuleBasedStateMachine):
    """Anything may happen at any time; then the world calms down and the record must end well or say why not."""

    world: World

    @initialize(
        quarters=st.tuples(st.sampled_from([0, 3, 41, 61, 90]), st.sampled_from([2, 41, 61, 90])),
        tags=st.sampled_from(["strong", "strong", "strong", "weak", "none", "rotating"]),
        ranges=st.sampled_from(["yes", "yes", "yes", "no", "plain"]),
        hides=st.sampled_from(["", "", "", "star", "lengths"]),
        cap=st.sampled_from([0, 0, 3, 8]),
        source=st.sampled_from(["", "redirects", "promises", "promises redirects"]),
        digest=st.sampled_from([None, None, 1, 1, 2]),
        sized=st.sampled_from([False, False, True]),
    )
    def prepare(
        self,
        quarters: tuple[int, int],
        tags: str,
        ranges: str,
        hides: str,
        cap: int,
        source: str,
        digest: int | None,
        sized: bool,  # noqa: FBT001 - Hypothesis names it
    ) -> None:
        """A server and a request; versions that no validator tells apart differ in an announced length."""
        if tags == "none":
            hides, quarters = "", (quarters[0], quarters[1] + 1)
        server = Server(
            quarters=quarters,
            tags=tags,
            ranges=ranges != "no",
            star=hides == "star",
            lengths=hides != "lengths",
            cap=cap,
            if_range=ranges == "yes",
            redirects="redirects" in source,
            promises="promises" in source,
        )
        size = quarters[(digest or 1) - 1] * QUARTER if sized else None
        request = Request(SOURCE, expected_size=size)
        self.world = World(server, request, None if digest is None else digest_of(digest))
        self.world.begin()

    def flight(self, choice: int, *, streaming: bool) -> int | None:
        """One of the flights that the world knows of."""
        found = [key for key, each in self.world.streams.items() if bool(each.version) == streaming]
        return found[choice % len(found)] if found else None

    @rule(choice=st.integers(0, 9), count=st.integers(1, 4))
    def the_server_replies(self, choice: int, count: int) -> None:
        """Honestly."""
        for number in range(count):
            flight = self.flight(choice + number, streaming=False)
            if flight is not None:
                self.world.reply(flight)

    @rule(choice=st.integers(0, 9), quarters=st.integers(1, 30))
    def bytes_come(self, choice: int, quarters: int) -> None:
        """On any flight."""
        flight = self.flight(choice, streaming=True)
        if flight is not None:
            self.world.bring(flight, quarters)

    @rule(steps=st.integers(1, 12))
    def all_is_well(self, steps: int) -> None:
        """For a while."""
        for _ in range(steps):
            if self.world.finish is None:
                self.world.step()

    @rule(trouble=st.sampled_from(TROUBLES), choice=st.integers(0, 9))
    def something_goes_wrong(self, trouble: str, choice: int) -> None:
        """On the line, at the server, on the disk."""
        match trouble:
            case "lag" | "rot" | "expire" | "change":
                self._behind_its_back(trouble, choice)
            case "reset" | "stall" | "connect" | "dns" | "resources" | "disk-full" | "certificate":
                flight = self.flight(choice, streaming=choice % 2 == 0)
                if flight is not None:
                    self.world.break_off(flight, trouble, transient=trouble != "certificate")
            case "early end" | "spoilt":
                self._wrong_bytes(trouble, choice)
            case _:
                self._wrong_reply(trouble, choice)

    def _behind_its_back(self, trouble: str, choice: int) -> None:
        world = self.world
        flights, cells = list(world.machine.flights), sorted(world.disk)
        if trouble == "lag" and flights:
            world.tell(on.FlightLagged(flights[choice % len(flights)]))
        if trouble == "rot" and cells and world.digest is not None and world.check is None:
            world.rotten.add(cells[choice * 7 % len(cells)])
        if trouble == "expire":
            world.server.token += 1
        if trouble == "change" and world.server.tags != "rotating":
            world.server.version = 2

    def _wrong_bytes(self, trouble: str, choice: int) -> None:
        world, flight = self.world, self.flight(choice, streaming=True)
        if flight is None:
            return
        if trouble == "spoilt" and world.digest is not None:  # else nothing could tell
            world.bring(flight, 4, BAD)
        if trouble == "early end" and (world.server.lengths or world.digest is not None):
            del world.streams[flight]
            world.tell(on.FlightEnded(flight))

    def _wrong_reply(self, trouble: str, choice: int) -> None:
        flight = self.flight(choice, streaming=False)
        if flight is None:
            return
        url = self.world.streams[flight].command.ask.url
        fields: list[tuple[str, str]] = [("Retry-After", "20")] if choice % 2 else []
        if trouble == "page":
            fields = [("Content-Type", "text/html"), ("Content-Length", "153")]
        if trouble == "inwards":
            fields = [("Location", "http://10.0.0.1/login")]
        status = {"page": 200, "inwards": 302}.get(trouble) or int(trouble)
        self.world.reply(flight, ReplyHead(url, status, Headers(fields)))

    @rule(wish=st.sampled_from(WISHES), number=st.integers(0, 8))
    def somebody_does_something(self, wish: str, number: int) -> None:
        """A person, the clock, the scheduler, the operating system."""
        world = self.world
        match wish:
            case "pause":
                world.tell(on.PauseAsked())
            case "resume":
                world.tell(on.ResumeAsked())
            case "network":
                world.tell(on.NetworkReturned())
            case "time" | "back":
                world.now += {"time": 10.0 ** (number - 2), "back": -50.0}[wish]
                if world.timer is not None and world.timer <= world.now:
                    world.ring()
            case "slow":
                world.slow_down(4 * number)
            case "early":
                world.tell(on.TimerRang())
            case "turn":
                world.tell(on.Started(number))
                world.tell(on.ConnectionsGranted(number))
            case _:
                self._another_process()

    def _another_process(self) -> None:
        """What is held is recovered; the rest of what the machine knew is gone."""
        old, left = self.world, self.world.machine
        if old.finish is not None:
            return
        new = World(old.server, old.request, old.digest, now=old.now, disk=old.disk, rotten=old.rotten)
        new.machine.adopt(Recovered(left.held, left.total, left.etag, left.last_modified, left.content_type))
        self.world = new

    @precondition(lambda self: self.world.check is not None)
    @rule(fails=st.sampled_from(["", "", "", "disk-full", "disk"]))
    def the_keeper_works(self, fails: str) -> None:
        """Checks and commits, or cannot."""
        if fails:
            self.world.check = None
            self.world.tell(on.StoreFailed(Fault(fails, "the disk refused", transient=True)))
        else:
            self.world.examine()

    @precondition(lambda self: self.world.sent > 60)
    @rule()
    def abort(self) -> None:
        """A person's wish, late."""
        self.world.tell(on.AbortAsked())
        assert self.world.finish is not None

    def teardown(self) -> None:
        """In a world where nothing goes wrong any more it ends, well or with a name."""
        if getattr(self, "world", None) is None:
            return
        finish = self.world.settle()
        if finish.result is Result.FAILURE:
            assert finish.kind
            assert finish.detail
            assert finish.reason is not FailureReason.NONE


TestSimulation = Simulation.TestCase
TestSimulation.settings = settings(
    derandomize=True, max_examples=80, stateful_step_count=50, deadline=None, database=None
)


@pytest.mark.parametrize("seed", range(250))
def test_a_long_bad_day(seed: int) -> None:
    """The same world for hundreds of events: what many troubles in a row lead to still ends, and ends right."""
    draw = random.Random(seed)
    day = Simulation()
    day.prepare(
        quarters=(draw.choice([0, 3, 41, 61, 90, 200]), draw.choice([2, 41, 61, 90, 200])),
        tags=draw.choice(["strong", "strong", "strong", "weak", "none", "rotating"]),
        ranges=draw.choice(["yes", "yes", "yes", "yes", "no", "plain"]),
        hides=draw.choice(["", "", "", "star", "lengths"]),
        cap=draw.choice([0, 0, 0, 3, 8]),
        source=draw.choice(["", "redirects", "promises", "promises redirects"]),
        digest=draw.choice([None, None, 1, 1, 2]),
        sized=draw.random() < 0.1,
    )
    lucky = draw.random()
    for _ in range(250):
        luck = draw.random()
        if day.world.finish is not None:
            break
        if luck < 0.35:
            day.the_server_replies(choice=draw.randrange(10), count=1)
        elif luck < 0.80:
            day.bytes_come(choice=draw.randrange(10), quarters=draw.choice([1, 2, 5, 9]))
        elif luck < 0.82 and day.world.check is not None:
            day.the_keeper_works(fails=draw.choice(["", "", "disk-full", "disk"]))
        elif luck < 0.85 + lucky / 10:
            day.all_is_well(steps=draw.randrange(1, 4))
        elif luck < 0.97:
            day.something_goes_wrong(trouble=draw.choice(TROUBLES), choice=draw.randrange(10))
        else:
            day.somebody_does_something(wish=draw.choice(WISHES), number=draw.randrange(9))
    day.teardown()
