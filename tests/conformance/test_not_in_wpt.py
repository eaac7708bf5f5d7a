"""What web-platform-tests says nothing about, and the standard or its explainer does: each case in both ways."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conformance.page import SLOW, Page, in_loop, page, server
from tests.daemons import stop
from tests.waiting import reached

import bgfetch
from bgfetch.api import App
from bgfetch.config import load
from bgfetch.core.model import FailureReason, Icon, Result, State
from bgfetch.errors import NotFound
from bgfetch.registration import BackgroundFetchRegistration
from bgfetch.response import off_loop
from bgfetch.testing import Content, Exchange, FaultServer, OriginServer, SeenRequest, plain
from bgfetch.testing.message import correct_reply
from bgfetch.wiring import Wiring

pytestmark = [pytest.mark.usefixtures("runner"), pytest.mark.wpt("not in web-platform-tests")]

case = pytest.mark.case

BODY = os.urandom(4 << 20)
FAST = 8e6  # bytes a second: slow enough to be met on the way
AGAIN = 1 << 20  # bytes that may come twice for each of the connections that are open when it is broken off


async def _on_the_way(registration: BackgroundFetchRegistration, held: int = 1 << 20) -> None:
    await reached(registration, lambda progress: progress.downloaded >= held)


async def _paused(registration: BackgroundFetchRegistration) -> None:
    assert await registration.pause() is True
    await reached(registration, lambda progress: progress.state is State.PAUSED)


async def _body(registration: BackgroundFetchRegistration) -> bytes:
    (record,) = await registration.match_all()
    return await (await record.response_ready).read()


async def _finishes(scenario: str) -> None:
    """Fetch from a server that behaves so, and end with the right bytes."""
    async with page(worker=False) as it:
        with FaultServer(BODY, scenario) as origin:
            registration = await it.background_fetch.fetch("x", origin.url)
            assert await registration.wait() is Result.SUCCESS, registration.failure_detail
            assert await _body(registration) == BODY


async def _interrupted(it: Page, origin: OriginServer) -> list[SeenRequest]:
    """What is asked for after a pause on the way; the body is right in the end."""
    registration = await it.background_fetch.fetch("x", origin.url)
    await _on_the_way(registration)
    await _paused(registration)
    before = len(origin.requests)
    assert await registration.resume() is True
    assert await registration.wait() is Result.SUCCESS
    assert await _body(registration) == BODY
    assert origin.requests[before:]
    return origin.requests[before:]


@case("A fetch that was interrupted asks for the range that is missing")
@in_loop
async def test_range_resume() -> None:
    """No request begins at the first byte again, and little comes twice."""
    async with page(worker=False) as it:
        with OriginServer(BODY, rate=FAST) as origin:
            asked = [each.range or "" for each in await _interrupted(it, origin)]
            assert all(each.startswith("bytes=") and not each.startswith("bytes=0-") for each in asked)
            assert origin.bytes_sent <= len(BODY) + 4 * AGAIN


@case("A range is asked for with If-Range", departs="the standard asks without and compares afterwards")
@in_loop
async def test_if_range() -> None:
    """Each request for a later range names the version that is held."""
    async with page(worker=False) as it:
        with OriginServer(BODY, rate=FAST) as origin:
            asked = await _interrupted(it, origin)
            assert {each.headers.get("if-range") for each in asked} == {origin.content.etag}


@case(
    "A file that changes on the way is never mixed", departs="the record starts over; the standard fails it"
)
@in_loop
async def test_changed_file() -> None:
    """The body is the new version, whole."""
    async with page(worker=False) as it:
        with OriginServer(BODY, rate=FAST) as origin:
            registration = await it.background_fetch.fetch("x", origin.url)
            await _on_the_way(registration)
            origin.replace(BODY[::-1])
            origin.cut_connections()
            assert await registration.wait() is Result.SUCCESS, registration.failure_detail
            assert await _body(registration) == BODY[::-1]


@case("416 at the end of what is held completes it", departs='the standard ends with "bad-status"')
@in_loop
async def test_416() -> None:
    """`bytes */N` of the length that is held says that it is whole."""
    async with page(worker=False) as it:
        with OriginServer(BODY, _without_an_end) as origin:
            registration = await it.background_fetch.fetch("x", origin.url)
            assert await registration.wait() is Result.SUCCESS, registration.failure_detail
            assert await _body(registration) == BODY
            assert origin.replies[416] == 1


def _without_an_end(exchange: Exchange) -> None:
    """The whole body without length and end; then ranges as they should be, and 416 where there is nothing more."""
    if (exchange.request.range or "bytes=0-").startswith("bytes=0-"):
        whole = replace(exchange.request, headers={})
        exchange.send_chunked(correct_reply(whole, Content.of(BODY)), last=False)
    else:
        plain(exchange)


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param("no-length", marks=case("A body that announces no length is complete at its clean end")),
        pytest.param("chunked", marks=case("A chunked body is complete at its last chunk")),
        pytest.param(
            "206-star-total",
            marks=case(
                "A range of unknown total is gone on with", departs="by the standard it never succeeds"
            ),
        ),
    ],
)
@in_loop
async def test_unknown_length(scenario: str) -> None:
    """The whole body, although nobody says how long it is."""
    await _finishes(scenario)


@case("200 to a range request starts the record over")
@in_loop
async def test_200_on_range() -> None:
    """What was held is not put before what comes whole."""
    await _finishes("200-on-range")


@case("A 206 that does not fit is not used", departs="one whole request instead of fetch-error")
@in_loop
async def test_wrong_206() -> None:
    """A range that begins elsewhere ends in the right bytes all the same."""
    await _finishes("206-wrong-start")


@case("A fetch made offline waits and starts by itself")
@in_loop
async def test_offline_start() -> None:
    """It registers, waits in a state that says so, and begins when the server is there."""
    async with page(worker=False) as it:
        with OriginServer(BODY) as origin:
            origin.down()
            registration = await it.background_fetch.fetch("x", origin.url)
            waits = (State.WAITING_NETWORK, State.WAITING_RETRY)
            await reached(registration, lambda progress: progress.state in waits)
            assert registration.result is Result.NONE
            origin.up()
            assert await registration.wait() is Result.SUCCESS, registration.failure_detail


@case(
    "A paused fetch asks for nothing",
    departs="pause() and resume() are ours: there only the browser's UI can",
)
@in_loop
async def test_pause() -> None:
    """It stays active, keeps what it has, and says that it is paused."""
    async with page(worker=False) as it:
        with OriginServer(BODY, rate=FAST) as origin:
            registration = await it.background_fetch.fetch("x", origin.url)
            await _on_the_way(registration)
            await _paused(registration)
            asked, held = len(origin.requests), registration.downloaded
            assert held >= 1 << 20
            assert await it.background_fetch.get_ids() == ["x"]
            assert not await off_loop(origin.wait_for, lambda: len(origin.requests) > asked, 0.3)
            assert held <= registration.downloaded < len(BODY)  # what had come may be counted a moment later
            assert registration.result is Result.NONE


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(
            "drop-rst", marks=case("A connection that breaks is tried again", departs="not specified")
        ),
        pytest.param("500-once", marks=case("A 500 is tried again", departs='there "bad-status" at once')),
    ],
)
@in_loop
async def test_retry(scenario: str) -> None:
    """The app sees one fetch that succeeds."""
    await _finishes(scenario)


@case("A fetch outlives whoever runs it")
@in_loop
async def test_restart(runner: str) -> None:
    """The app is gone, and the daemon is killed: the next one goes on from the bytes that are there."""
    scope = f"restart-{runner}"
    with OriginServer(BODY, rate=FAST) as origin:
        async with bgfetch.connect(scope) as app:
            await _on_the_way(await app.background_fetch.fetch("x", origin.url))
            if runner == "daemon":
                os.kill(_daemon(app), signal.SIGKILL)
        async with bgfetch.connect(scope) as app:
            found = await app.background_fetch.get("x")
            assert found is not None
            assert await found.wait() is Result.SUCCESS, found.failure_detail
            assert await _body(found) == BODY
        assert origin.bytes_sent <= len(BODY) + 4 * AGAIN


def _daemon(app: App) -> int:
    hello = app._wiring.daemon.if_running("GET", "/v1/")
    assert hello is not None
    return int(hello["pid"])


@case("More than download_total ends it at once with download-total-exceeded")
@in_loop
async def test_download_total() -> None:
    """The fail event says so, also while another record has not begun; exactly as much is fine."""
    async with page() as it:
        with server() as origin:
            urls = [origin.url, origin.url_of(SLOW)]
            await it.background_fetch.fetch("less", urls, download_total=15)
            told = await it.told("less")
            assert told["type"] == "backgroundfetchfail"
            assert told["failure_reason"] == FailureReason.DOWNLOAD_TOTAL_EXCEEDED
            exact = await it.background_fetch.fetch("exact", origin.url, download_total=16)
            assert await exact.wait() is Result.SUCCESS


@pytest.fixture
def small_home(runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home that may hold 2 MiB."""
    monkeypatch.setenv("BGFETCH_HOME", str(tmp_path))
    monkeypatch.setenv("BGFETCH_CACHE_QUOTA", str(2 << 20))
    yield
    if runner == "daemon":
        wiring = Wiring(load())
        stop(wiring)
        wiring.close()


