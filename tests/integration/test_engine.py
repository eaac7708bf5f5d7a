"""The engine with a real store, real files and the real transport: wishes, ends of a process, limits, bad days."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab import Lab, asking

from bgfetch.core.model import FailureReason, Fault, Headers, Progress, ReplyHead, Request, Result, State
from bgfetch.engine.tasks import RecordTask
from bgfetch.errors import CacheError
from bgfetch.registrations.port import EventType, RegistrationOptions, Wish
from bgfetch.testing import SCENARIOS, Exchange, FaultServer, Fuse, OriginServer, text_reply
from bgfetch.testing.memory import Canned, MemoryTransport
from bgfetch.transports.base import Exchange as Sent

BODY = random.Random(7).randbytes((12 << 20) + 99)
SMALL = BODY[:50_000]
SOON = 10.0


class Halt:
    """A handler that serves so many bytes in all and then says nothing until it is let go on."""

    def __init__(self, after: int) -> None:
        self._fuse = Fuse(after)
        self._free = False
        self.reached = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        if self._free:
            exchange.send(exchange.correct())
            return
        reply = exchange.correct()
        exchange.write(exchange.closing(reply).head())
        for chunk in reply.content.chunks(*reply.spans[0], size=1 << 16):
            if self._fuse.take(len(chunk)) < len(chunk):
                self.reached.set()
                exchange.drop()
                exchange.hold()
                return
            exchange.stream([chunk])

    def go_on(self) -> None:
        """Answer as one should from now on."""
        self._free = True


def shows(lab: Lab, uid: int, wanted: Callable[[Progress], bool]) -> threading.Event:
    """Set once progress of this kind is told."""
    seen = threading.Event()
    lab.driver.bulletin.listen(uid, lambda progress: seen.set() if wanted(progress) else None)
    return seen


def test_pause_and_resume(tmp_path: Path) -> None:
    """While paused nothing is asked for; afterwards what is missing comes, and nothing twice."""
    halt = Halt(3 << 20)
    with OriginServer(BODY, halt) as server, Lab(tmp_path) as lab:
        uid = lab.begin(asking(server.url, sha256=server.sha256))
        assert halt.reached.wait(SOON)
        held = shows(lab, uid, lambda progress: progress.downloaded >= 2 << 20)
        assert held.wait(SOON)
        paused = shows(lab, uid, lambda progress: progress.state is State.PAUSED and not progress.connections)
        lab.driver.wish(uid, Wish.PAUSE)
        assert paused.wait(SOON)
        asked = len(server.requests)
        halt.go_on()
        lab.driver.wish(uid, Wish.RUN)
        ended = lab.wait()
        assert ended.body == BODY
        assert not any(request.range == "bytes=0-8388607" for request in server.requests[asked:])


def test_a_wish_in_the_store_is_obeyed(tmp_path: Path) -> None:
    """What another process asked for through the store is done without a call."""
    halt = Halt(1 << 20)
    with OriginServer(BODY, halt) as server, Lab(tmp_path) as lab:
        uid = lab.begin(asking(server.url))
        assert halt.reached.wait(SOON)
        assert lab.store.set_wish(uid, Wish.ABORT)
        ended = lab.wait()
    assert (ended.row.result, ended.row.failure_reason) == (Result.FAILURE, FailureReason.ABORTED)
    (event,) = ended.outbox
    assert event.type is EventType.ABORT


def test_abort_leaves_no_bytes(tmp_path: Path) -> None:
    """An aborted download settles at once and gives the disk back."""
    halt = Halt(3 << 20)
    with OriginServer(BODY, halt) as server, Lab(tmp_path) as lab:
        uid = lab.begin(asking(server.url))
        assert halt.reached.wait(SOON)
        lab.driver.wish(uid, Wish.ABORT)
        ended = lab.wait()
        assert ended.body is None
        assert not list((tmp_path / "partials").iterdir())


def test_the_next_process_goes_on(tmp_path: Path) -> None:
    """After a close in the middle the next process asks for the rest only, and settles."""
    halt = Halt(10 << 20)
    with OriginServer(BODY, halt) as server:
        with Lab(tmp_path) as lab:
            uid = lab.begin(asking(server.url, sha256=server.sha256))
            assert halt.reached.wait(SOON)
            held = shows(lab, uid, lambda progress: progress.downloaded >= 8 << 20)
            assert held.wait(SOON)
        halt.go_on()
        before = server.bytes_sent
        with Lab(tmp_path) as lab:
            lab.resume(uid)
            ended = lab.wait()
        assert ended.body == BODY
        assert server.bytes_sent - before < len(BODY) - (7 << 20)


def test_many_small_records(tmp_path: Path) -> None:
    """A registration of many files finishes with each of them right, in their order."""
    bodies = {f"/{number}.bin": SMALL + bytes([number]) for number in range(40)}
    with OriginServer(bodies) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(*(asking(server.url_of(path)) for path in bodies))
    assert list(ended.bodies) == list(bodies.values())
    assert len(ended.outbox) == 1


def test_the_others_finish_when_one_fails(tmp_path: Path) -> None:
    """One 404 fails the registration, with the lowest failing index as its reason, after the others have finished."""
    with OriginServer({"/a": SMALL, "/c": SMALL[1:]}) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(*(asking(server.url_of(path)) for path in ("/a", "/b", "/c", "/d")))
    assert ended.row.failure_reason is FailureReason.BAD_STATUS
    assert "/b" in ended.row.failure_detail
    assert list(ended.bodies) == [SMALL, None, SMALL[1:], None]


def test_one_partial_for_the_same_request(tmp_path: Path) -> None:
    """Two records of one key never write one file at a time; both finish."""
    with OriginServer(BODY) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(asking(server.url), asking(server.url))
    assert list(ended.bodies) == [BODY, BODY]


@pytest.mark.parametrize("promised", [1, len(BODY) - 1])
def test_more_than_download_total_ends_it(promised: int, tmp_path: Path) -> None:
    """A body larger than promised is stopped as soon as that is known."""
    with OriginServer(BODY) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(asking(server.url), download_total=promised)
        assert ended.row.failure_reason is FailureReason.DOWNLOAD_TOTAL_EXCEEDED
        assert ended.body is None
        assert server.bytes_sent < len(BODY)


def test_exactly_download_total_is_fine(tmp_path: Path) -> None:
    """The promise may be used up to its last byte."""
    with OriginServer(BODY) as server, Lab(tmp_path) as lab:
        assert lab.fetch(asking(server.url), download_total=len(BODY)).body == BODY


@pytest.mark.parametrize("size", [0, 1, 1 << 20, 8 << 20])
def test_sizes_at_the_edges(size: int, tmp_path: Path) -> None:
    """An empty body, one byte, exactly a piece, exactly the first segment."""
    with OriginServer(BODY[:size]) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(asking(server.url, sha256=server.sha256))
    assert ended.row.failure_detail == ""
    assert ended.body == BODY[:size]


@pytest.mark.parametrize("seed", range(4))
def test_bits_that_go_on_flipping(seed: int, tmp_path: Path) -> None:
    """With a digest a line that flips bits without end (three a body) still brings the right file."""
    with OriginServer(BODY) as server, Lab(tmp_path) as lab:
        rate = 3 / len(BODY)
        server.answer_with(SCENARIOS["bitflip"].make(server, rate=rate, seed=seed, limit=None))
        ended = lab.fetch(asking(server.url, sha256=server.sha256))
        assert server.bytes_sent < 5 * len(BODY)
    assert ended.body == BODY


def test_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    """A body that never has the promised digest gets no final name, and is not asked for again and again."""
    with OriginServer(BODY) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(asking(server.url, sha256="0" * 64))
        assert server.bytes_sent <= 2 * len(BODY)
        assert not list((tmp_path / "blobs").rglob("*"))
    assert ended.row.failure_detail.startswith("integrity: ")


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("fault", ["drop", 503, 401, 302])
def test_a_request_with_side_effects_is_sent_once(method: str, fault: str | int, tmp_path: Path) -> None:
    """Whatever happens to it, a request that is not GET goes to its URL once."""

    def answer(exchange: Exchange) -> None:
        if fault == "drop":
            exchange.drop()
        elif exchange.request.query:
            exchange.send(text_reply(403, "no\n"))
        else:
            reply = text_reply(int(fault), "no\n")
            exchange.send(reply.but(location="/model.bin?hop") if fault == 302 else reply)

    with OriginServer(SMALL, answer) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(Request(server.url, method, body=b"data"))
        assert ended.row.result is Result.FAILURE
        assert [request.query for request in server.requests].count("") == 1
        assert len(server.requests) <= 2
    assert server.requests[0].body == b"data"


def test_uploaded_is_counted(tmp_path: Path) -> None:
    """A body that was sent is counted, and the reply to it is the record's body."""

    def answer(exchange: Exchange) -> None:
        exchange.send(text_reply(200, "thanks"))

    with OriginServer(SMALL, answer) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(Request(server.url, "POST", body=bytes(300_000)))
    assert ended.body == b"thanks"
    assert ended.records[0].uploaded == 300_000


