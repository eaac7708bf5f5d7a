"""Workers of scopes: what they are told, what becomes of it, and how one version follows another."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.waiting import Pipe, has_ended

from bgfetch.config import load
from bgfetch.core.delivery import MOST_DELIVERIES, PARKED
from bgfetch.core.model import FailureReason, Request, Result
from bgfetch.errors import InvalidRequest, InvalidState
from bgfetch.registrations.port import OutboxEvent, RegistrationRow
from bgfetch.wiring import Wiring
from bgfetch.worker.workers import Handler, Kind, WorkerRow, WorkerState

URL = "https://host/model.bin"
KEY = "ab" * 32


@pytest.fixture
def wiring(tmp_path: Path) -> Iterator[Wiring]:
    """A home in which nothing is fetched."""
    made = Wiring(load({"home": str(tmp_path / "home"), "in_process": True}, {}))
    yield made
    made.close()


def settled(wiring: Wiring, id_: str = "model", *, scope: str = "app", failed: bool = False) -> OutboxEvent:
    """A registration that has settled, as the engine leaves it, and the event it owes."""
    store = wiring.registrations
    now = wiring.clock.now()
    uid = store.add(scope, id_, [(Request(URL), KEY)], title="Model", now=now).uid
    result, reason = (
        (Result.FAILURE, FailureReason.BAD_STATUS) if failed else (Result.SUCCESS, FailureReason.NONE)
    )
    event_id = store.settle(uid, store.claim(uid, "test"), result, reason, now=now)
    (event,) = (each for each in store.pending(scope, now=now) if each.event_id == event_id)
    return event


def module(tmp_path: Path, text: str, name: str = "app_worker") -> Handler:
    """A worker in a module of its own."""
    folder = tmp_path / "modules"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text("from bgfetch.worker import on\n" + textwrap.dedent(text), "utf-8")
    path = (str(folder), *(each for each in sys.path if each))
    return Handler(Kind.ENTRY_POINT, (name,), sys.executable, path, str(tmp_path), 20.0)


def command(tmp_path: Path, script: str, *, time_limit: float = 20.0) -> Handler:
    """A worker that is a shell script, which finds the event on its stdin."""
    return Handler(Kind.ARGV, ("sh", "-c", script), "", (), str(tmp_path), time_limit)


def delivered(wiring: Wiring, event: OutboxEvent) -> RegistrationRow:
    """The registration after the event has been tried once."""
    wiring.worker.deliver(event, wiring.clock.now())
    assert wiring.worker.wait_idle(15.0), wiring.places.log(event.scope)
    row = wiring.registrations.get(event.uid)
    assert row is not None
    return row


def said(wiring: Wiring, scope: str = "app") -> str:
    """The log of the scope's worker."""
    path = wiring.places.log(scope)
    return path.read_text("utf-8") if path.exists() else ""


def lines(wiring: Wiring, uid: int) -> list[str]:
    """The names of what was logged of a registration."""
    return [line.name for line in wiring.registrations.events(uid)]


def test_a_handler_gets_the_registration_and_its_event_is_over_when_it_returns(
    wiring: Wiring, tmp_path: Path
) -> None:
    """The event carries the registration, caches and its number; acknowledged, its records are gone."""
    worker = module(
        tmp_path,
        f"""
        @on("backgroundfetchsuccess")
        async def downloaded(event):
            records = await event.registration.match_all()
            await event.caches.open("mine")
            print(event.type, event.registration.id, event.scope, event.attempt, event.event_id)
            print([record.request.url for record in records] == ["{URL}"])
            await event.update_ui(title="Model downloaded")
        """,
    )
    assert wiring.scopes.register("app", worker).state is WorkerState.ACTIVE
    event = settled(wiring)
    row = delivered(wiring, event)
    assert f"backgroundfetchsuccess model app 1 {event.event_id}\nTrue\n" in said(wiring)
    assert (row.title, row.records_available) == ("Model downloaded", False)
    assert lines(wiring, row.uid)[-3:] == ["delivering", "updated-ui", "acknowledged"]
    assert wiring.registrations.pending(now=PARKED) == []