@pytest.mark.usefixtures("small_home")
@case("A quota that is met on the way ends it with quota-exceeded")
@in_loop
async def test_quota_midway() -> None:
    """Nobody knew the length, so it is met in the middle of the body; the event says why."""
    async with page() as it:
        with FaultServer(BODY, "no-length") as origin:
            registration = await it.background_fetch.fetch("x", origin.url)
            told = await it.told("x")
            assert told["type"] == "backgroundfetchfail"
            assert told["failure_reason"] == FailureReason.QUOTA_EXCEEDED
            assert registration.failure_reason is FailureReason.QUOTA_EXCEEDED


@case("A click is told to the worker, of an active fetch and of one that is over")
@in_loop
async def test_click() -> None:
    """One event each."""
    async with page() as it:
        with server() as origin:
            over = await it.background_fetch.fetch("over", origin.url)
            assert (await it.told("over"))["type"] == "backgroundfetchsuccess"
            active = await it.background_fetch.fetch("active", origin.url_of(SLOW))
            await off_loop(_click, it, active.uid)
            told = await it.told("active", "backgroundfetchclick")
            assert told["result"] == ""
            await it.acknowledged(over)
            await off_loop(_click, it, over.uid)
            told = await it.told("over", "backgroundfetchclick")
            assert told["result"] == "success"


