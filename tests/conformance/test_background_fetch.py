"""Each case of web-platform-tests/background-fetch that makes sense for Python, under its own title.

Each is run twice: what it fetches is fetched in this process, and by a daemon.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.conformance.page import SLOW, TEXT, UPLOAD, in_loop, page, server

import bgfetch
from bgfetch.core.matching import QueryOptions
from bgfetch.core.model import Request, Result
from bgfetch.errors import DuplicateId, InvalidRequest, QuotaExceeded
from bgfetch.manager import BackgroundFetchManager

pytestmark = pytest.mark.usefixtures("runner")

wpt = pytest.mark.wpt
case = pytest.mark.case

NO_MODES = "requests have no modes here, so the part about no-cors does not apply"
NO_BASE = 'there is no page a URL could be relative to: "" is refused'
BUILT_IN = "a scope without a worker of its own has the built-in one, so nothing is refused"


@wpt("abort.https.window.js")
class TestAbort:
    @case("Aborting the same registration twice fails")
    @in_loop
    async def test_twice(self) -> None:
        """The first is true, the second false."""
        async with page() as it:
            with server() as origin:
                registration = await it.background_fetch.fetch("x", origin.url_of(SLOW))
                assert await registration.abort() is True
                assert await registration.abort() is False

    @case(
        "Calling BackgroundFetchRegistration.abort sets the correct fields and responses are still available"
    )
    @in_loop
    async def test_fields(self) -> None:
        """The event is an abort, both objects say so, and the record that was complete is readable in it."""
        async with page() as it:
            with server() as origin:
                registration = await it.background_fetch.fetch("x", [origin.url, origin.url_of(SLOW)])
                first = await registration.match(origin.url)
                assert first is not None
                assert await (await first.response_ready).read() == TEXT
                assert await registration.abort() is True
                assert await registration.wait() is Result.FAILURE
                told = await it.told("x")
                assert (registration.result, registration.failure_reason) == ("failure", "aborted")
                assert told["type"] == "backgroundfetchabort"
                assert (told["result"], told["failure_reason"]) == ("failure", "aborted")
                complete, incomplete = told["results"]
                assert (complete["url"], complete["status"], complete["text"]) == (
                    origin.url,
                    200,
                    TEXT.decode(),
                )
                assert incomplete["error"] == "AbortError"

    @case("An aborted fetch throws a DOM exception when accessing an incomplete record")
    @in_loop
    async def test_incomplete_record(self) -> None:
        """It rejects with AbortError inside the abort event."""
        async with page() as it:
            with server() as origin:
                registration = await it.background_fetch.fetch("x", origin.url_of(SLOW))
                assert await registration.abort() is True
                told = await it.told("x")
                assert [result["error"] for result in told["results"]] == ["AbortError"]


@wpt("fetch-uploads.https.window.js")
class TestFetchUploads:
    @case("Fetch with an upload should work")
    @in_loop
    async def test_upload(self) -> None:
        """The body is counted and sent, and its answer is the response."""
        async with page() as it:
            with server() as origin:
                request = Request(origin.url_of(UPLOAD), method="POST", body=b"Background Fetch!")
                registration = await it.background_fetch.fetch("x", request)
                assert registration.upload_total == 17
                told = await it.told("x")
                assert (told["type"], told["uploaded"]) == ("backgroundfetchsuccess", 17)
                assert (told["result"], told["failure_reason"]) == ("success", "")
                assert told["results"][0]["text"] == "Background Fetch!"

    @case("Progress event includes uploaded bytes")
    @in_loop
    async def test_progress(self) -> None:
        """As soon as something came, everything was sent."""
        async with page() as it:
            with server() as origin:
                request = Request(origin.url_of(UPLOAD), method="POST", body=b"Background Fetch!")
                registration = await it.background_fetch.fetch("x", [request, origin.url_of(SLOW)])
                async for progress in registration:
                    if progress.downloaded > 0:
                        assert (progress.uploaded, progress.upload_total) == (17, 17)
                        break

    @case("Duplicate upload requests work and can be distinguished.")
    @in_loop
    async def test_duplicates(self) -> None:
        """Two bodies sent to one URL keep their own answers, in the order of the requests."""
        async with page() as it:
            with server() as origin:
                url = origin.url_of(UPLOAD)
                uploads = [Request(url, method="POST", body=body) for body in (b"upload1", b"upload2")]
                await it.background_fetch.fetch("x", uploads)
                told = await it.told("x")
                assert told["type"] == "backgroundfetchsuccess"
                assert [result["text"] for result in told["results"]] == ["upload1", "upload2"]


@wpt("fetch.https.window.js")
class TestFetch:
    @case("Background Fetch requires an activated Service Worker", departs=BUILT_IN)
    @in_loop
    async def test_no_worker(self) -> None:
        """What a scope without a worker fetches is put into its cache `downloads`."""
        async with page(worker=False) as it:
            with server() as origin:
                registration = await it.background_fetch.fetch("x", origin.url)
                assert await registration.wait() is Result.SUCCESS
                await it.acknowledged(registration)
                found = await it.app.caches.match(origin.url, cache_name="downloads")
                assert found is not None
                assert await found.read() == TEXT

    @case("Argument verification is done for BackgroundFetchManager.fetch()", departs=NO_MODES)
    @in_loop
    async def test_arguments(self) -> None:
        """No requests, and credentials in a URL, are a TypeError; the password is not repeated."""
        async with page(worker=False) as it:
            with pytest.raises(TypeError):
                await it.background_fetch.fetch("x", [])
            with pytest.raises(TypeError) as refused:
                await it.background_fetch.fetch("x", "https://user:pass@domain/secret.txt")
            assert "pass" not in str(refused.value).replace("password", "")
            assert await it.background_fetch.get_ids() == []

    @case("IDs must be unique among active Background Fetch registrations")
    @in_loop
    async def test_unique_ids(self) -> None:
        """Of two at once with one id the second is a TypeError."""
        async with page(worker=False) as it:
            with server() as origin:
                fetch = it.background_fetch.fetch
                both = [fetch("my-id", origin.url_of(f"{SLOW}?{number}")) for number in (1, 2)]
                won, lost = await asyncio.gather(*both, return_exceptions=True)
                assert not isinstance(won, BaseException)
                assert isinstance(lost, DuplicateId)
                assert isinstance(lost, TypeError)

    @case("Empty URL is OK.", departs=NO_BASE)
    @in_loop
    async def test_empty_url(self) -> None:
        """It is a TypeError that says what to give."""
        async with page(worker=False) as it:
            with pytest.raises(InvalidRequest, match="http"):
                await it.background_fetch.fetch("x", "")

    @case("Using Background Fetch to successfully fetch a single resource")
    @in_loop
    async def test_single_resource(self) -> None:
        """It begins with the values of the standard; the event has the response."""
        async with page() as it:
            with server() as origin:
                registration = await it.background_fetch.fetch("x", origin.url)
                assert registration.id == "x"
                assert (registration.upload_total, registration.uploaded) == (0, 0)
                assert registration.download_total == 0
                assert registration.records_available
                told = await it.told("x")
                assert told["type"] == "backgroundfetchsuccess"
                assert (told["result"], told["failure_reason"]) == ("success", "")
                assert told["results"] == [{"url": origin.url, "status": 200, "text": TEXT.decode()}]

    @case("Registration object gets updated values when a background fetch completes.")
    @in_loop
    async def test_updated_values(self) -> None:
        """By the time the worker has told, the page's object says success."""
        async with page() as it:
            with server() as origin:
                origin.latency = 0.2
                registration = await it.background_fetch.fetch("x", origin.url)
                assert (registration.result, registration.failure_reason) == ("", "")
                assert (await it.told("x"))["type"] == "backgroundfetchsuccess"
                assert (registration.result, registration.failure_reason) == ("success", "")

    @case("Background Fetch that exceeds the quota throws a QuotaExceededError")
    @in_loop
    async def test_quota(self) -> None:
        """More than the disk can hold is refused before anything is registered."""
        async with page(worker=False) as it:
            with pytest.raises(QuotaExceeded) as refused:
                await it.background_fetch.fetch(
                    "x", "https://example.com/", download_total=9_007_199_254_740_991
                )
            assert refused.value.name == "QuotaExceededError"
            assert await it.background_fetch.get_ids() == []

    @case("Fetches can have requests with duplicate URLs")
    @in_loop
    async def test_duplicate_urls(self) -> None:
        """Each is a record with a response."""
        async with page() as it:
            with server() as origin:
                await it.background_fetch.fetch("x", [origin.url, origin.url])
                told = await it.told("x")
                assert told["type"] == "backgroundfetchsuccess"
                assert told["results"] == [{"url": origin.url, "status": 200, "text": TEXT.decode()}] * 2

    @case("recordsAvailable is false after onbackgroundfetchsuccess finishes execution.")
    @in_loop
    async def test_records_available(self) -> None:
        """True until the handler has done its work, false after."""
        async with page() as it:
            with server() as origin:
                registration = await it.background_fetch.fetch("x", origin.url)
                assert registration.records_available
                assert (await it.told("x"))["type"] == "backgroundfetchsuccess"
                await it.acknowledged(registration)
                assert not registration.records_available

    @case("Using Background Fetch to fetch a non-existent resource should fail.")
    @in_loop
    async def test_missing_resource(self) -> None:
        """The fail event has the status and an empty body; the reason is bad-status on both objects."""
        async with page() as it:
            with server() as origin:
                url = origin.url_of("/background-fetch/resources/missing-cat.txt")
                registration = await it.background_fetch.fetch("x", url)
                told = await it.told("x")
                assert told["type"] == "backgroundfetchfail"
                assert told["results"] == [{"url": url, "status": 404, "text": ""}]
                assert (told["result"], told["failure_reason"]) == ("failure", "bad-status")
                assert (registration.result, registration.failure_reason) == ("failure", "bad-status")