def test_a_command_gets_the_event_as_json_on_its_stdin_and_nowhere_else(
    wiring: Wiring, tmp_path: Path
) -> None:
    """One line of JSON on stdin; neither its arguments nor its environment tell of the event."""
    script = 'cat > event.json; env > env.txt; tr "\\0" " " < /proc/$$/cmdline > argv.txt'
    wiring.scopes.register("app", command(tmp_path, script))
    row = delivered(wiring, settled(wiring, "canary-6502"))
    told = json.loads((tmp_path / "event.json").read_text("utf-8"))
    assert (told["type"], told["registration"]["id"], told["attempt"]) == (
        "backgroundfetchsuccess",
        "canary-6502",
        1,
    )
    assert told["registration"]["records"][0]["url"] == URL
    assert "canary-6502" not in (tmp_path / "env.txt").read_text("utf-8")
    assert "canary-6502" not in (tmp_path / "argv.txt").read_text("utf-8")
    assert not row.records_available


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("exit 3", "exit code 3"),
        ("kill -TERM $$", "exit code 143"),
        ("sleep 60 & sleep 60", "it was not done after 0.5 s, and was ended"),
    ],
    ids=["exits", "killed", "too-long"],
)
def test_what_fails_is_delivered_again_later(
    wiring: Wiring, tmp_path: Path, script: str, detail: str
) -> None:
    """A bad exit, a signal, a handler that hangs: the event stays owed, and the log says why."""
    wiring.scopes.register("app", command(tmp_path, script, time_limit=0.5))
    row = delivered(wiring, settled(wiring))
    assert row.records_available
    (owed,) = wiring.registrations.pending(now=PARKED)
    assert owed.attempts == 1
    assert wiring.clock.now() - 1 < owed.not_before < wiring.clock.now() + 2
    (line,) = [each for each in wiring.registrations.events(row.uid) if each.name == "handler-failed"]
    assert line.detail == detail
    assert detail in said(wiring)


def test_a_handler_is_ended_with_all_it_has_started(wiring: Wiring, tmp_path: Path) -> None:
    """What a handler leaves behind is gone when its event is over, also after it ended well."""
    wiring.scopes.register("app", command(tmp_path, "sleep 300 & echo $! > left; exit 0"))
    delivered(wiring, settled(wiring))
    assert has_ended(int((tmp_path / "left").read_text()))


def test_a_handler_that_fails_for_good_is_parked_and_can_be_asked_for(wiring: Wiring, tmp_path: Path) -> None:
    """After its last delivery nothing is tried by itself; `redeliver` begins anew."""
    wiring.scopes.register("app", command(tmp_path, "test -e mended"))
    event = settled(wiring)
    with wiring.database.write() as connection:
        connection.execute("UPDATE outbox SET attempts = ?", (MOST_DELIVERIES - 1,))
    (event,) = wiring.registrations.pending(now=PARKED)
    delivered(wiring, event)
    (parked,) = wiring.outbox.parked()
    assert (parked.exit_code, parked.detail, parked.event.attempts) == (1, "exit code 1", MOST_DELIVERIES)
    assert wiring.outbox.due(now=1e12) == []
    assert lines(wiring, event.uid)[-1] == "parked"
    (tmp_path / "mended").touch()
    assert wiring.outbox.redeliver(event.event_id)
    assert not wiring.outbox.redeliver(event.event_id)
    (event,) = wiring.registrations.pending(now=1e12)
    assert not delivered(wiring, event).records_available
    assert wiring.outbox.parked() == []


def test_events_of_a_scope_come_one_at_a_time_in_order(wiring: Wiring, tmp_path: Path) -> None:
    """Each begins after the one before has ended; two scopes do not wait for each other."""
    script = (
        'read line; echo "$line" | sed "s/.*\\"event_id\\": \\([0-9]*\\).*/begin \\1/" >> order;'
        " sleep 0.05; echo end >> order"
    )
    wiring.scopes.register("app", command(tmp_path, script))
    events = [settled(wiring, f"model-{number}") for number in range(4)]
    for event in events:
        wiring.worker.deliver(event, wiring.clock.now())
    assert wiring.worker.wait_idle(15.0)
    expected = [word for event in events for word in (f"begin {event.event_id}", "end")]
    assert (tmp_path / "order").read_text().splitlines() == expected


def test_a_click_waits_for_the_settlement_of_its_own_registration_only(
    wiring: Wiring, tmp_path: Path
) -> None:
    """An event that waits to be delivered again holds up those of its registration, no others."""
    wiring.scopes.register("app", command(tmp_path, 'grep -q "\\"id\\": \\"good\\""'))
    bad = settled(wiring, "bad")
    delivered(wiring, bad)
    wiring.registrations.click(bad.uid, now=wiring.clock.now())
    good = settled(wiring, "good")
    assert not delivered(wiring, good).records_available
    assert [event.event_id for event in wiring.outbox.due(now=wiring.clock.now())] == []
    assert [event.event_id for event in wiring.outbox.due(now=wiring.clock.now() + 60)] == [bad.event_id]