def _click(it: Page, uid: int) -> None:
    wiring = it.app._wiring
    if wiring.settings.in_process:
        wiring.registrations.click(uid, now=wiring.clock.now())
    else:
        wiring.daemon.call("POST", f"/v1/registrations/{uid}/click", {})


@case("Title and icons are shown as the app gave them, with progress, until it is over")
@in_loop
async def test_shown() -> None:
    """Whoever looks sees the same: another connection of the same user."""
    async with page(worker=False) as it:
        with server() as origin:
            icon = Icon("i.png", sizes="128x128", type="image/png")
            urls = [origin.url, origin.url_of(SLOW)]
            first = await it.background_fetch.fetch("x", urls, title="Gemma 2B", icons=[icon])
            await reached(first, lambda progress: progress.downloaded == 16)
            async with bgfetch.connect(it.scope) as other:
                seen = await other.background_fetch.get("x")
                assert seen is not None
                assert (seen.title, seen.icons) == ("Gemma 2B", (icon,))
                async for progress in seen:
                    if progress.downloaded == 16:
                        break


@case("Unregistering aborts and purges, and no event is fired")
@in_loop
async def test_unregister() -> None:
    """The id is free, the registration gone, and nobody was told."""
    async with page() as it:
        with server() as origin:
            registration = await it.background_fetch.fetch("x", origin.url_of(SLOW))
            await off_loop(it.app._wiring.scopes.unregister, it.scope)
            assert await it.background_fetch.get_ids() == []
            with pytest.raises(NotFound):
                _ = registration.result
            assert await it.app.caches.keys() == []


@case("The settle event comes at least once, until a handler has done its work", departs="there at most once")
@in_loop
async def test_at_least_once() -> None:
    """A first delivery that ends badly is followed by another one, with the same number and readable records."""
    async with page() as it:
        with server() as origin:
            await it.background_fetch.fetch("flaky", origin.url)
            told = await it.told("flaky")
            assert told["attempt"] == 2
            assert [result["status"] for result in told["results"]] == [200]


@case(
    "A message of the worker reaches the page that is there",
    departs="without a daemon there is no page to reach",
)
@in_loop
async def test_message(runner: str) -> None:
    """`clients.match_all` finds it, `post_message` gives it what JSON can say."""
    async with page() as it:
        with server() as origin:
            messages = it.app.messages()
            await it.background_fetch.fetch("x", origin.url)
            assert (await it.told("x"))["type"] == "backgroundfetchsuccess"
            if runner == "daemon":
                async with asyncio.timeout(10.0):
                    assert await anext(messages) == {"type": "backgroundfetchsuccess", "id": "x"}