@wpt("get-ids.https.window.js")
class TestGetIds:
    @case("BackgroundFetchManager.getIds() does not require an activated worker")
    @in_loop
    async def test_no_worker(self) -> None:
        """An empty list where there is nothing."""
        async with page(worker=False) as it:
            assert await it.background_fetch.get_ids() == []

    @case("The BackgroundFetchManager exposes active fetches")
    @in_loop
    async def test_active(self) -> None:
        """The id is listed while it is active."""
        async with page() as it:
            with server() as origin:
                await it.background_fetch.fetch("x", origin.url_of(SLOW))
                assert await it.background_fetch.get_ids() == ["x"]


@wpt("get.https.window.js")
class TestGet:
    @case(
        "BackgroundFetchManager.get() does not require an activated worker",
        departs="what is undefined there is None here",
    )
    @in_loop
    async def test_no_worker(self) -> None:
        """None where there is nothing."""
        async with page(worker=False) as it:
            assert await it.background_fetch.get("x") is None

    @case(
        "Getting non-existing registrations yields `undefined`",
        departs="what is undefined there is None here",
    )
    @in_loop
    async def test_unknown(self) -> None:
        """No id and an empty one are a TypeError, an unknown one None."""
        async with page(worker=False) as it:
            with pytest.raises(TypeError):
                await it.background_fetch.get()  # type: ignore[call-arg] # on purpose
            with pytest.raises(TypeError):
                await it.background_fetch.get("")
            assert await it.background_fetch.get("my-fake-id") is None

    @case("Getting an existing registration has the expected values")
    @in_loop
    async def test_existing(self) -> None:
        """The same object within a connection; another connection's says the same."""
        async with page() as it:
            with server() as origin:
                first = await it.background_fetch.fetch("x", origin.url_of(SLOW), download_total=1234)
                assert await it.background_fetch.get("x") is first
                async with bgfetch.connect(it.scope) as other:
                    second = await other.background_fetch.get("x")
                    assert second is not None
                    assert second is not first
                    for each in (first, second):
                        assert (each.id, each.upload_total, each.uploaded) == ("x", 0, 0)
                        assert (each.download_total, each.downloaded) == (1234, 0)
                        assert (each.result, each.failure_reason) == ("", "")
                        assert each.records_available


