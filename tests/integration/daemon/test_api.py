"""The local API of a daemon that runs."""

from __future__ import annotations

import base64
import hashlib

import pytest
from tests.daemons import DaemonProcess
from tests.waiting import looked_for

from bgfetch.core.identity import request_key
from bgfetch.core.model import Request, State
from bgfetch.errors import DuplicateId, InvalidRequest, InvalidState, NotFound
from bgfetch.testing import OriginServer
from bgfetch.version import __version__
from bgfetch.wire import PROTOCOL, ToldProgress


def test_handshake(daemon: DaemonProcess) -> None:
    """It says who it is, what it speaks, and that a restart loses nothing."""
    hello = daemon.connection.hello()
    assert daemon.process is not None
    assert (hello.version, hello.protocol, hello.pid) == (__version__, PROTOCOL, daemon.process.pid)
    assert (hello.home, hello.unfinished, hello.restartable) == (str(daemon.home), 0, True)


def test_fetch_whole(daemon: DaemonProcess, server: OriginServer) -> None:
    """What is registered is fetched, verified and put into the cache, with nobody connected meanwhile."""
    body = bytes(server.content.data)
    digest = hashlib.sha256(body).hexdigest()
    request = {"url": server.url, "integrity": f"sha256:{digest}"}
    asked = {"scope": "app", "id": "x", "requests": [request], "title": "Gemma"}
    uid = daemon.call("POST", "/v1/registrations", asked)["uid"]
    over = daemon.settled(uid)
    assert (over["result"], over["downloaded"], over["title"]) == ("success", len(body), "Gemma")
    (record,) = daemon.call("GET", f"/v1/registrations/{uid}/records")["records"]
    assert (record["verified"], record["digest"]) == ("digest", f"sha256:{digest}")
    said = daemon.command("cache", "ls", "--scope", "app", "--json")
    assert digest in said.stdout


def test_duplicate_names_the_live_one(daemon: DaemonProcess, server: OriginServer) -> None:
    """Another fetch under an id that is active is refused, and the one that is active is named."""
    server.rate = 100_000.0
    uid = daemon.fetch(server.url)
    with pytest.raises(DuplicateId, match=f"registration {uid}"):
        daemon.fetch(server.url)


@pytest.mark.parametrize(
    ("method", "path", "body", "error"),
    [
        ("GET", "/v1/registrations/99", None, NotFound),
        ("GET", "/v1/registrations/word", None, NotFound),
        ("GET", "/nowhere", None, NotFound),
        ("POST", "/v1/registrations", {"id": "x"}, InvalidRequest),
        ("POST", "/v1/registrations", {"id": "x", "requests": [], "more": 1}, InvalidRequest),
        (
            "POST",
            "/v1/registrations",
            {"id": "x", "requests": [{"url": "file:///etc/passwd"}]},
            InvalidRequest,
        ),
        ("PATCH", "/v1/registrations", {"wish": "dance"}, InvalidRequest),
        ("PATCH", "/v1/settings", {"limit_rate": "much"}, InvalidRequest),
        ("GET", "/v1/registrations?active=maybe", None, InvalidRequest),
        ("POST", "/v1/clients/nobody/messages", {"data": 1}, NotFound),
    ],
)
def test_errors_come_back_as_themselves(
    daemon: DaemonProcess, method: str, path: str, body: object, error: type[Exception]
) -> None:
    """What the daemon raises is raised again at the client, of the same class."""
    with pytest.raises(error):
        daemon.call(method, path, body)


def test_wishes_and_amendments(daemon: DaemonProcess, server: OriginServer) -> None:
    """It pauses, goes on, is shown otherwise, runs otherwise and ends, as it is asked to."""
    server.rate = 100_000.0
    uid = daemon.fetch(server.url)
    path = f"/v1/registrations/{uid}"
    daemon.is_in(uid, State.RUNNING)
    daemon.call("PATCH", path, {"wish": "pause"})
    daemon.is_in(uid, State.PAUSED)
    with pytest.raises(InvalidState):
        daemon.call("DELETE", path)
    shown = daemon.call("PATCH", path, {"title": "New", "options": {"priority": 5}})
    assert (shown["title"], shown["options"]) == ("New", {"priority": 5})
    daemon.call("PATCH", path, {"wish": "run"})
    daemon.is_in(uid, State.RUNNING)
    assert daemon.call("PATCH", "/v1/registrations", {"wish": "abort"}, scope="other") == {"changed": []}
    assert daemon.call("PATCH", "/v1/registrations", {"wish": "abort"}, scope="app") == {"changed": [uid]}
    assert daemon.settled(uid)["failure_reason"] == "aborted"
    with pytest.raises(InvalidState):
        daemon.call("PATCH", path, {"wish": "run"})
    daemon.call("DELETE", path)
    with pytest.raises(NotFound):
        daemon.call("GET", path)


