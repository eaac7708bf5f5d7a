"""The standard's objects against a real server: what they ask for is run in this process, and by a daemon."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import stop

from bgfetch.config import load
from bgfetch.core.matching import QueryOptions
from bgfetch.core.model import Icon, Progress, Request, Result, State, Verified
from bgfetch.engine.driver import Driver
from bgfetch.errors import Aborted, BadStatus, DuplicateId, InvalidRequest, InvalidState, QuotaExceeded
from bgfetch.manager import BackgroundFetchManager
from bgfetch.registrations.port import RegistrationOptions
from bgfetch.testing import FaultServer, OriginServer
from bgfetch.transports.curl import CurlTransport
from bgfetch.wiring import Wiring

BODY = os.urandom(3 << 20)


@pytest.fixture(params=["in this process", "in the daemon"])
def wiring(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Wiring]:
    """A home with short deadlines; a daemon is started by whoever needs it first."""
    told = {"BGFETCH_RETRY_SCALE": "0.05", "BGFETCH_HEAD_TIMEOUT": "5", "BGFETCH_SILENCE_TIMEOUT": "5"}
    here = request.param == "in this process"
    for name, value in {**told, "BGFETCH_HOME": str(tmp_path), "BGFETCH_IN_PROCESS": str(int(here))}.items():
        monkeypatch.setenv(name, value)
    made = Wiring(load())
    yield made
    made.close()
    if not here:
        stop(made)


@pytest.fixture
def manager(wiring: Wiring) -> BackgroundFetchManager:
    """The standard's manager of its default scope."""
    return wiring.manager("default")


def test_using_background_fetch_to_fetch_a_single_resource(manager: BackgroundFetchManager) -> None:
    """Initial attributes, progress that ends settled, one record with the right body."""

    async def story() -> None:
        with OriginServer(BODY) as server:
            registration = await manager.fetch(
                "one", server.url, title="One", icons=[Icon("i.png", sizes="1x1")]
            )
            assert (registration.id, registration.title, registration.icons[0].sizes) == ("one", "One", "1x1")
            assert (registration.upload_total, registration.download_total) == (0, 0)
            seen = [progress async for progress in registration]
            assert seen[-1].state is State.SETTLED
            assert seen[-1].result is Result.SUCCESS
            assert seen[-1].downloaded == len(BODY)
            assert registration.error() is None
            (record,) = registration.records()
            assert record.verified is Verified.VALIDATORS

    asyncio.run(story())


def test_access_to_active_fetches_is_supported(manager: BackgroundFetchManager) -> None:
    """`response_ready` streams while bytes still come, and ends with the whole body."""

    async def story() -> None:
        with OriginServer(BODY, rate=3e5) as server:
            registration = await manager.fetch("slow", server.url)
            (record,) = await registration.match_all()
            response = await record.response_ready
            states = set()
            got = bytearray()
            async for chunk in response:
                states.add(registration.state)
                if State.RUNNING in states:
                    server.rate = 0.0
                got += chunk
            assert State.RUNNING in states, "the first chunk came only when all was over"
            assert bytes(got) == BODY
            assert response.status == 200
            assert response.headers["content-length"] == str(len(BODY))

    asyncio.run(story())


def test_a_finished_record_is_a_file_with_its_own_name(manager: BackgroundFetchManager) -> None:
    """A program that wants a path gets the file itself, called what it is."""

    async def story() -> None:
        with OriginServer(BODY) as server:
            registration = await manager.fetch("one", server.url)
            (record,) = await registration.match_all()
            await registration.wait()
            response = await record.response_ready
            assert response.path is not None
            assert response.path.name == "model.bin"
            assert await response.read() == BODY

    asyncio.run(story())


def test_ids_must_be_unique_among_active_registrations(manager: BackgroundFetchManager) -> None:
    """The second fetch of an active id is refused; once settled the id is free."""

    async def story() -> None:
        with OriginServer(BODY, rate=2e6) as server:
            first = await manager.fetch("x", server.url)
            with pytest.raises(DuplicateId, match="x"):
                await manager.fetch("x", server.url)
            assert await manager.get_ids() == ["x"]
            assert await manager.get("x") is first
            assert await first.wait() is Result.SUCCESS
            assert await manager.get_ids() == []
            assert await manager.get("x") is None
            assert await (await manager.fetch("x", server.url)).wait() is Result.SUCCESS

    asyncio.run(story())


def test_argument_verification(manager: BackgroundFetchManager) -> None:
    """Nothing is registered for what can never work."""

    async def story() -> None:
        bad: list[object] = [
            [],
            "",
            "file:///etc/passwd",
            "https://u:p@host/",
            "https://host:25/",
            ["https://ok/", "nope"],
        ]
        for requests in bad:
            with pytest.raises(InvalidRequest):
                await manager.fetch("x", requests)  # type: ignore[arg-type] # on purpose
        with pytest.raises(InvalidRequest):
            await manager.fetch("", "https://host/")
        with pytest.raises(InvalidRequest):
            await manager.get("")
        assert await manager.get("unknown") is None
        assert await manager.get_ids() == []

    asyncio.run(story())