def test_more_than_a_mebibyte_of_output_is_not_kept(wiring: Wiring, tmp_path: Path) -> None:
    """A handler that talks without end neither fills the disk nor waits for a reader."""
    wiring.scopes.register("app", command(tmp_path, "head -c 5000000 /dev/zero | tr '\\0' x"))
    assert not delivered(wiring, settled(wiring)).records_available
    text = said(wiring)
    assert "3951424 more bytes were not kept" in text
    assert len(text) < 1.1 * (1 << 20)
    delivered(wiring, settled(wiring, "again"))
    assert wiring.places.log("app").with_name("app.log.1").exists()


def test_stopping_kills_the_handler_and_does_not_count(wiring: Wiring, tmp_path: Path) -> None:
    """A clean end breaks a handler off at once; the event is as it was."""
    wiring.scopes.register("app", command(tmp_path, "echo > running; sleep 60"))
    event = settled(wiring)
    with Pipe(tmp_path / "running") as running:
        wiring.worker.deliver(event, wiring.clock.now())
        running.read()
    began = time.monotonic()
    wiring.worker.close()
    assert time.monotonic() - began < 2.0
    (owed,) = wiring.registrations.pending(now=wiring.clock.now())
    assert (owed.event_id, owed.attempts) == (event.event_id, 0)


def test_a_scope_without_a_worker_keeps_its_records(wiring: Wiring) -> None:
    """The built-in worker acknowledges and leaves the records readable, until retention ends."""
    row = delivered(wiring, settled(wiring))
    assert row.records_available
    assert wiring.registrations.pending(now=PARKED) == []
    assert lines(wiring, row.uid)[-1] == "acknowledged"


def test_what_is_not_handled_is_no_failure(wiring: Wiring, tmp_path: Path) -> None:
    """A worker that does not listen for an event has nothing to do, as in the standard."""
    wiring.scopes.register("app", module(tmp_path, '@on("backgroundfetchfail")\ndef failed(event): pass'))
    assert not delivered(wiring, settled(wiring)).records_available


def test_a_function_may_be_named_itself(wiring: Wiring, tmp_path: Path) -> None:
    """`module:function` gets every event of fetches."""
    worker = module(tmp_path, "def handle(event):\n    print('got', event.type)")
    named = Handler(worker.kind, ("app_worker:handle",), worker.python, worker.path, worker.directory)
    wiring.scopes.register("app", named)
    delivered(wiring, settled(wiring, failed=True))
    assert "got backgroundfetchfail\n" in said(wiring)
    assert "install" not in said(wiring).replace("install, version", "")


def test_a_handler_that_raises_has_its_traceback_in_the_log(wiring: Wiring, tmp_path: Path) -> None:
    """What was raised is for the log alone: it may hold anything."""
    wiring.scopes.register(
        "app",
        module(tmp_path, '@on("backgroundfetchsuccess")\ndef bad(event): raise ValueError("canary-77")'),
    )
    row = delivered(wiring, settled(wiring))
    assert "ValueError: canary-77" in said(wiring)
    assert "canary-77" not in str(wiring.registrations.events(row.uid))


# Versions.


def test_a_new_version_is_installed_and_takes_over(wiring: Wiring, tmp_path: Path) -> None:
    """install, then activate, then the events; the former version is redundant."""
    text = """
        @on("install")
        def install(event): print("installing {0}")
        @on("activate")
        def activate(event): print("activating {0}")
        @on("backgroundfetchsuccess")
        def success(event): print("handling {0}")
        """
    first = wiring.scopes.register("app", module(tmp_path, text.format("one")))
    again = wiring.scopes.register("app", module(tmp_path, text.format("one")))
    assert again == first
    second = wiring.scopes.register("app", module(tmp_path, text.format("the second")))
    assert (first.state, second.state) == (WorkerState.ACTIVE, WorkerState.ACTIVE)
    assert first.version != second.version
    delivered(wiring, settled(wiring))
    words = [line for line in said(wiring).splitlines() if not line.startswith("--")]
    assert words == [
        "installing one",
        "activating one",
        "installing the second",
        "activating the second",
        "handling the second",
    ]
    states = [row.state for row in wiring.workers.listing("app", everything=True)]
    assert states == [WorkerState.REDUNDANT, WorkerState.ACTIVE]