def test_upload(daemon: DaemonProcess, server: OriginServer) -> None:
    """A body travels to the server, through the daemon."""
    body = base64.b64encode(b"x" * 1000).decode()
    request = {"url": server.url, "method": "POST", "body": body}
    asked = {"scope": "app", "id": "up", "requests": [request]}
    uid = daemon.call("POST", "/v1/registrations", asked)["uid"]
    over = daemon.settled(uid)
    assert (over["uploaded"], over["upload_total"]) == (1000, 1000)


def test_events_follow_and_replay(daemon: DaemonProcess, server: OriginServer) -> None:
    """Progress ends with the settlement; who comes back with the last line it saw misses none."""
    with daemon.events(scope="app") as told:
        uid = daemon.fetch(server.url)
        lines, last = [], None
        for event in told:
            if event.name == "log":
                lines.append(event)
            elif event.name == "progress":
                last = ToldProgress.unpack(event.data)
            if last is not None and last.progress.state is State.SETTLED and len(lines) > 1:
                break
    assert last is not None
    assert (last.uid, last.scope, last.id, last.progress.downloaded) == (uid, "app", "x", 3 << 20)
    first = lines[0]
    assert first.data["name"] == "registered"
    with daemon.events(after=first.id) as told:
        again = [next(each for each in told if each.name == "log") for _ in lines[1:]]
    assert [each.id for each in again] == [each.id for each in lines[1:]]
    with daemon.events(after=0, scope="other") as told:
        daemon.fetch(server.url, id="y", scope="other")
        assert next(each for each in told if each.name == "log").data["scope"] == "other"


def test_snapshot_first(daemon: DaemonProcess, server: OriginServer) -> None:
    """Who connects is told at once how every active registration stands."""
    server.rate = 100_000.0
    uids = {daemon.fetch(server.url, id=name) for name in ("a", "b")}
    with daemon.events() as told:
        seen = {next(told).data["uid"] for _ in range(2)}
    assert seen == uids


def test_messages_to_clients(daemon: DaemonProcess) -> None:
    """A client that is connected is listed, gets what is sent to it, and is gone when it goes."""
    daemon.leave_message("app", "you are connected")
    with daemon.events(client="page", scope="app") as told:
        assert next(told).name == "message"
        assert daemon.call("GET", "/v1/clients", scope="app")["clients"]
        daemon.call("POST", "/v1/clients/page/messages", {"data": {"n": 1}, "from": "worker"})
        event = next(each for each in told if each.name == "message")
        assert event.data == {"from": "worker", "data": {"n": 1}}
    looked_for(
        lambda: not daemon.call("GET", "/v1/clients")["clients"],
        because="nobody is told that a client has gone",
    )


def test_goodbye(daemon: DaemonProcess) -> None:
    """Who listens is told that the daemon ends."""
    with daemon.events() as told:
        daemon.call("POST", "/v1/stop", {})
        assert next(told).name == "goodbye"
    assert daemon.ended() == 0


def test_rate_is_changed_live(daemon: DaemonProcess, server: OriginServer) -> None:
    """A limit holds for what is under way, and its end, too."""
    assert daemon.call("PATCH", "/v1/settings", {"limit_rate": 200_000})["limit_rate"] == 200_000
    uid = daemon.fetch(server.url)
    daemon.holds(uid)
    assert daemon.call("GET", f"/v1/registrations/{uid}")["state"] == "running"
    daemon.call("PATCH", "/v1/settings", {"limit_rate": 0})
    assert daemon.settled(uid)["result"] == "success"


def test_rows_that_others_add(daemon: DaemonProcess, server: OriginServer) -> None:
    """What another process puts into the store is fetched without a word to the daemon."""
    request = Request(server.url)
    with daemon.store() as store:
        row = store.add("app", "x", [(request, request_key(request))], now=1.0)
    assert daemon.settled(row.uid)["result"] == "success"


def test_a_row_that_can_never_work(daemon: DaemonProcess, server: OriginServer) -> None:
    """What no rule allows any more settles with its reason, and the daemon and all else go on."""
    with daemon.store() as store:
        bad = store.add("app", "bad", [(Request("http://127.0.0.1:9/"), "a" * 64)], now=1.0)
    assert "port 9" in daemon.settled(bad.uid)["failure_detail"]
    assert daemon.settled(daemon.fetch(server.url))["result"] == "success"


def test_document(daemon: DaemonProcess) -> None:
    """It describes itself."""
    assert "/v1/registrations/{uid}/run" in daemon.call("GET", "/v1/openapi.json")["paths"]
