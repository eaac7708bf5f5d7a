"""What every store of registrations promises, run on the one in memory first and then on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bgfetch.core.model import (
    FailureReason,
    Headers,
    Icon,
    ReplyHead,
    Request,
    Result,
    State,
    Verified,
)
from bgfetch.core.spans import Spans
from bgfetch.database import Database
from bgfetch.errors import DuplicateId, InvalidRequest, InvalidState
from bgfetch.registrations.memory import MemoryRegistrations
from bgfetch.registrations.port import (
    Change,
    EventType,
    RecordFinished,
    RecordProgress,
    RecordRow,
    RegistrationOptions,
    RegistrationRow,
    Registrations,
    Settlement,
    StateChanged,
    Wish,
)
from bgfetch.registrations.sqlite import SqliteRegistrations
from bgfetch.running import stored_progress

HEAD = ReplyHead("https://host/file", 206, Headers([("etag", '"v1"'), ("content-length", "100")]))
SPANS = Spans.of([(0, 1 << 20), (3 << 40, (3 << 40) + 5)])


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registrations]:
    """Each implementation in turn."""
    if request.param == "memory":
        yield MemoryRegistrations()
        return
    database = Database.open(tmp_path / "state" / "bgfetch.sqlite3", now=0.0)
    yield SqliteRegistrations(database)
    database.close()


def requests(count: int = 1) -> list[tuple[Request, str]]:
    """So many requests with the keys of their partials."""
    return [(Request(f"https://host/{index}"), f"key-{index}") for index in range(count)]


def added(store: Registrations, id_: str = "id", *, scope: str = "app", count: int = 1) -> RegistrationRow:
    """A registration, not claimed."""
    return store.add(scope, id_, requests(count), now=1.0)


def claimed(store: Registrations, id_: str = "id", *, count: int = 1) -> tuple[int, int]:
    """A registration claimed by "me": its number and epoch."""
    row = added(store, id_, count=count)
    return row.uid, store.claim(row.uid, "me")


def progress(uid: int, epoch: int, index: int = 0, *, downloaded: int = 10) -> RecordProgress:
    """Some bytes of a record."""
    return RecordProgress(
        uid,
        epoch,
        index,
        SPANS,
        downloaded,
        total=100,
        etag='"v1"',
        last_modified="Mon",
        reply=HEAD,
        restarts=2,
    )


def finished(uid: int, epoch: int, index: int = 0) -> RecordFinished:
    """A record that succeeded."""
    return RecordFinished(
        uid,
        epoch,
        index,
        Result.SUCCESS,
        downloaded=100,
        total=100,
        digest="sha256:" + "a" * 64,
        verified=Verified.DIGEST,
        blob="a" * 64,
        reply=HEAD,
    )


def test_added_comes_back(store: Registrations) -> None:
    """All that was given is there again, under the id, the number and the listing alike."""
    options = RegistrationOptions(priority=3, limit_rate=5, connections=2, metadata={"by": "häns"})
    icons = (Icon("i.png", sizes="1x1", type="image/png", label="I"), Icon("j.png"))
    row = store.add(
        "app",
        "ï🙂",
        requests(2),
        title="Gemma <2B>",
        icons=icons,
        download_total=7,
        options=options,
        now=12.5,
    )
    assert (row.scope, row.id, row.title, row.icons) == ("app", "ï🙂", "Gemma <2B>", icons)
    assert (row.download_total, row.created_at, row.options) == (7, 12.5, options)
    assert (row.state, row.wish, row.epoch, row.owner) == (State.QUEUED, Wish.RUN, 0, "")
    assert (row.result, row.failure_reason, row.settled_at, row.until) == ("", "", None, None)
    assert row.records_available
    assert store.active("app", "ï🙂") == store.latest("app", "ï🙂") == store.get(row.uid) == row
    assert store.listing() == [row]


def test_requests_come_back(store: Registrations) -> None:
    """A record holds its request as given, in the order given, body and all."""
    put = Request(
        "https://host/up?x=1", "PUT", Headers([("a", "1"), ("a", "2")]), b"\x00body", "sha256:00", 1 << 40
    )
    row = store.add("app", "id", [(put, "k0"), (Request("https://host/b"), "k1")], now=1.0)
    assert row.upload_total == 5
    assert store.records(row.uid) == [RecordRow(0, put, "k0"), RecordRow(1, Request("https://host/b"), "k1")]


def test_unknown_is_nothing(store: Registrations) -> None:
    """What was never added is not found, and changing it is harmless."""
    assert store.active("app", "id") is None
    assert store.latest("app", "id") is None
    assert store.get(7) is None
    assert store.records(7) == []
    assert not store.set_wish(7, Wish.PAUSE)
    store.amend(7, title="x")
    store.release_records(7)
    store.purge(7)
    store.log(7, 1.0, "x")
    store.acknowledge(7, 1.0)
    assert not store.postpone(7, 1.0)
    assert store.events() == []


def test_active_id_is_taken(store: Registrations) -> None:
    """A second registration of a live id is refused, names the live one and leaves it alone."""
    row = added(store)
    with pytest.raises(DuplicateId, match=f"'id'.*'app'.*registration {row.uid}"):
        store.add("app", "id", requests(3), now=2.0)
    assert store.listing() == [row]
    assert added(store, scope="other").uid != row.uid


def test_id_is_free_once_settled(store: Registrations) -> None:
    """The id is free as soon as the fetch settles, before its event is delivered; `latest` is the newer one."""
    uid, epoch = claimed(store)
    store.settle(uid, epoch, Result.SUCCESS, now=2.0)
    assert store.active("app", "id") is None
    assert store.latest("app", "id") == store.get(uid)
    again = added(store)
    assert store.latest("app", "id") == store.active("app", "id") == again
    assert again.uid > uid


def test_listings(store: Registrations) -> None:
    """Ids come in order of creation, listings newest first, by scope, by activity, and cut short."""
    rows = [added(store, id_) for id_ in ("b", "a", "c")]
    other = added(store, "b", scope="other")
    store.settle(rows[1].uid, store.claim(rows[1].uid, "me"), Result.SUCCESS, now=3.0)
    assert store.ids("app") == ["b", "c"]
    assert [row.uid for row in store.listing()] == [other.uid, *(row.uid for row in reversed(rows))]
    assert [row.id for row in store.listing("app")] == ["c", "a", "b"]
    assert [row.id for row in store.listing("app", active=True)] == ["c", "b"]
    assert [row.id for row in store.listing(active=True)] == ["b", "c", "b"]
    assert [row.id for row in store.listing(active=False)] == ["a"]
    assert [row.uid for row in store.listing(limit=1)] == [other.uid]
    assert store.listing(active=True, limit=0) == []


def test_summaries(store: Registrations) -> None:
    """What a list shows says the same as the rows, and how much is to come once every reply has told."""
    uid, epoch = claimed(store, "one", count=2)
    store.save_progress([progress(uid, epoch, downloaded=10)])
    assert [(it.id, it.downloaded, it.download_total) for it in store.summaries()] == [("one", 10, 0)]
    store.save_progress([progress(uid, epoch, 1, downloaded=5)])
    store.save_state(uid, epoch, State.WAITING_RETRY, 9.0)
    other, second = claimed(store, "two")
    store.settle(other, second, Result.FAILURE, FailureReason.FETCH_ERROR, "x", now=7.0)
    (two, one) = store.summaries("app")
    assert one == (uid, "app", "one", "", 15, 200, "waiting-retry", 9.0, "run", "", "", 1.0, None)
    assert two == (
        other, "app", "two", "", 0, 0, "settled", None, "run", "failure", "fetch-error", 1.0, 7.0,
    )  # fmt: skip
    assert [it.uid for it in store.summaries(active=True)] == [uid]
    assert [it.uid for it in store.summaries(limit=1)] == [other]
    assert store.summaries("none") == []
    third, last = claimed(store, "three")
    store.finish_records([finished(third, last)])
    store.settle(third, last, Result.SUCCESS, now=7.0)
    (three,) = store.summaries(limit=1)
    assert three.download_total == three.downloaded == store.listing(limit=1)[0].downloaded > 0
    assert stored_progress(store.listing(limit=1)[0]).download_total == three.downloaded
    store.settle(uid, epoch, Result.FAILURE, FailureReason.ABORTED, now=7.0)
    assert [it.download_total for it in store.summaries()] == [three.downloaded, 0, 200]


def test_progress_comes_back(store: Registrations) -> None:
    """What was saved of a record is read again, and the registration's bytes are the sum over its records."""
    uid, epoch = claimed(store, count=2)
    assert store.save_progress([progress(uid, epoch), progress(uid, epoch, 1, downloaded=5)]) == frozenset()
    record = store.records(uid)[0]
    assert (record.spans, record.downloaded, record.total, record.restarts) == (SPANS, 10, 100, 2)
    assert (record.etag, record.last_modified, record.reply) == ('"v1"', "Mon", HEAD)
    row = store.get(uid)
    assert row is not None
    assert row.downloaded == 15