class Rates:
    """Keeps what limits are set, and says when one is."""

    def __init__(self) -> None:
        self.set: list[tuple[int, float | None]] = []
        self.changed = threading.Event()

    def set_limit(self, rate: float | None) -> None:
        """For all: not the engine's to set."""
        raise AssertionError(rate)

    def set_lane_limit(self, lane: int, rate: float | None) -> None:
        """Keep it."""
        if (lane, rate) not in self.set[-1:]:
            self.set.append((lane, rate))
        if len(self.set) == 2:
            self.changed.set()


def test_a_registrations_rate_is_set_and_changed_live(tmp_path: Path) -> None:
    """Its limit holds from the beginning, follows what the store says, and goes with it."""
    halt, rates = Halt(1 << 20), Rates()
    with OriginServer(BODY, halt) as server, Lab(tmp_path, limits=rates) as lab:
        uid = lab.begin(asking(server.url), options=RegistrationOptions(limit_rate=1000))
        assert halt.reached.wait(SOON)
        lab.store.amend(uid, options=RegistrationOptions(limit_rate=5000))
        assert rates.changed.wait(SOON)
        halt.go_on()
        lab.wait()
    assert rates.set == [(uid, 1000.0), (uid, 5000.0), (uid, None)]


# When what the engine stands on fails.