@pytest.mark.parametrize(
    "text",
    [
        '@on("install")\ndef install(event): raise OSError("no room")',
        '@on("install")\nasync def install(event): event.wait_until(event.nonsense())',
        "import no_such_module",
        "x = 1",
        '@on("backgroundfetchsucces")\ndef misspelt(event): pass',
    ],
    ids=["raises", "async", "import", "listens-for-nothing", "misspelt"],
)
def test_a_failing_install_keeps_the_old_one(wiring: Wiring, tmp_path: Path, text: str) -> None:
    """What cannot be installed changes nothing, and says where to look."""
    old = wiring.scopes.register("app", module(tmp_path, '@on("activate")\ndef ok(event): pass'))
    with pytest.raises(InvalidRequest, match="was not installed"):
        wiring.scopes.register("app", module(tmp_path, text, "newer"))
    assert wiring.workers.active("app") == old
    assert [row.state for row in wiring.workers.listing("app")] == [WorkerState.ACTIVE]


def test_a_new_version_waits_until_no_event_of_the_old_one_runs(wiring: Wiring, tmp_path: Path) -> None:
    """Installed beside it; it takes over when the old one's event is over, and gets the next one."""
    wiring.scopes.register("app", command(tmp_path, "echo > running; read line < go"))
    with Pipe(tmp_path / "running") as running, Pipe(tmp_path / "go") as go:
        wiring.worker.deliver(settled(wiring), wiring.clock.now())
        running.read()
        assert not wiring.scopes.activate("app")
        newer = wiring.workers.add(
            "app", "2", command(tmp_path, "touch newer"), state=WorkerState.INSTALLED, now=1.0
        )
        following = settled(wiring, "following")
        wiring.worker.deliver(following, wiring.clock.now())
        assert wiring.workers.active("app") != newer
        go.write()
        assert wiring.worker.wait_idle(15.0)
    assert (tmp_path / "newer").exists()
    active = wiring.workers.active("app")
    assert active is not None
    assert active.worker_id == newer.worker_id


@pytest.mark.parametrize(
    ("handler", "complaint"),
    [
        (Handler(Kind.ENTRY_POINT, ("not a module",), "", (), ""), "not an entry point"),
        (Handler(Kind.ENTRY_POINT, ("os; import sys",), "", (), ""), "not an entry point"),
        (Handler(Kind.ARGV, ("no-such-command-anywhere",), "", (), ""), "no command"),
        (Handler(Kind.ARGV, (), "", (), ""), "entry point such as"),
        (Handler(Kind.ARGV, ("sh",), "", (), "", 0.0), "longer than 0 s"),
    ],
)
def test_what_can_never_work_is_refused(wiring: Wiring, handler: Handler, complaint: str) -> None:
    """Before anything is stored or run."""
    with pytest.raises(InvalidRequest, match=complaint):
        wiring.scopes.register("app", handler, version="1")
    assert wiring.workers.listing(everything=True) == []


def test_what_is_left_of_an_installation_is_cleared_away(wiring: Wiring, tmp_path: Path) -> None:
    """A process that was killed while it installed leaves nothing that lasts."""
    row = wiring.workers.add("app", "1", command(tmp_path, "true"), state=WorkerState.INSTALLING, now=1.0)
    wiring.scopes.finish()
    after = wiring.workers.get(row.worker_id)
    assert after is not None
    assert after.state is WorkerState.REDUNDANT


def test_unregistering_aborts_and_purges_without_events(wiring: Wiring, tmp_path: Path) -> None:
    """Active fetches end, all is forgotten, nobody is told, other scopes stay, caches too."""
    wiring.scopes.register("app", command(tmp_path, "touch told"))
    settled(wiring)
    store = wiring.registrations
    active = store.add("app", "active", [(Request(URL), KEY)], now=1.0)
    other = store.add("other", "active", [(Request(URL), KEY)], now=1.0)
    asyncio.run(wiring.caches("app").open("kept"))
    wiring.mailbox.put("app", 1, now=1.0)
    assert wiring.scopes.unregister("app") == 2
    wiring.worker.start()
    assert wiring.worker.wait_idle(5.0)
    assert not (tmp_path / "told").exists()
    assert store.get(active.uid) is None
    assert [row.uid for row in store.listing()] == [other.uid]
    assert wiring.workers.listing(everything=True) == []
    assert wiring.mailbox.waiting("app") == []
    assert asyncio.run(wiring.caches("app").has("kept"))