def test_progress_may_fall(store: Registrations) -> None:
    """A record that starts again takes its bytes, validators and reply back out."""
    uid, epoch = claimed(store)
    store.save_progress([progress(uid, epoch), RecordProgress(uid, epoch, 0, Spans(), 0, restarts=3)])
    (record,) = store.records(uid)
    assert record == RecordRow(0, requests()[0][0], "key-0", restarts=3)
    row = store.get(uid)
    assert row is not None
    assert row.downloaded == 0


def test_claim_fences_former_owners(store: Registrations) -> None:
    """After a claim nothing of a former owner changes anything, not even as part of a larger commit."""
    uid, former = claimed(store)
    epoch = store.claim(uid, "other")
    assert epoch > former
    before = (store.get(uid), store.records(uid))
    assert store.save_progress([progress(uid, former)]) == {uid}
    assert store.finish_records([finished(uid, former)]) == {uid}
    assert not store.save_state(uid, former, State.RUNNING)
    with pytest.raises(InvalidState, match="taken over"):
        store.settle(uid, former, Result.SUCCESS, now=2.0)
    assert (store.get(uid), store.records(uid)) == before
    assert store.pending(now=9.0) == []
    second, own = claimed(store, "second")
    assert store.save_progress([progress(uid, former), progress(second, own)]) == {uid}
    assert store.records(second)[0].downloaded == 10