class Refusing:
    """A store whose `commit` and `records` fail so many times."""

    def __init__(self, lab: Lab, name: str, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = getattr(lab.store, name)
        self.left = times
        monkeypatch.setattr(lab.store, name, self._call)

    def _call(self, argument: object) -> object:
        if self.left:
            self.left -= 1
            raise CacheError("the database is locked")
        return self._real(argument)


@pytest.mark.parametrize("name", ["records", "commit", "data_version"])
def test_a_store_that_refuses_is_asked_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked database delays; it neither hangs a download nor settles it untold."""
    with OriginServer(SMALL) as server, Lab(tmp_path) as lab:
        if name == "data_version":
            monkeypatch.setattr(lab.store, name, lambda: (_ for _ in ()).throw(CacheError("locked")))
            assert lab.fetch(asking(server.url)).body == SMALL
            return
        request = asking(server.url)
        row = lab.store.add("default", "x", [(request, "0" * 64)], now=lab.clock.now())
        epoch = lab.store.claim(row.uid, "lab")
        refusing = Refusing(lab, name, 1, monkeypatch)
        lab.driver.start(row, epoch, [request])
        ended = lab.wait()
        assert refusing.left == 0
    assert ended.body == SMALL
    assert len(ended.outbox) == 1


def test_our_own_bug_fails_one_record_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the decisions about a record ends that record in a named error; another one goes on."""
    with OriginServer({"/bad": SMALL, "/good": SMALL}) as server, Lab(tmp_path) as lab:
        good = server.url_of("/good")
        decide = lab.driver._pilot._decide

        def decided(task: object, event: object) -> None:
            if getattr(task, "request").url != good:  # noqa: B009 - of any task
                raise ValueError("s3cr3t")
            decide(task, event)  # type: ignore[arg-type]

        monkeypatch.setattr(lab.driver._pilot, "_decide", decided)
        ended = lab.fetch(asking(server.url_of("/bad")), asking(good))
    assert list(ended.bodies) == [None, SMALL]
    assert ended.row.failure_detail.startswith("bug: ")
    assert "s3cr3t" not in ended.row.failure_detail


def test_another_owner_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once somebody else has claimed a registration this driver lets go of it, and says nothing of its end."""
    halt, gone = Halt(3 << 20), threading.Event()
    with OriginServer({"/a": BODY, "/b": SMALL}, halt) as server, Lab(tmp_path) as lab:
        let_go = lab.driver._opener.let_go

        def lets_go(task: RecordTask, *, keep: bool = False) -> None:
            let_go(task, keep=keep)
            gone.set()

        monkeypatch.setattr(lab.driver._opener, "let_go", lets_go)
        uid = lab.begin(asking(server.url_of("/a")))
        assert halt.reached.wait(SOON)
        epoch = lab.store.claim(uid, "other")
        halt.go_on()
        assert gone.wait(SOON)
        other = lab.begin(asking(server.url_of("/b")), id="y")
        assert lab.wait().row.uid == other
        row = lab.store.get(uid)
        assert row is not None
        assert (row.epoch, row.result) == (epoch, Result.NONE)
        assert list((tmp_path / "partials").iterdir())


def test_it_runs_on_any_transport(tmp_path: Path) -> None:
    """The engine knows nothing but the port."""

    def answer(exchange: Sent) -> Canned:
        head = ReplyHead(exchange.url, 200, Headers([("Content-Length", str(len(SMALL)))]))
        return Canned(head, [SMALL[:1000], SMALL[1000:]])

    with Lab(tmp_path, transport=MemoryTransport(answer)) as lab:
        assert lab.fetch(asking("http://memory.example/x")).body == SMALL


def test_a_transport_that_never_manages_ends_in_an_error(tmp_path: Path) -> None:
    """Every attempt broken: the record ends with what broke it."""

    def answer(exchange: Sent) -> Canned:
        return Canned(ReplyHead(exchange.url, 200, Headers()), (), Fault("reset", "it broke", transient=True))

    with Lab(tmp_path, transport=MemoryTransport(answer)) as lab:
        ended = lab.fetch(asking("http://memory.example/x"))
    assert ended.row.failure_detail == "reset: it broke"


def test_progress_is_told_and_ends(tmp_path: Path) -> None:
    """Listeners hear of growing bytes, and last of the end with nothing open."""
    told: list[Progress] = []
    with FaultServer(BODY, "slow", seconds=0.5) as server, Lab(tmp_path) as lab:
        uid = lab.begin(asking(server.url))
        lab.driver.bulletin.listen(uid, told.append)
        over = shows(lab, uid, lambda progress: progress.state is State.SETTLED)
        lab.wait()
        assert over.wait(SOON)
    downloaded = [progress.downloaded for progress in told]
    assert downloaded == sorted(downloaded)
    last = told[-1]
    assert (last.state, last.result, last.downloaded, last.connections, last.rate) == (
        State.SETTLED,
        Result.SUCCESS,
        len(BODY),
        0,
        0.0,
    )