@wpt("match.https.window.js")
class TestMatch:
    @case("Matching to a single request should work")
    @in_loop
    async def test_single(self) -> None:
        """Its URL finds its record in the success event."""
        async with page() as it:
            with server() as origin:
                await it.background_fetch.fetch("existing", origin.url)
                told = await it.told("existing")
                assert told["type"] == "backgroundfetchsuccess"
                assert told["results"] == [{"url": origin.url, "status": 200, "text": TEXT.decode()}]

    @case("Matching to a non-existing request should work", departs="what is undefined there is None here")
    @in_loop
    async def test_missing(self) -> None:
        """Another URL finds nothing."""
        async with page() as it:
            with server() as origin:
                await it.background_fetch.fetch("missing", origin.url)
                told = await it.told("missing")
                assert (told["type"], told["result"]) == ("backgroundfetchsuccess", "success")
                assert told["results"] == [{"missing": True}]

    @case("Matching multiple times on the same request works as expected.")
    @in_loop
    async def test_twice(self) -> None:
        """Each match has a body that can be read."""
        async with page() as it:
            with server() as origin:
                await it.background_fetch.fetch("twice", origin.url)
                told = await it.told("twice")
                assert told["results"] == [{"url": origin.url, "status": 200, "text": TEXT.decode()}] * 2

    @case("Access to active fetches is supported.")
    @in_loop
    async def test_active(self) -> None:
        """A record that is complete can be read while another one has not begun."""
        async with page() as it:
            with server() as origin:
                registration = await it.background_fetch.fetch("x", [origin.url, origin.url_of(SLOW)])
                record = await registration.match(origin.url)
                assert record is not None
                response = await record.response_ready
                assert response.url == origin.url
                assert await response.read() == TEXT
                assert registration.result == ""

    @case("Match with query options.")
    @in_loop
    async def test_options(self) -> None:
        """Duplicates, queries and methods are found as the options say."""
        async with page() as it:
            with server() as origin:
                put = Request(origin.url, method="PUT")
                urls = [origin.url, origin.url, f"{origin.url}?id=3"]
                registration = await it.background_fetch.fetch("x", [*urls, put, origin.url_of(SLOW)])
                counts = []
                for search, method in ((False, False), (True, False), (False, True), (True, True)):
                    options = QueryOptions(ignore_search=search, ignore_method=method)
                    counts.append(len(await registration.match_all(origin.url, options)))
                assert counts == [2, 3, 3, 4]