def test_background_fetch_that_exceeds_the_quota(manager: BackgroundFetchManager) -> None:
    """More than the disk can hold is refused before the first byte."""
    with pytest.raises(QuotaExceeded, match="free"):
        asyncio.run(manager.fetch("big", "https://host/", download_total=(1 << 53) - 1))


def test_a_missing_resource_fails_and_its_record_shows_the_status(manager: BackgroundFetchManager) -> None:
    """404: the reason is bad-status, the record has the status and an empty body."""

    async def story() -> None:
        with OriginServer(BODY) as server:
            registration = await manager.fetch("gone", server.url_of("/nothing"))
            assert await registration.wait() is Result.FAILURE
            assert registration.failure_reason == "bad-status"
            assert isinstance(registration.error(), BadStatus)
            (record,) = await registration.match_all()
            response = await record.response_ready
            assert (response.status, await response.read()) == (404, b"")

    asyncio.run(story())


def test_one_failure_does_not_stop_the_others(manager: BackgroundFetchManager) -> None:
    """All records finish before the registration fails, and what succeeded is cached."""

    async def story() -> None:
        with OriginServer({"/a": BODY, "/b": b"small"}) as server:
            urls = [server.url_of("/nothing"), server.url_of("/a"), server.url_of("/b")]
            registration = await manager.fetch("three", urls)
            assert await registration.wait() is Result.FAILURE
            results = [record.result for record in registration.records()]
            assert results == [Result.FAILURE, Result.SUCCESS, Result.SUCCESS]

    asyncio.run(story())


def test_download_total_exceeded_settles_at_once(manager: BackgroundFetchManager) -> None:
    """More than promised ends it; exactly what was promised does not."""

    async def story() -> None:
        with OriginServer(BODY) as server:
            less = await manager.fetch("less", server.url, download_total=len(BODY) - 1)
            assert await less.wait() is Result.FAILURE
            assert less.failure_reason == "download-total-exceeded"
            exact = await manager.fetch("exact", server.url, download_total=len(BODY))
            assert await exact.wait() is Result.SUCCESS

    asyncio.run(story())


def test_aborting_the_same_registration_twice_fails(manager: BackgroundFetchManager) -> None:
    """The first abort is true, the second false; the incomplete record rejects with AbortError."""

    async def story() -> None:
        with OriginServer(BODY, rate=1e5) as server:
            registration = await manager.fetch("x", server.url)
            assert await registration.abort() is True
            assert await registration.wait() is Result.FAILURE
            assert await registration.abort() is False
            assert registration.failure_reason == "aborted"
            (record,) = await registration.match_all()
            with pytest.raises(Aborted) as refused:
                await record.response_ready
            assert refused.value.name == "AbortError"

    asyncio.run(story())


def test_pause_stops_the_bytes_and_resume_goes_on(manager: BackgroundFetchManager) -> None:
    """A paused fetch holds what it has; resumed it ends right, fetching little twice."""

    async def story() -> None:
        with OriginServer(BODY, rate=4e6) as server:
            registration = await manager.fetch("x", server.url)
            async for progress in registration:
                if progress.downloaded > 0:
                    break
            assert await registration.pause() is True
            await _until(registration.__aiter__(), State.PAUSED)
            assert await registration.resume() is True
            assert await registration.wait() is Result.SUCCESS
            assert server.bytes_sent <= len(BODY) + (2 << 20) * 4

    asyncio.run(story())


async def _until(progress: object, state: State) -> Progress:
    async for each in progress:  # type: ignore[attr-defined] # an async iterator
        if each.state is state:
            assert isinstance(each, Progress)
            return each
    raise AssertionError(state)


def test_fetch_with_an_upload_should_work(manager: BackgroundFetchManager) -> None:
    """A body is counted, sent once, and its answer is the record's response."""

    async def story() -> None:
        with OriginServer(b"answer", handler=_echo) as server:
            request = Request(server.url, method="POST", body=b"x" * 100_000)
            registration = await manager.fetch("up", [request, request])
            assert registration.upload_total == 200_000
            assert await registration.wait() is Result.SUCCESS, registration.failure_detail
            assert registration.uploaded == 200_000
            records = await registration.match_all(request, QueryOptions(ignore_method=True))
            assert len(records) == 2, "duplicate uploads can be told apart"
            response = await records[0].response_ready
            assert await response.read() == hashlib.sha256(request.body or b"").hexdigest().encode()
            assert [seen.method for seen in server.requests] == ["POST", "POST"]

    asyncio.run(story())