def test_claim_only_from_an_epoch(store: Registrations) -> None:
    """Of two that find the same owner dead one claims, and the owner's name is the last claimer's."""
    uid = added(store).uid
    assert store.claim(uid, "a", epoch=0) == 1
    with pytest.raises(InvalidState):
        store.claim(uid, "b", epoch=0)
    row = store.get(uid)
    assert row is not None
    assert (row.owner, row.epoch) == ("a", 1)


def test_claim_needs_something_alive(store: Registrations) -> None:
    """What settled or never was cannot be claimed."""
    uid, epoch = claimed(store)
    store.settle(uid, epoch, Result.SUCCESS, now=2.0)
    for gone in (uid, 77):
        with pytest.raises(InvalidState):
            store.claim(gone, "me")


def test_state_is_kept(store: Registrations) -> None:
    """A state and its end come back, and an end can be taken away."""
    uid, epoch = claimed(store)
    assert store.save_state(uid, epoch, State.WAITING_RETRY, 99.5)
    row = store.get(uid)
    assert row is not None
    assert (row.state, row.until) == (State.WAITING_RETRY, 99.5)
    store.save_state(uid, epoch, State.RUNNING)
    row = store.get(uid)
    assert row is not None
    assert (row.state, row.until) == (State.RUNNING, None)


def test_first_finish_counts(store: Registrations) -> None:
    """A finished record stays as it is, whatever still arrives; its spans and uploaded bytes stay too."""
    uid, epoch = claimed(store)
    store.save_progress([RecordProgress(uid, epoch, 0, SPANS, 10, 4, etag='"v1"')])
    assert store.finish_records([finished(uid, epoch)]) == frozenset()
    (record,) = store.records(uid)
    assert (record.result, record.verified, record.blob) == (Result.SUCCESS, Verified.DIGEST, "a" * 64)
    assert (record.downloaded, record.uploaded, record.spans, record.etag) == (100, 4, SPANS, '"v1"')
    late = RecordFinished(uid, epoch, 0, Result.FAILURE, FailureReason.FETCH_ERROR)
    assert store.commit([late, progress(uid, epoch)]).stale == frozenset()
    assert store.records(uid) == [record]
    row = store.get(uid)
    assert row is not None
    assert (row.downloaded, row.uploaded) == (100, 4)