@wpt("match-request-body.https.window.js")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            "Background Fetch request body".encode(),  # noqa: UP012 - what an app does with text
            marks=case(
                "Match returns the request body for string.",
                departs="bodies are bytes: text is encoded by the app",
            ),
            id="string",
        ),
        pytest.param(
            bytes(range(256)), marks=case("Match returns the request body for ArrayBuffer."), id="ArrayBuffer"
        ),
    ],
)
@in_loop
async def test_match_request_body(body: bytes) -> None:
    """`record.request` carries the body that was given."""
    async with page() as it:
        with server() as origin:
            request = Request(origin.url_of(SLOW), method="POST", body=body)
            registration = await it.background_fetch.fetch("x", [request, origin.url_of(SLOW)])
            record = await registration.match(request.url, QueryOptions(ignore_method=True))
            assert record is not None
            assert (record.request.method, record.request.body) == ("POST", body)


async def _registers(manager: BackgroundFetchManager, url: str) -> None:
    """It resolves; nobody needs the bytes."""
    registration = await manager.fetch("x", url)
    assert registration.id == "x"
    assert await registration.abort() is True


async def _rejects(manager: BackgroundFetchManager, url: str) -> None:
    with pytest.raises(TypeError):
        await manager.fetch("x", url)
    assert await manager.get_ids() == []


SCHEMES = {
    "https": "https://127.0.0.1",
    "loopback IPv4 http": "http://127.0.0.1",
    "loopback IPv6 http": "http://[::1]",
    "localhost http": "http://localhost",
}
NOT_SCHEMES = {
    "wss": "wss:127.0.0.1",
    "file": "file:///",
    "data": "data:text/plain,foo",
    "unknown scheme": "foobar:bazqux",
}