def test_unregistering_that_was_broken_off_goes_on(wiring: Wiring, tmp_path: Path) -> None:
    """Until it is over no event is delivered and no worker registered."""
    wiring.scopes.register("app", command(tmp_path, "touch told"))
    event = settled(wiring)
    wiring.workers.begin_unregistering("app", now=1.0)
    with pytest.raises(InvalidState, match="is being unregistered"):
        wiring.scopes.register("app", command(tmp_path, "true"))
    wiring.worker.deliver(event, wiring.clock.now())
    assert wiring.worker.wait_idle(15.0)
    assert wiring.registrations.get(event.uid) is None
    assert not (tmp_path / "told").exists()
    registered = wiring.scopes.register("app", command(tmp_path, "true"))
    assert registered.state is WorkerState.ACTIVE


# Messages.


def test_a_worker_gets_messages(wiring: Wiring, tmp_path: Path) -> None:
    """What an app posts comes as a `message` event."""
    text = '@on("message")\ndef heard(event): open("heard", "w").write(str(event.data["a"]))'
    wiring.scopes.register("app", module(tmp_path, text))
    with Pipe(tmp_path / "heard") as heard:
        assert wiring.worker.post_message("app", {"a": 7})
        assert heard.read() == "7"
    assert not wiring.worker.post_message("other", {})


def test_the_mailbox_keeps_what_is_posted_to_nobody(wiring: Wiring, tmp_path: Path) -> None:
    """A scope that opted in has the mailbox for its client; another one has none."""
    text = """
        @on("backgroundfetchsuccess")
        async def success(event):
            for client in await event.clients.match_all():
                await client.post_message({"id": event.registration.id})
        """
    plain = module(tmp_path, text)
    kept = Handler(plain.kind, plain.target, plain.python, plain.path, plain.directory, mailbox=True)
    wiring.scopes.register("app", kept)
    wiring.scopes.register("other", plain)
    delivered(wiring, settled(wiring))
    delivered(wiring, settled(wiring, scope="other"))
    assert wiring.mailbox.take_all("app") == [{"from": "worker", "data": {"id": "model"}}]
    assert wiring.mailbox.take_all("app") == []
    assert wiring.mailbox.take_all("other") == []


def test_the_mailbox_is_bounded(wiring: Wiring) -> None:
    """The latest thousand, each of them short; anything but JSON is refused."""
    for number in range(1003):
        wiring.mailbox.put("app", number, now=1.0)
    waiting = wiring.mailbox.waiting("app")
    assert [waiting[0].data, waiting[-1].data, len(waiting)] == [3, 1002, 1000]
    with pytest.raises(InvalidRequest, match="65536 bytes at most"):
        wiring.mailbox.put("app", "x" * 70_000, now=1.0)
    with pytest.raises(InvalidRequest, match="what JSON can say"):
        wiring.mailbox.put("app", object(), now=1.0)


# Retention.


def test_records_go_when_retention_ends_and_registrations_later(wiring: Wiring) -> None:
    """Records after a week, the registration with its log after a month, never while its event is owed."""
    store = wiring.registrations
    day = 86_400.0
    now = wiring.clock.now()
    handled, owed = delivered(wiring, settled(wiring)), settled(wiring, "owed")
    active = store.add("app", "active", [(Request(URL), KEY)], now=1.0)
    assert wiring.retention.sweep(now=now + 6 * day).released == 0
    assert wiring.retention.sweep(now=now + 8 * day).released == 2
    row = store.get(handled.uid)
    assert row is not None
    assert not row.records_available
    assert wiring.retention.sweep(now=now + 31 * day).purged == 1
    assert {row.uid for row in store.listing()} == {owed.uid, active.uid}


# Files.


@pytest.mark.parametrize("scope", ["a/b", "..", ".", "../../x", "A", "ä" * 200, "con\0", "\ud800", "~"])
def test_any_scope_has_files_of_its_own(wiring: Wiring, scope: str) -> None:
    """No scope leads out of the folder, and no two share a file."""
    path = wiring.places.log(scope)
    assert path.parent == wiring.root / "daemon" / "log" / "workers"
    assert not path.name.startswith(".")
    assert len(os.fsencode(path.name)) < 200
    others = ["a%2fb", "a", "ä" * 199, "%2e", "con"]
    assert path not in [wiring.places.log(each) for each in others]


def test_a_worker_that_rotted_is_not_run(wiring: Wiring, tmp_path: Path) -> None:
    """A flipped bit in what is run is found by its checksum."""
    row: WorkerRow = wiring.scopes.register("app", command(tmp_path, "true"))
    with wiring.database.write() as connection:
        connection.execute("UPDATE workers SET target = ?", (json.dumps(["rm", shlex.quote("x")]),))
    from bgfetch.database import Damaged

    with pytest.raises(Damaged, match=f"worker {row.worker_id}"):
        wiring.workers.active("app")