def test_unknown_record_is_ignored(store: Registrations) -> None:
    """Progress of a record that the registration does not have changes nothing."""
    uid, epoch = claimed(store)
    before = store.get(uid)
    store.commit([progress(uid, epoch, 5), finished(uid, epoch, 5)])
    assert store.get(uid) == before
    assert len(store.records(uid)) == 1


@pytest.mark.parametrize(
    ("result", "reason", "type_"),
    [
        (Result.SUCCESS, FailureReason.NONE, EventType.SUCCESS),
        (Result.FAILURE, FailureReason.BAD_STATUS, EventType.FAIL),
        (Result.FAILURE, FailureReason.ABORTED, EventType.ABORT),
    ],
)
def test_settling_announces(
    store: Registrations, result: Result, reason: FailureReason, type_: EventType
) -> None:
    """A settlement, its event and its log line are there together."""
    uid, epoch = claimed(store)
    store.save_state(uid, epoch, State.VERIFYING, 4.0)
    event_id = store.settle(uid, epoch, result, reason, "why", now=5.0)
    row = store.get(uid)
    assert row is not None
    assert (row.result, row.failure_reason, row.failure_detail, row.settled_at) == (
        result,
        reason,
        "why",
        5.0,
    )
    assert (row.state, row.until, row.records_available) == (State.SETTLED, None, True)
    (event,) = store.pending(now=5.0)
    assert (event.event_id, event.uid, event.scope, event.id) == (event_id, uid, "app", "id")
    assert (event.type, event.created_at, event.attempts) == (type_, 5.0, 0)
    assert [(line.name, line.at) for line in store.events(uid)][-1] == (type_, 5.0)


def test_settling_happens_once(store: Registrations) -> None:
    """A second settlement gives the first one's event, even after that was acknowledged, and changes nothing."""
    uid, epoch = claimed(store)
    event_id = store.settle(uid, epoch, Result.SUCCESS, now=5.0)
    store.click(uid, now=6.0)
    settled = store.get(uid)
    assert store.settle(uid, epoch, Result.FAILURE, FailureReason.FETCH_ERROR, now=9.0) == event_id
    store.acknowledge(event_id, 10.0)
    assert store.settle(uid, epoch + 5, Result.FAILURE, FailureReason.FETCH_ERROR, now=9.0) == event_id
    assert store.get(uid) == settled
    assert [line.name for line in store.events(uid)].count(EventType.SUCCESS) == 1


def test_nothing_moves_after_settling(store: Registrations) -> None:
    """Bytes, ends, states and wishes that come late leave a settled registration alone."""
    uid, epoch = claimed(store)
    store.settle(uid, epoch, Result.SUCCESS, now=5.0)
    before = (store.get(uid), store.records(uid))
    late: list[Change] = [progress(uid, epoch), finished(uid, epoch), StateChanged(uid, epoch, State.RUNNING)]
    assert store.commit(late).stale == {uid}
    assert not store.set_wish(uid, Wish.ABORT)
    assert (store.get(uid), store.records(uid)) == before


def test_many_end_in_one_commit(store: Registrations) -> None:
    """Records and registrations end together, in the order of the changes; repeating it gives the same events."""
    first, own = claimed(store, "first", count=3)
    second, other = claimed(store, "second")
    changes: list[Change] = [
        *(finished(first, own, index) for index in range(3)),
        Settlement(first, own, Result.SUCCESS, FailureReason.NONE, "", 8.0),
        StateChanged(first, own, State.RUNNING),
        finished(second, other),
        Settlement(second, other + 1, Result.SUCCESS, FailureReason.NONE, "", 8.0),
        Settlement(99, 1, Result.SUCCESS, FailureReason.NONE, "", 8.0),
    ]
    done = store.commit(changes)
    assert set(done.events) == {first}
    assert done.stale == {first, second, 99}
    row = store.get(first)
    assert row is not None
    assert (row.state, row.downloaded) == (State.SETTLED, 300)
    assert [record.result for record in store.records(second)] == [Result.SUCCESS]
    assert store.commit(changes[:4]).events == done.events
    assert len(store.pending(now=9.0)) == 1
    assert store.commit([]).events == {}