def _echo(exchange: object) -> None:
    from bgfetch.testing import text_reply

    request = exchange.request  # type: ignore[attr-defined] # bgfetch.testing.Exchange
    exchange.send(text_reply(200, hashlib.sha256(request.body).hexdigest()))  # type: ignore[attr-defined] # as above


def test_a_failed_upload_is_not_sent_again(manager: BackgroundFetchManager) -> None:
    """A request with effects is sent once, whatever comes of it."""

    async def story() -> None:
        with FaultServer(b"answer", "drop-before-head") as server:
            registration = await manager.fetch("up", Request(server.url, method="POST", body=b"x"))
            assert await registration.wait() is Result.FAILURE
            assert len(server.requests) <= 1

    asyncio.run(story())


def test_match_with_query_options(manager: BackgroundFetchManager) -> None:
    """Records are found by the rules of Cache, in the order of the requests."""

    async def story() -> None:
        with OriginServer({"/a": b"one"}) as server:
            urls = [server.url_of("/a?x=1"), server.url_of("/a?x=2"), server.url_of("/a?x=1")]
            registration = await manager.fetch("m", urls)
            assert len(await registration.match_all(urls[0])) == 2
            assert len(await registration.match_all(urls[0], QueryOptions(ignore_search=True))) == 3
            assert await registration.match(server.url_of("/b")) is None
            assert len(await registration.match_all()) == 3
            await registration.wait()

    asyncio.run(story())


def test_records_are_gone_after_release(manager: BackgroundFetchManager, wiring: Wiring) -> None:
    """`match` on a registration whose event has been handled is an InvalidStateError."""

    async def story() -> None:
        with OriginServer(b"x") as server:
            registration = await manager.fetch("m", server.url)
            await registration.wait()
            wiring.registrations.release_records(registration.uid)
            assert registration.records_available is False
            with pytest.raises(InvalidState):
                await registration.match_all()

    asyncio.run(story())


def test_a_rate_limit_of_one_registration_holds(manager: BackgroundFetchManager) -> None:
    """At 1,000 bytes a second nothing comes but the first chunk of each connection, until the limit is lifted.

    How exactly it is kept, with what burst, is said by tests of the limiter, whose clock moves when it is told to.
    """
    first_chunks = 8 * (256 << 10)  # a connection pauses when a chunk was too much, not before it

    async def story() -> None:
        with OriginServer(random.Random(9).randbytes(8 << 20)) as server:
            options = RegistrationOptions(limit_rate=1000)
            registration = await manager.fetch("slow", server.url, options=options)
            async for progress in registration:
                if progress.downloaded:
                    break
            assert registration.downloaded <= first_chunks + 60 * 1000  # no test takes longer than 60 s
            await registration.set_limit_rate(0)
            assert await registration.wait() is Result.SUCCESS

    asyncio.run(story())


def test_a_lost_database_is_filled_again_from_the_files(tmp_path: Path) -> None:
    """Finished files are known again, unfinished ones go on from their bytes."""
    settings = load({"home": str(tmp_path), "in_process": True}, {})
    with OriginServer({"/done": BODY, "/half": BODY}, rate=8e6) as server:
        first = Wiring(settings)

        async def begin() -> None:
            manager = first.manager("default")
            assert await (await manager.fetch("done", server.url_of("/done"))).wait() is Result.SUCCESS
            half = await manager.fetch("half", server.url_of("/half"))
            async for progress in half:
                if progress.downloaded >= 1 << 20:
                    break

        asyncio.run(begin())
        first.close()
        for file in (tmp_path / "state").glob("bgfetch.sqlite3*"):
            file.unlink()
        sent = server.bytes_sent
        second = Wiring(settings)
        try:
            assert second.entries.by_url("default", server.url_of("/done")) is not None

            async def finish() -> None:
                half = await second.manager("default").get("half")
                assert half is not None
                assert await half.wait() is Result.SUCCESS

            asyncio.run(finish())
            assert server.bytes_sent - sent < len(BODY), "nothing of the first half was used"
        finally:
            second.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("wiring", ["in this process"], indirect=True)
@pytest.mark.parametrize("thread", [Driver, CurlTransport])
def test_a_bug_in_a_thread_is_told_and_hangs_nobody(
    wiring: Wiring, manager: BackgroundFetchManager, monkeypatch: pytest.MonkeyPatch, thread: type
) -> None:
    """Whoever waits gets an error that says what is kept, and nothing has failed by it; closing still ends."""

    def broken(_self: object, *_args: object) -> None:
        raise ZeroDivisionError

    async def story() -> None:
        with OriginServer(BODY, rate=1e6) as server:
            registration = await manager.fetch("x", server.url)
            monkeypatch.setattr(thread, "_tick", broken)
            with pytest.raises(RuntimeError, match="kept"):
                await registration.wait()
            assert registration.result is Result.NONE

    asyncio.run(story())
    wiring.close()