@wpt("mixed-content-and-allowed-schemes.https.window.js")
class TestSchemes:
    @pytest.mark.parametrize(
        "url",
        [
            pytest.param(url, marks=case(f"{name}: fetch should register ok"), id=name)
            for name, url in SCHEMES.items()
        ],
    )
    @in_loop
    async def test_registers(self, url: str) -> None:
        """The fetch resolves, whatever answers there."""
        async with page(worker=False) as it:
            await _registers(it.background_fetch, url)

    @pytest.mark.parametrize(
        "url",
        [
            pytest.param(url, marks=case(f"{name}: fetch should reject"), id=name)
            for name, url in NOT_SCHEMES.items()
        ],
    )
    @in_loop
    async def test_rejects(self, url: str) -> None:
        """Only http and https are fetched; anything else is a TypeError at once."""
        async with page(worker=False) as it:
            await _rejects(it.background_fetch, url)


PORTS = {
    "fetch to default https port should register ok": "https://127.0.0.1",
    "fetch to default http port should register ok": "http://127.0.0.1",
    "fetch to port 443 should register ok": "https://127.0.0.1:443",
    "fetch to port 80 should register ok, even over https": "https://127.0.0.1:80",
    "fetch to non-default non-bad port (8080) should register ok": "https://127.0.0.1:8080",
}


@wpt("port-blocking.https.window.js")
class TestPorts:
    @pytest.mark.parametrize(
        "url", [pytest.param(url, marks=case(title), id=url) for title, url in PORTS.items()]
    )
    @in_loop
    async def test_registers(self, url: str) -> None:
        """The fetch resolves, whatever answers there."""
        async with page(worker=False) as it:
            await _registers(it.background_fetch, url)

    @case("fetch to bad port (SMTP) should reject")
    @in_loop
    async def test_rejects(self) -> None:
        """A port of another protocol is a TypeError at once."""
        async with page(worker=False) as it:
            await _rejects(it.background_fetch, "https://127.0.0.1:587")


@wpt("update-ui.https.window.js")
class TestUpdateUi:
    @case("Background Fetch updateUI resolves")
    @in_loop
    async def test_resolves(self) -> None:
        """Title and icons change for everybody who looks."""
        async with page() as it:
            with server() as origin:
                registration = await it.background_fetch.fetch("updates", origin.url, title="old")
                assert (await it.told("updates"))["results"] == [{"update": "success"}]
                assert registration.title == "title 0"
                assert [icon.src for icon in registration.icons] == ["new.png"]

    @case("Background Fetch updateUI called twice fails")
    @in_loop
    async def test_twice(self) -> None:
        """The second is an InvalidStateError and changes nothing."""
        async with page() as it:
            with server() as origin:
                registration = await it.background_fetch.fetch("updates-twice", origin.url)
                told = await it.told("updates-twice")
                assert told["results"] == [{"update": "success"}, {"update": "InvalidStateError"}]
                assert registration.title == "title 0"

    @case("Background Fetch updateUI fails when event is not active")
    @in_loop
    async def test_not_active(self) -> None:
        """What `wait_until` does not cover comes too late."""
        async with page() as it:
            with server() as origin:
                registration = await it.background_fetch.fetch("updates-late", origin.url, title="old")
                assert (await it.told("updates-late"))["results"] == [{"update": "InvalidStateError"}]
                assert registration.title == "old"


@wpt("credentials-in-url.https.window.js")
class TestCredentials:
    @case("fetch without credentials in URL should register ok")
    @in_loop
    async def test_without(self) -> None:
        """The fetch resolves."""
        async with page(worker=False) as it:
            await _registers(it.background_fetch, "https://127.0.0.1")

    @pytest.mark.parametrize(
        "url",
        [
            pytest.param(
                "https://username:password@127.0.0.1",
                marks=case("fetch with username and password in URL should reject"),
                id="both",
            ),
            pytest.param(
                "https://username:@127.0.0.1",
                marks=case("fetch with username and empty password in URL should reject"),
                id="username",
            ),
            pytest.param(
                "https://:password@127.0.0.1",
                marks=case("fetch with empty username and password in URL should reject"),
                id="password",
            ),
        ],
    )
    @in_loop
    async def test_with(self, url: str) -> None:
        """A TypeError at once."""
        async with page(worker=False) as it:
            await _rejects(it.background_fetch, url)


@wpt("dangling-markup.https.window.js")
@case("fetch to a URL with dangling markup should reject")
@in_loop
async def test_dangling_markup() -> None:
    """A line break in a URL is a TypeError, whatever follows it."""
    async with page(worker=False) as it:
        await _rejects(it.background_fetch, "https://127.0.0.1/?\n<")