def test_abort_is_a_promise(store: Registrations) -> None:
    """Once an abort was accepted it cannot be taken back, and success comes too late (spec: abort race)."""
    uid, epoch = claimed(store)
    assert store.set_wish(uid, Wish.PAUSE)
    assert store.set_wish(uid, Wish.ABORT)
    assert store.set_wish(uid, Wish.ABORT)
    assert not store.set_wish(uid, Wish.RUN)
    row = store.get(uid)
    assert row is not None
    assert row.wish is Wish.ABORT
    store.settle(uid, epoch, Result.SUCCESS, now=5.0)
    row = store.get(uid)
    assert row is not None
    assert (row.result, row.failure_reason) == (Result.FAILURE, FailureReason.ABORTED)
    assert [event.type for event in store.pending(now=5.0)] == [EventType.ABORT]


def test_outbox_until_acknowledged(store: Registrations) -> None:
    """An event stays until it is acknowledged, oldest first, by scope; a delivery is counted and waits its time."""
    first, own = claimed(store, "first")
    other = store.add("other", "x", requests(), now=1.0)
    one = store.settle(first, own, Result.SUCCESS, now=2.0)
    two = store.settle(other.uid, store.claim(other.uid, "me"), Result.SUCCESS, now=3.0)
    click = store.click(first, now=4.0)
    assert [event.event_id for event in store.pending(now=4.0)] == [one, two, click]
    assert [event.event_id for event in store.pending("app", now=4.0)] == [one, click]
    assert store.postpone(one, 10.0, attempts=0)
    assert not store.postpone(one, 10.0, attempts=0)
    assert store.postpone(one, 20.0)
    assert [event.event_id for event in store.pending("app", now=19.0)] == [click]
    assert [event.attempts for event in store.pending("app", now=20.0)] == [2, 0]
    store.acknowledge(click, 21.0)
    store.acknowledge(click, 22.0)
    assert not store.postpone(click, 30.0)
    assert [event.event_id for event in store.pending(now=21.0)] == [one, two]


def test_click_in_any_state(store: Registrations) -> None:
    """A registration can be clicked before and after it settled, not once it is purged."""
    uid, epoch = claimed(store)
    store.click(uid, now=2.0)
    store.settle(uid, epoch, Result.SUCCESS, now=3.0)
    store.release_records(uid)
    store.click(uid, now=4.0)
    types = [event.type for event in store.pending(now=5.0)]
    assert types == [EventType.CLICK, EventType.SUCCESS, EventType.CLICK]
    store.purge(uid)
    assert store.pending(now=5.0) == []
    with pytest.raises(InvalidState):
        store.click(uid, now=6.0)


def test_log_reads_on(store: Registrations) -> None:
    """Lines come oldest first; whoever remembers the last one misses none and sees none twice."""
    first, second = added(store, "first"), added(store, "second")
    store.log(first.uid, 2.0, "paused", "by a person")
    lines = store.events()
    assert [(line.id, line.name) for line in lines] == [
        ("first", "registered"),
        ("second", "registered"),
        ("first", "paused"),
    ]
    assert lines[-1].detail == "by a person"
    assert store.events(after=lines[0].seq) == lines[1:]
    assert store.events(second.uid) == lines[1:2]
    assert store.events(first.uid, after=lines[0].seq, limit=5) == lines[2:]
    assert store.events(limit=2) == lines[:2]


def test_purge_forgets_all(store: Registrations) -> None:
    """A purged registration leaves nothing behind and its number never comes again."""
    uid, epoch = claimed(store)
    store.settle(uid, epoch, Result.SUCCESS, now=2.0)
    store.purge(uid)
    assert (store.get(uid), store.latest("app", "id"), store.records(uid)) == (None, None, [])
    assert (store.events(), store.pending(now=9.0), store.keys()) == ([], [], set())
    assert store.save_progress([progress(uid, epoch)]) == {uid}
    assert added(store).uid > uid


def test_referred_to_is_kept(store: Registrations) -> None:
    """Partials and blobs are named as long as their records are available, settled or not."""
    uid, epoch = claimed(store, count=2)
    store.finish_records([finished(uid, epoch)])
    assert (store.keys(), store.blobs()) == ({"key-0", "key-1"}, {"a" * 64})
    store.settle(uid, epoch, Result.FAILURE, FailureReason.FETCH_ERROR, now=2.0)
    assert (store.keys(), store.blobs()) == ({"key-0", "key-1"}, {"a" * 64})
    store.release_records(uid)
    assert (store.keys(), store.blobs()) == (set(), set())
    row = store.get(uid)
    assert row is not None
    assert not row.records_available


def test_amending(store: Registrations) -> None:
    """`updateUI` and options change what they name and leave the rest."""
    uid = added(store).uid
    store.amend(uid, title="Done")
    store.amend(uid, icons=[Icon("x")])
    store.amend(uid, options=RegistrationOptions(limit_rate=9))
    store.amend(uid)
    row = store.get(uid)
    assert row is not None
    assert (row.title, row.icons, row.options) == ("Done", (Icon("x"),), RegistrationOptions(limit_rate=9))
    store.amend(uid, title="", icons=())
    row = store.get(uid)
    assert row is not None
    assert (row.title, row.icons, row.options.limit_rate) == ("", (), 9)


def test_secrets_are_not_kept(store: Registrations) -> None:
    """A secret header keeps its name and loses its value; a reply loses what authenticates and signs."""
    request = Request(
        "https://host/f",
        headers=Headers([("Authorization", "Bearer s3cret"), ("X-Token", "s3cret"), ("accept", "a/b")]),
    )
    row = store.add("app", "id", [(request, "k")], now=1.0)
    (record,) = store.records(row.uid)
    assert record.request.headers.pairs == (("authorization", ""), ("x-token", ""), ("accept", "a/b"))
    head = ReplyHead(
        "https://cdn/f?X-Amz-Signature=s3cret",
        200,
        Headers(
            [("Set-Cookie", "s3cret"), ("Location", "s3cret"), ("etag", "x"), ("X-Auth-Token", "s3cret")]
        ),
    )
    epoch = store.claim(row.uid, "me")
    store.save_progress([RecordProgress(row.uid, epoch, 0, Spans(), 0, reply=head)])
    (record,) = store.records(row.uid)
    assert record.reply == ReplyHead("https://cdn/f", 200, Headers([("etag", "x")]))
    store.finish_records([RecordFinished(row.uid, epoch, 0, Result.SUCCESS, reply=head)])
    assert "s3cret" not in repr(store.records(row.uid))


def test_changes_are_seen(store: Registrations) -> None:
    """The version a reader remembers stays the same while nobody writes."""
    added(store)
    assert store.data_version() == store.data_version()


def test_what_cannot_be_stored(tmp_path: Path) -> None:
    """A text or a number that SQLite cannot hold is the caller's mistake, and nothing is kept of it."""
    database = Database.open(tmp_path / "db", now=0.0)
    store = SqliteRegistrations(database)
    with pytest.raises(InvalidRequest):
        store.add("app", "\ud800", requests(), now=1.0)
    with pytest.raises(InvalidRequest):
        store.add("app", "id", requests(), download_total=1 << 63, now=1.0)
    assert store.listing() == []
    database.close()


def test_unfinished_by_priority_and_age(store: Registrations) -> None:
    """What is to be worked on comes by priority, then age; what rests or is over does not come at all."""
    urgent = RegistrationOptions(priority=5)
    rows = {
        name: store.add("app", name, requests(), options=options, now=1.0)
        for name, options in [
            ("old", None),
            ("rests", None),
            ("over", None),
            ("urgent", urgent),
            ("new", None),
        ]
    }
    store.set_wish(rows["rests"].uid, Wish.PAUSE)
    store.settle(rows["over"].uid, store.claim(rows["over"].uid, "me"), Result.SUCCESS, now=2.0)
    assert store.unfinished(limit=9) == [rows[name].uid for name in ("urgent", "old", "new")]
    assert store.unfinished(limit=2) == [rows[name].uid for name in ("urgent", "old")]
    assert set(store.unfinished(limit=9, paused=True)) == {
        it.uid for name, it in rows.items() if name != "over"
    }
    assert store.count_unfinished() == 4


def test_last_line(store: Registrations) -> None:
    """The newest line's number is known without reading the log."""
    assert store.last_line() == 0
    row = added(store)
    store.log(row.uid, 2.0, "noted")
    assert store.last_line() == store.events()[-1].seq
