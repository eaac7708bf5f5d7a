"""Each case of web-platform-tests/service-workers/cache-storage that makes sense for Python, under its own title.

They run over a real home, as an app has it; the same rules are proved on other stores in tests/contract/test_caches.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.conformance.page import FEATURE, SLOW, TEXT, in_loop, page

from bgfetch import Response
from bgfetch.caches import Cache, CacheStorage
from bgfetch.core.model import Headers, Request
from bgfetch.errors import FetchError, InvalidRequest, InvalidState
from bgfetch.response import off_loop
from bgfetch.testing import Exchange, OriginServer, plain, text_reply

pytestmark = pytest.mark.usefixtures("here")

wpt = pytest.mark.wpt
case = pytest.mark.case

NO_BASE = "there is no page a URL could be relative to: a TypeError"
NONE = "what is undefined there is None here"
NETWORK = "what could not be fetched is a FetchError, not a TypeError"
HIDDEN = "of a header that may be a secret only the presence is stored and compared: shown with another header than theirs"
CANCELLED = "cancelling a task is Python's AbortController, and asyncio.CancelledError its AbortError"

URL = "https://example.com/foo"
SITE = "http://example.com"
SIMPLE = {
    "a": (f"{SITE}/a", 200),
    "b": (f"{SITE}/b", 200),
    "a_with_query": (f"{SITE}/a?q=r", 200),
    "A": (f"{SITE}/A", 200),
    "a_https": ("https://example.com/a", 200),
    "a_org": ("http://example.org/a", 200),
    "cat": (f"{SITE}/cat", 200),
    "catmandu": (f"{SITE}/catmandu", 200),
    "cat_num_lives": (f"{SITE}/cat?lives=9", 200),
    "cat_in_the_hat": (f"{SITE}/cat/in/the/hat", 200),
    "non_2xx_response": (f"{SITE}/non2xx", 404),
    "error_response": (f"{SITE}/error", 0),
}
URLS = [url for url, _ in SIMPLE.values()]
A, A_QUERY, CAT = SIMPLE["a"][0], SIMPLE["a_with_query"][0], SIMPLE["cat"][0]
BISCUITS = ("is-for-cookie", "is-good-enough-for-me", None)
VARIED = f"{SITE}/c"


@asynccontextmanager
async def storage() -> AsyncIterator[CacheStorage]:
    """The empty storage of a new app."""
    async with page(worker=False) as it:
        yield it.app.caches


@asynccontextmanager
async def empty() -> AsyncIterator[Cache]:
    """An empty cache."""
    async with storage() as caches:
        yield await caches.open("c")


@asynccontextmanager
async def stocked() -> AsyncIterator[Cache]:
    """A cache with an entry for each of SIMPLE, whose body says which."""
    async with empty() as cache:
        for name, (url, status) in SIMPLE.items():
            await cache.put(url, Response(name, status=status))
        yield cache


@asynccontextmanager
async def varied() -> AsyncIterator[Cache]:
    """A cache with three entries of one URL, which vary by a header."""
    async with empty() as cache:
        for each in BISCUITS:
            await cache.put(biscuit(each), Response(str(each), headers={"Vary": "X-Biscuit"}))
        yield cache


@asynccontextmanager
async def served(**vary: str) -> AsyncIterator[tuple[Cache, OriginServer]]:
    """An empty cache, and a server: statuses under /status/N, what varies under /vary by the value of x-shape."""

    def answer(exchange: Exchange) -> None:
        path = exchange.request.path
        if path == SLOW:
            exchange.hold()
        elif path.startswith("/status/"):
            exchange.send(text_reply(int(path.rpartition("/")[2]), ""))
        elif path == "/vary":
            by = vary.get(exchange.request.headers["x-shape"], "x-shape")
            exchange.send(text_reply(200, "x").but(vary=by))
        else:
            plain(exchange)

    bodies: dict[str, bytes] = {FEATURE: TEXT, "/simple.txt": b"a simple text file\n", "/blank.html": b"<p>"}
    with OriginServer(bodies, answer) as origin:
        async with empty() as cache:
            yield cache, origin


def biscuit(value: str | None) -> Request:
    """A request with the header that entries vary by, or without."""
    return Request(VARIED, headers=Headers([] if value is None else [("X-Biscuit", value)]))


def head(url: str) -> Request:
    """A HEAD request."""
    return Request(url, method="HEAD")


async def text(found: Response | None) -> str | None:
    """The body of what was found."""
    return None if found is None else await found.text()


async def texts(found: list[Response]) -> list[str]:
    """The bodies of what was found."""
    return [await each.text() for each in found]


async def keys(cache: Cache, *args: Any, **options: Any) -> list[str]:
    """The URLs of the requests that are found."""
    return [key.url for key in await cache.keys(*args, **options)]


@wpt("cache-put.https.any.js")
class TestPut:
    @case("Cache.put called with simple Request and Response")
    @in_loop
    async def test_simple(self) -> None:
        """It gives nothing."""
        async with empty() as cache:
            result: object = await cache.put(Request(URL), Response("Hello world!"))  # type: ignore[func-returns-value]
            assert result is None

    @case("Cache.put called with Request and Response from fetch()")
    @in_loop
    async def test_from_fetch(self) -> None:
        """What a background fetch brought is stored with its head, without a copy."""
        async with page(worker=False) as it:
            cache = await it.app.caches.open("c")
            with OriginServer({FEATURE: TEXT}) as origin:
                registration = await it.background_fetch.fetch("x", origin.url)
                (record,) = await registration.match_all()
                response = await record.response_ready
                await cache.put(origin.url, response)
                found = await cache.match(origin.url)
                assert found is not None
                assert (found.status, found.url, found.headers["etag"]) == (
                    200,
                    origin.url,
                    origin.content.etag,
                )
                assert await found.read() == TEXT

    @case("Cache.put with Request without a body")
    @in_loop
    async def test_request_without_body(self) -> None:
        """The request is not used up: it may be put again."""
        async with empty() as cache:
            request = Request(URL)
            await cache.put(request, Response("1"))
            await cache.put(request, Response("2"))
            assert request == Request(URL)

    @case("Cache.put with Response without a body")
    @in_loop
    async def test_response_without_body(self) -> None:
        """No body is never used."""
        async with empty() as cache:
            response = Response()
            assert not response.body_used
            await cache.put(URL, response)
            assert not response.body_used

    @case("Cache.put with a Response containing an empty URL")
    @in_loop
    async def test_empty_url(self) -> None:
        """A response made by the app keeps having no URL."""
        async with empty() as cache:
            await cache.put(URL, Response("x").clone())
            found = await cache.match(URL)
            assert found is not None
            assert (found.url, await found.text()) == ("", "x")

    @case("Cache.put with an empty response body")
    @in_loop
    async def test_empty_body(self) -> None:
        """Nothing is stored as nothing, with its head."""
        async with empty() as cache:
            await cache.put(URL, Response("", headers=[("Content-Type", "text/plain")]))
            found = await cache.match(URL)
            assert found is not None
            assert (found.status, found.headers["Content-Type"], await found.text()) == (
                200,
                "text/plain",
                "",
            )

    @pytest.mark.parametrize(
        "url",
        [
            pytest.param("", marks=case("Cache.put with synthetic 206 response"), id="synthetic"),
            pytest.param(URL, marks=case("Cache.put with HTTP 206 response"), id="http"),
        ],
    )
    @in_loop
    async def test_206(self, url: str) -> None:
        """A part of a body is a TypeError."""
        async with empty() as cache:
            with pytest.raises(TypeError):
                await cache.put(URL, Response("", status=206, url=url))

    @case("Cache.put with HTTP 500 response")
    @in_loop
    async def test_500(self) -> None:
        """An error is stored like everything else."""
        async with empty() as cache:
            await cache.put(URL, Response("", status=500, url=URL))
            found = await cache.match(URL)
            assert found is not None
            assert (found.status, await found.text()) == (500, "")

    @pytest.mark.parametrize(
        "second",
        [
            pytest.param(
                URL,
                marks=case("Cache.put called twice with matching Requests and different Responses"),
                id="same",
            ),
            pytest.param(
                f"{URL}#(O_o)",
                marks=case("Cache.put called twice with request URLs that differ only by a fragment"),
                id="fragment",
            ),
        ],
    )
    @in_loop
    async def test_twice(self, second: str) -> None:
        """The second replaces the first."""
        async with empty() as cache:
            await cache.put(URL, Response("Old body", status=201))
            await cache.put(second, Response("New body"))
            (found,) = await cache.match_all(URL)
            assert (found.status, await found.text()) == (200, "New body")

    @case("Cache.put with a string request")
    @in_loop
    async def test_string(self) -> None:
        """A URL stands for a GET of it."""
        async with empty() as cache:
            await cache.put(f"{SITE}/foo", Response("some body"))
            assert await text(await cache.match(f"{SITE}/foo")) == "some body"

    @pytest.mark.parametrize(
        "response",
        [
            pytest.param("Hello world!", marks=case("Cache.put with an invalid response"), id="text"),
            pytest.param(None, marks=case("Cache.put with a null response"), id="none"),
        ],
    )
    @in_loop
    async def test_no_response(self, response: Any) -> None:
        """Only a Response is stored."""
        async with empty() as cache:
            with pytest.raises(TypeError):
                await cache.put(URL, response)

    @pytest.mark.parametrize(
        "request_",
        [
            pytest.param(
                "file:///etc/passwd", marks=case("Cache.put with a non-HTTP/HTTPS request"), id="file"
            ),
            pytest.param(
                "relative-url", marks=case("Cache.put with a relative URL", departs=NO_BASE), id="relative"
            ),
            pytest.param(head(URL), marks=case("Cache.put with a non-GET request"), id="head"),
            pytest.param(
                Request(URL, method="POST", body=b"x"), marks=case("Cache.put with a POST request"), id="post"
            ),
        ],
    )
    @in_loop
    async def test_refused_requests(self, request_: str | Request) -> None:
        """A TypeError, and nothing is stored."""
        async with empty() as cache:
            with pytest.raises(TypeError):
                await cache.put(request_, Response("x"))
            assert await cache.keys() == []

    @case("Cache.put with a used response body")
    @in_loop
    async def test_used(self) -> None:
        """What was read cannot be stored."""
        async with empty() as cache:
            response = Response("x")
            await response.text()
            assert response.body_used
            with pytest.raises(TypeError):
                await cache.put(URL, response)

    @case("getReader() after Cache.put", departs="a body is read by iteration; there is no reader")
    @in_loop
    async def test_read_after(self) -> None:
        """What was stored cannot be read from the same response."""
        async with empty() as cache:
            response = Response("x")
            await cache.put(URL, response)
            with pytest.raises(TypeError):
                aiter(response)

    @pytest.mark.parametrize(
        "vary",
        [
            pytest.param("*", marks=case("Cache.put with a VARY:* Response"), id="alone"),
            pytest.param(
                "Accept-Language,*", marks=case("Cache.put with an embedded VARY:* Response"), id="embedded"
            ),
        ],
    )
    @in_loop
    async def test_vary_star(self, vary: str) -> None:
        """What could never be found is a TypeError."""
        async with empty() as cache:
            with pytest.raises(TypeError):
                await cache.put(URL, Response("x", headers={"VARY": vary}))

    @case(
        "Cache.put should store Response.redirect() correctly",
        departs="Location is not stored: it may be a signed address, which is a secret",
    )
    @in_loop
    async def test_redirect(self) -> None:
        """The status comes back."""
        async with empty() as cache:
            await cache.put(URL, Response(status=302, headers={"location": f"{SITE}/foo-bar.html"}))
            found = await cache.match(URL)
            assert found is not None
            assert (found.status, found.headers.get("location")) == (302, None)


@wpt("cache-add.https.any.js")
class TestAdd:
    @case("Cache.add called with no arguments")
    @in_loop
    async def test_no_arguments(self) -> None:
        """A TypeError."""
        async with empty() as cache:
            with pytest.raises(TypeError):
                await cache.add()  # type: ignore[call-arg] # on purpose

    @case("Cache.add called with relative URL specified as a string", departs=NO_BASE)
    @in_loop
    async def test_string(self) -> None:
        """A relative one is refused; an absolute one is fetched and put."""
        async with served() as (cache, origin):
            with pytest.raises(TypeError):
                await cache.add("./resources/simple.txt")
            result: object = await cache.add(origin.url_of("/simple.txt"))  # type: ignore[func-returns-value]
            assert result is None
            assert await text(await cache.match(origin.url_of("/simple.txt"))) == "a simple text file\n"

    @case("Cache.add called with non-HTTP/HTTPS URL")
    @in_loop
    async def test_not_http(self) -> None:
        """A TypeError."""
        async with empty() as cache:
            with pytest.raises(TypeError):
                await cache.add("javascript://this-is-not-http-mmkay")

    @case("Cache.add called with Request object")
    @in_loop
    async def test_request(self) -> None:
        """It is fetched, with the headers it has, and put."""
        async with served() as (cache, origin):
            await cache.add(Request(origin.url, headers=Headers([("x-mine", "1")])))
            assert await text(await cache.match(origin.url)) == TEXT.decode()
            assert {seen.headers["x-mine"] for seen in origin.requests} == {"1"}

    @case("Cache.add called with POST request")
    @in_loop
    async def test_post(self) -> None:
        """A TypeError, and nothing is sent."""
        async with served() as (cache, origin):
            with pytest.raises(TypeError):
                await cache.add(Request(origin.url, method="POST", body=b"This is a body."))
            assert origin.requests == []

    @case("Cache.add called twice with the same Request object")
    @in_loop
    async def test_twice(self) -> None:
        """It is put each time, as one entry."""
        async with served() as (cache, origin):
            request = Request(origin.url)
            await cache.add(request)
            await cache.add(request)
            assert await keys(cache) == [origin.url]

    @case("Cache.add with request with null body (not consumed)")
    @in_loop
    async def test_null_body(self) -> None:
        """A request without a body is a value, and may be used often."""
        async with served() as (cache, origin):
            await cache.add(Request(origin.url, body=None))
            assert await keys(cache) == [origin.url]

    @pytest.mark.parametrize(
        "status",
        [
            pytest.param(
                206,
                marks=case(
                    "Cache.add with 206 response",
                    departs="what bgfetch asks for in parts is put whole; a 206 that was not asked for is refused",
                ),
                id="206",
            ),
            pytest.param(404, marks=case("Cache.add with request that results in a status of 404"), id="404"),
            pytest.param(
                500,
                marks=case(
                    "Cache.add with request that results in a status of 500",
                    departs="it is tried again first, as every fetch",
                ),
                id="500",
            ),
        ],
    )
    @in_loop
    async def test_not_ok(self, status: int) -> None:
        """A TypeError or, of a server that cannot be understood or goes on failing, a FetchError; nothing is stored."""
        async with served() as (cache, origin):
            with pytest.raises((InvalidRequest, FetchError)):
                await cache.add(origin.url_of(f"/status/{status}"))
            assert await cache.keys() == []

    @case("Cache.addAll with 206 response", departs=NETWORK)
    @in_loop
    async def test_all_206(self) -> None:
        """One that is refused refuses them all."""
        async with served() as (cache, origin):
            with pytest.raises((InvalidRequest, FetchError)):
                await cache.add_all([origin.url_of("/status/206"), origin.url])
            assert await cache.keys() == []

    @case("Cache.addAll with no arguments")
    @in_loop
    async def test_all_no_arguments(self) -> None:
        """A TypeError."""
        async with empty() as cache:
            with pytest.raises(TypeError):
                await cache.add_all()  # type: ignore[call-arg] # on purpose

    @case("Cache.addAll with a mix of valid and undefined arguments")
    @in_loop
    async def test_all_undefined(self) -> None:
        """A TypeError, and nothing is fetched."""
        async with served() as (cache, origin):
            mixed: Any = [origin.url, None, origin.url_of("/blank.html")]
            with pytest.raises(TypeError):
                await cache.add_all(mixed)
            assert origin.requests == []

    @case("Cache.addAll with an empty array")
    @in_loop
    async def test_all_empty(self) -> None:
        """Nothing to do is done."""
        async with empty() as cache:
            await cache.add_all([])
            assert await cache.keys() == []

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(str, marks=case("Cache.addAll with string URL arguments"), id="strings"),
            pytest.param(Request, marks=case("Cache.addAll with Request arguments"), id="requests"),
        ],
    )
    @in_loop
    async def test_all(self, make: Callable[[str], str | Request]) -> None:
        """All are fetched and put, in the order given."""
        async with served() as (cache, origin):
            urls = [origin.url_of("/simple.txt"), origin.url]
            await cache.add_all([make(url) for url in urls])
            assert await keys(cache) == urls
            assert await texts(await cache.match_all()) == ["a simple text file\n", TEXT.decode()]

    @case("Cache.addAll with a mix of succeeding and failing requests")
    @in_loop
    async def test_all_failing(self) -> None:
        """One that fails means that none is put."""
        async with served() as (cache, origin):
            urls = [origin.url_of("/simple.txt"), origin.url_of("/should-not-exist"), origin.url]
            with pytest.raises(TypeError):
                await cache.add_all(urls)
            assert [await cache.match(url) for url in urls] == [None, None, None]

    @case("Cache.addAll called with the same Request object specified twice")
    @in_loop
    async def test_all_same(self) -> None:
        """An InvalidStateError."""
        async with served() as (cache, origin):
            request = Request(origin.url)
            with pytest.raises(InvalidState):
                await cache.add_all([request, request])

    @case("Cache.addAll should reject when entries differ only by fragment")
    @in_loop
    async def test_all_fragment(self) -> None:
        """They are one entry: an InvalidStateError."""
        async with served() as (cache, origin):
            with pytest.raises(InvalidState):
                await cache.add_all([f"{origin.url}#one", f"{origin.url}#two"])

    @case("Cache.addAll should succeed when entries differ by vary header")
    @in_loop
    async def test_all_vary(self) -> None:
        """They are two entries."""
        async with served() as (cache, origin):
            await cache.add_all([shaped(origin, "circle"), shaped(origin, "square")])
            assert len(await cache.keys()) == 2

    @case("Cache.addAll should reject when entries are duplicate by vary header")
    @in_loop
    async def test_all_vary_duplicate(self) -> None:
        """They are one entry: an InvalidStateError."""
        async with served() as (cache, origin):
            with pytest.raises(InvalidState):
                await cache.add_all([shaped(origin, "circle"), shaped(origin, "circle")])

    @case("Cache.addAll should succeed when an entry matches an earlier entry only under its own vary header")
    @in_loop
    async def test_all_vary_own(self) -> None:
        """The earlier one's header decides, and by that they differ."""
        async with served(circle="x-shape", square="x-size") as (cache, origin):
            await cache.add_all([shaped(origin, "circle"), shaped(origin, "square")])
            assert len(await cache.keys()) == 2

    @case(
        "Cache.addAll should reject when an entry matches an earlier entry under the earlier entry's vary header"
    )
    @in_loop
    async def test_all_vary_earlier(self) -> None:
        """By the earlier one's header they are the same: an InvalidStateError."""
        async with served(circle="x-shape", square="x-size") as (cache, origin):
            with pytest.raises(InvalidState):
                await cache.add_all([shaped(origin, "square"), shaped(origin, "circle")])


def shaped(origin: OriginServer, shape: str) -> Request:
    """A request to what varies."""
    return Request(origin.url_of("/vary"), headers=Headers([("x-shape", shape), ("x-size", "big")]))


@wpt("cache-abort.https.any.js")
class TestAbort:
    METHODS: tuple[str, ...] = ("put", "add", "addAll")

    @pytest.mark.parametrize(
        ("method", "when"),
        [
            pytest.param(
                method, when, marks=case(f"{method}() {title}", departs=CANCELLED), id=f"{method}-{when}"
            )
            for method in METHODS
            for when, title in {
                "before": "on an already-aborted request should reject with AbortError",
                "at once": "synchronously followed by abort should reject with AbortError",
                "after the head": "followed by abort after headers received should reject with AbortError",
            }.items()
        ],
    )
    @in_loop
    async def test_cancelled(self, method: str, when: str) -> None:
        """Whoever waits gets CancelledError, and nothing is stored."""
        body = bytes(1 << 20)
        async with page(worker=False) as it:
            cache = await it.app.caches.open("c")
            with OriginServer(body, rate=1e5) as origin:
                fetched = await it.background_fetch.fetch("x", origin.url) if method == "put" else None
                task: asyncio.Task[None] = asyncio.ensure_future(_stored(cache, origin, fetched))
                if when != "before":
                    await asyncio.sleep(0)
                if when == "after the head":
                    assert await off_loop(origin.wait_for, lambda: origin.bytes_sent > 0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await cache.keys() == []


async def _stored(cache: Cache, origin: OriginServer, fetched: Any) -> None:
    if fetched is None:
        await cache.add_all([origin.url])
    else:
        (record,) = await fetched.match_all()
        await cache.put(origin.url, await record.response_ready)


@wpt("cache-delete.https.any.js")
class TestDelete:
    @case("Cache.delete with no arguments")
    @in_loop
    async def test_no_arguments(self) -> None:
        """A TypeError."""
        async with empty() as cache:
            with pytest.raises(TypeError):
                await cache.delete()  # type: ignore[call-arg] # on purpose

    @pytest.mark.parametrize(
        "query",
        [
            pytest.param(URL, marks=case("Cache.delete called with a string URL"), id="string"),
            pytest.param(Request(URL), marks=case("Cache.delete called with a Request object"), id="request"),
        ],
    )
    @in_loop
    async def test_delete(self, query: str | Request) -> None:
        """True, and it is gone."""
        async with empty() as cache:
            await cache.put(URL, Response("Hello world!"))
            assert await cache.delete(query) is True
            assert await cache.match(URL) is None

    @case("Cache.delete called with a HEAD request")
    @in_loop
    async def test_head(self) -> None:
        """Another method removes nothing unless it is ignored."""
        async with empty() as cache:
            await cache.put(URL, Response("Hello world!"))
            assert await cache.delete(head(URL)) is False
            assert await text(await cache.match(URL)) == "Hello world!"
            assert await cache.delete(head(URL), ignore_method=True) is True

    @case("Cache.delete supports ignoreVary", departs=HIDDEN)
    @in_loop
    async def test_ignore_vary(self) -> None:
        """A variant is removed by another's request only when that is ignored."""
        async with empty() as cache:
            await cache.put(biscuit(BISCUITS[0]), Response("", headers={"Vary": "X-Biscuit"}))
            assert await cache.delete(biscuit(None)) is False
            assert await cache.delete(biscuit(None), ignore_vary=True) is True

    @case("Cache.delete with a non-existent entry")
    @in_loop
    async def test_nothing(self) -> None:
        """False."""
        async with empty() as cache:
            assert await cache.delete(URL) is False

    @pytest.mark.parametrize(
        ("ignore", "left"),
        [
            pytest.param(
                True,
                [],
                marks=case("Cache.delete with ignoreSearch option (request with search parameters)"),
                id="true",
            ),
            pytest.param(
                False,
                ["a"],
                marks=case("Cache.delete with ignoreSearch option (when it is specified as false)"),
                id="false",
            ),
        ],
    )
    @in_loop
    async def test_ignore_search(self, ignore: bool, left: list[str]) -> None:  # noqa: FBT001 - a parameter
        """Those that differ by the query go with it when it is ignored."""
        async with stocked() as cache:
            assert await texts(await cache.match_all(A_QUERY, ignore_search=True)) == ["a", "a_with_query"]
            await cache.delete(A_QUERY, ignore_search=ignore)
            assert await texts(await cache.match_all(A_QUERY, ignore_search=True)) == left


SAME: dict[str, str | Request] = {
    "URL": A,
    "Request": Request(A),
    "new Request": Request("HTTP://EXAMPLE.com:80/a"),
}
SEARCH = {"request with no search parameters": A, "request with search parameters": A_QUERY}


@wpt("cache-keys.https.any.js")
class TestKeys:
    @pytest.mark.parametrize(
        "args",
        [
            pytest.param((), marks=case("Cache.keys() called on an empty cache"), id="none"),
            pytest.param(
                (None,), marks=case("Cache.keys() with explicitly undefined request"), id="undefined"
            ),
        ],
    )
    @in_loop
    async def test_empty(self, args: tuple[Any, ...]) -> None:
        """No keys."""
        async with empty() as cache:
            assert await cache.keys(*args) == []

    @case("Cache.keys() with explicitly undefined request and empty options")
    @in_loop
    async def test_no_options(self) -> None:
        """No keys."""
        async with empty() as cache:
            assert await cache.keys(None) == []

    @case("Cache.keys with no matching entries")
    @in_loop
    async def test_nothing(self) -> None:
        """No keys."""
        async with stocked() as cache:
            assert await cache.keys(f"{SITE}/not-present-in-the-cache") == []

    @pytest.mark.parametrize(
        "query",
        [pytest.param(query, marks=case(f"Cache.keys with {name}"), id=name) for name, query in SAME.items()],
    )
    @in_loop
    async def test_query(self, query: str | Request) -> None:
        """Just the request of that URL."""
        async with stocked() as cache:
            assert await keys(cache, query) == [A]

    @pytest.mark.parametrize(
        "url",
        [
            pytest.param(url, marks=case(f"Cache.keys with ignoreSearch option ({name})"), id=name)
            for name, url in SEARCH.items()
        ],
    )
    @in_loop
    async def test_ignore_search(self, url: str) -> None:
        """Every query of the URL, in the order put."""
        async with stocked() as cache:
            assert await keys(cache, url, ignore_search=True) == [A, A_QUERY]

    @case("Cache.keys supports ignoreMethod")
    @in_loop
    async def test_ignore_method(self) -> None:
        """HEAD finds a GET only when the method is ignored."""
        async with empty() as cache:
            await cache.put(f"{SITE}/", Response("foo"))
            assert await keys(cache, head(f"{SITE}/")) == []
            assert await keys(cache, head(f"{SITE}/"), ignore_method=True) == [f"{SITE}/"]

    @case("Cache.keys supports ignoreVary", departs=HIDDEN)
    @in_loop
    async def test_ignore_vary(self) -> None:
        """A variant is found by another's request only when that is ignored."""
        async with empty() as cache:
            await cache.put(biscuit(BISCUITS[0]), Response("", headers={"Vary": "X-Biscuit"}))
            assert await keys(cache, biscuit(None)) == []
            assert await keys(cache, biscuit(None), ignore_vary=True) == [VARIED]

    @case("Cache.keys with URL containing fragment")
    @in_loop
    async def test_fragment(self) -> None:
        """The fragment does not count."""
        async with stocked() as cache:
            assert await keys(cache, f"{CAT}#mouse") == [CAT]

    @case('Cache.keys with string fragment "http" as query', departs=NO_BASE)
    @in_loop
    async def test_string_fragment(self) -> None:
        """A piece of a URL finds nothing."""
        async with stocked() as cache:
            with pytest.raises(TypeError):
                await cache.keys("http")

    @case("Cache.keys without parameters")
    @in_loop
    async def test_all(self) -> None:
        """All requests, in the order put."""
        async with stocked() as cache:
            assert await keys(cache) == URLS

    @case("Cache.keys without parameters and VARY entries", departs=HIDDEN)
    @in_loop
    async def test_all_varied(self) -> None:
        """Each variant is one, with its headers."""
        async with varied() as cache:
            assert [key.headers.get("x-biscuit") for key in await cache.keys()] == list(BISCUITS)

    @case("Cache.keys with a HEAD Request")
    @in_loop
    async def test_head(self) -> None:
        """Another method finds nothing."""
        async with stocked() as cache:
            assert await keys(cache, head(CAT)) == []


@wpt("cache-match.https.any.js")
class TestMatch:
    @case("Cache.match with no matching entries", departs=NONE)
    @in_loop
    async def test_nothing(self) -> None:
        """None."""
        async with stocked() as cache:
            assert await cache.match(f"{SITE}/not-present-in-the-cache") is None

    @pytest.mark.parametrize(
        "query",
        [
            pytest.param(query, marks=case(f"Cache.match with {name}"), id=name)
            for name, query in SAME.items()
        ],
    )
    @in_loop
    async def test_query(self, query: str | Request) -> None:
        """The entry of that URL."""
        async with stocked() as cache:
            assert await text(await cache.match(query)) == "a"

    @case("Cache.match with multiple cache hits")
    @in_loop
    async def test_multiple(self) -> None:
        """A cache answers from itself, whatever another one holds."""
        async with storage() as caches:
            first, second = await caches.open("c"), await caches.open("second_matching_cache")
            await first.put(A, Response("a"))
            await second.put(A, Response("", status=201))
            assert await text(await first.match(A)) == "a"

    @pytest.mark.parametrize(
        "method",
        [
            pytest.param("HEAD", marks=case("Cache.match with HEAD"), id="head"),
            pytest.param("POST", marks=case("Cache.match with POST Request"), id="post"),
        ],
    )
    @in_loop
    async def test_method(self, method: str) -> None:
        """Another method finds nothing."""
        async with stocked() as cache:
            assert await cache.match(Request(A, method=method)) is None

    @pytest.mark.parametrize(
        "url",
        [
            pytest.param(
                A,
                marks=case("Cache.match with ignoreSearch option (request with no search parameters)"),
                id="none",
            ),
            pytest.param(
                A_QUERY,
                marks=case("Cache.match with ignoreSearch option (request with search parameter)"),
                id="some",
            ),
        ],
    )
    @in_loop
    async def test_ignore_search(self, url: str) -> None:
        """The first that was put of those that differ by the query."""
        async with stocked() as cache:
            assert await text(await cache.match(url, ignore_search=True)) == "a"

    @case("Cache.match supports ignoreMethod")
    @in_loop
    async def test_ignore_method(self) -> None:
        """HEAD finds a GET only when the method is ignored."""
        async with empty() as cache:
            await cache.put(f"{SITE}/", Response("foo"))
            assert await cache.match(head(f"{SITE}/")) is None
            assert await text(await cache.match(head(f"{SITE}/"), ignore_method=True)) == "foo"

    @case("Cache.match supports ignoreVary", departs=HIDDEN)
    @in_loop
    async def test_ignore_vary(self) -> None:
        """A variant is found by another's request only when that is ignored."""
        async with empty() as cache:
            await cache.put(biscuit(BISCUITS[0]), Response("x", headers={"Vary": "X-Biscuit"}))
            assert await cache.match(biscuit(None)) is None
            assert await text(await cache.match(biscuit(None), ignore_vary=True)) == "x"

    @case(
        "Cache.match does not support cacheName option",
        departs="an option that there is not is a TypeError, as in Python",
    )
    @in_loop
    async def test_cache_name(self) -> None:
        """Only the storage has it."""
        async with empty() as cache:
            with pytest.raises(TypeError):
                await cache.match(URL, cache_name="foo")  # type: ignore[call-arg] # on purpose

    @case("Cache.match with URL containing fragment")
    @in_loop
    async def test_fragment(self) -> None:
        """The fragment does not count."""
        async with stocked() as cache:
            assert await text(await cache.match(f"{CAT}#mouse")) == "cat"

    @case('Cache.match with string fragment "http" as query', departs=NO_BASE)
    @in_loop
    async def test_string_fragment(self) -> None:
        """A piece of a URL finds nothing."""
        async with stocked() as cache:
            with pytest.raises(TypeError):
                await cache.match("http")

    @case('Cache.match with responses containing "Vary" header', departs=HIDDEN)
    @in_loop
    async def test_vary(self) -> None:
        """Who has none of the headers gets the one stored without."""
        async with varied() as cache:
            assert await text(await cache.match(VARIED)) == "None"

    @case("Cache.match with Request and Response objects with different URLs")
    @in_loop
    async def test_different_urls(self) -> None:
        """What was asked finds it, what answered does not."""
        async with empty() as cache:
            await cache.put(SITE, Response("x", url="https://cdn.example/simple.txt"))
            found = await cache.match(SITE)
            assert found is not None
            assert found.url == "https://cdn.example/simple.txt"
            assert await cache.match(found.url) is None

    @case("Cache.match invoked multiple times for the same Request/Response")
    @in_loop
    async def test_repeatedly(self) -> None:
        """Each time the body can be read."""
        async with served() as (cache, origin):
            url = origin.url_of("/simple.txt")
            await cache.add(url)
            assert [await text(await cache.match(url)) for _ in range(2)] == ["a simple text file\n"] * 2

    @case("Cache.match with a non-2xx Response")
    @in_loop
    async def test_non_2xx(self) -> None:
        """Its status comes back."""
        async with stocked() as cache:
            found = await cache.match(SIMPLE["non_2xx_response"][0])
            assert found is not None
            assert (found.status, found.ok) == (404, False)

    @case("Cache.match with a network error Response")
    @in_loop
    async def test_network_error(self) -> None:
        """Even that can be stored, and comes back."""
        async with stocked() as cache:
            found = await cache.match(SIMPLE["error_response"][0])
            assert found is not None
            assert (found.status, found.ok) == (0, False)

    @case("Cache produces large Responses that can be cloned and read correctly.")
    @in_loop
    async def test_large_clones(self) -> None:
        """One side of a clone may stay unread."""
        data = "F," * (1 << 20) + "F"
        async with empty() as cache:
            await cache.put(URL, Response(data))
            found = await cache.match(URL)
            assert found is not None
            assert await found.clone().text() == data
            assert not found.body_used

    @case("cors-exposed header should be stored correctly.", departs="no header is hidden: there is no CORS")
    @in_loop
    async def test_headers(self) -> None:
        """Cookies are not stored, everything else is."""
        async with empty() as cache:
            fields = {"access-control-expose-headers": "*", "foo": "bar", "set-cookie": "X"}
            await cache.put(URL, Response("x", headers=fields))
            found = await cache.match(URL)
            assert found is not None
            assert [found.headers.get(name) for name in fields] == ["*", "bar", None]

    @pytest.mark.parametrize(
        "type_",
        [
            pytest.param(
                "text/html", marks=case("MIME type should be set from content-header correctly."), id="kept"
            ),
            pytest.param(
                "text/plain;charset=UTF-8",
                marks=case(
                    "MIME type should reflect Content-Type headers of response.",
                    departs="there are no blobs: the header is the type",
                ),
                id="made",
            ),
        ],
    )
    @in_loop
    async def test_mime_type(self, type_: str) -> None:
        """Content-Type comes back as it was put."""
        async with empty() as cache:
            await cache.put(URL, Response("hello world", headers={"content-type": type_}))
            found = await cache.match(URL)
            assert found is not None
            assert found.headers["content-type"] == type_


@wpt("cache-matchAll.https.any.js")
class TestMatchAll:
    @case("Cache.matchAll with no matching entries")
    @in_loop
    async def test_nothing(self) -> None:
        """An empty list."""
        async with stocked() as cache:
            assert await cache.match_all(f"{SITE}/not-present-in-the-cache") == []

    @pytest.mark.parametrize(
        "query",
        [
            pytest.param(query, marks=case(f"Cache.matchAll with {name}"), id=name)
            for name, query in SAME.items()
        ],
    )
    @in_loop
    async def test_query(self, query: str | Request) -> None:
        """Just the entry of that URL."""
        async with stocked() as cache:
            assert await texts(await cache.match_all(query)) == ["a"]

    @case("Cache.matchAll with HEAD")
    @in_loop
    async def test_head(self) -> None:
        """Another method finds nothing."""
        async with stocked() as cache:
            assert await cache.match_all(head(A), ignore_search=True) == []

    @pytest.mark.parametrize(
        "url",
        [
            pytest.param(url, marks=case(f"Cache.matchAll with ignoreSearch option ({name})"), id=name)
            for name, url in SEARCH.items()
        ],
    )
    @in_loop
    async def test_ignore_search(self, url: str) -> None:
        """Every query of the URL, in the order put."""
        async with stocked() as cache:
            assert await texts(await cache.match_all(url, ignore_search=True)) == ["a", "a_with_query"]

    @case("Cache.matchAll supports ignoreMethod")
    @in_loop
    async def test_ignore_method(self) -> None:
        """HEAD finds a GET only when the method is ignored."""
        async with empty() as cache:
            await cache.put(f"{SITE}/", Response("foo"))
            assert await cache.match_all(head(f"{SITE}/")) == []
            assert await texts(await cache.match_all(head(f"{SITE}/"), ignore_method=True)) == ["foo"]

    @case("Cache.matchAll supports ignoreVary", departs=HIDDEN)
    @in_loop
    async def test_ignore_vary(self) -> None:
        """A variant is found by another's request only when that is ignored."""
        async with empty() as cache:
            await cache.put(biscuit(BISCUITS[0]), Response("x", headers={"Vary": "X-Biscuit"}))
            assert await cache.match_all(biscuit(None)) == []
            assert await texts(await cache.match_all(biscuit(None), ignore_vary=True)) == ["x"]

    @case("Cache.matchAll with URL containing fragment")
    @in_loop
    async def test_fragment(self) -> None:
        """The fragment does not count."""
        async with stocked() as cache:
            assert await texts(await cache.match_all(f"{CAT}#mouse")) == ["cat"]

    @case('Cache.matchAll with string fragment "http" as query', departs=NO_BASE)
    @in_loop
    async def test_string_fragment(self) -> None:
        """A piece of a URL finds nothing."""
        async with stocked() as cache:
            with pytest.raises(TypeError):
                await cache.match_all("http")

    @pytest.mark.parametrize(
        ("args", "options"),
        [
            pytest.param((), {}, marks=case("Cache.matchAll without parameters"), id="none"),
            pytest.param(
                (None,), {}, marks=case("Cache.matchAll with explicitly undefined request"), id="undefined"
            ),
            pytest.param(
                (None,),
                {"ignore_search": False},
                marks=case("Cache.matchAll with explicitly undefined request and empty options"),
                id="options",
            ),
        ],
    )
    @in_loop
    async def test_all(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Everything, in the order put."""
        async with stocked() as cache:
            assert await texts(await cache.match_all(*args, **options)) == list(SIMPLE)

    @case('Cache.matchAll with responses containing "Vary" header', departs=HIDDEN)
    @in_loop
    async def test_vary(self) -> None:
        """The whole value must be the same, and an absent header equals an absent one only."""
        async with varied() as cache:
            assert await texts(await cache.match_all(VARIED)) == ["None"]
            assert await cache.match_all(biscuit("none-of-the-above")) == []
            assert await texts(await cache.match_all(biscuit(BISCUITS[0]))) == [BISCUITS[0]]

    @case("Cache.matchAll with multiple vary pairs", departs=HIDDEN)
    @in_loop
    async def test_vary_pairs(self) -> None:
        """All variants, in the order put."""
        async with varied() as cache:
            found = await cache.match_all(VARIED, ignore_vary=True)
            assert await texts(found) == [str(each) for each in BISCUITS]


@wpt("cache-storage.https.any.js")
class TestStorage:
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("cache-storage/foo", marks=case("CacheStorage.open"), id="name"),
            pytest.param("", marks=case("CacheStorage.open with an empty name"), id="empty"),
        ],
    )
    @in_loop
    async def test_open(self, name: str) -> None:
        """A cache."""
        async with storage() as caches:
            assert isinstance(await caches.open(name), Cache)

    @case("CacheStorage.delete dooms, but does not delete immediately")
    @in_loop
    async def test_dooms(self) -> None:
        """Whoever holds it goes on with it; who opens one of that name gets a new one."""
        async with served() as (_, origin), storage() as caches:
            first = await caches.open("bar")
            await caches.delete("bar")
            await first.add(origin.url)
            assert "bar" not in await caches.keys()
            second = await caches.open("bar")
            assert await second.keys() == []
            assert len(await first.keys()) == 1

    @case("CacheStorage.open with no arguments")
    @in_loop
    async def test_no_arguments(self) -> None:
        """A TypeError."""
        async with storage() as caches:
            with pytest.raises(TypeError):
                await caches.open()  # type: ignore[call-arg] # on purpose

    @case("CacheStorage.has with existing cache")
    @in_loop
    async def test_has(self) -> None:
        """Names are compared exactly."""
        names = {
            "lowercase": ["Lowercase", " lowercase", "lowercase "],
            "has a space": ["has"],
            "has\0_in_the_name": ["has", "has_in_the_name"],
        }
        async with storage() as caches:
            for name, others in names.items():
                await caches.open(name)
                assert await caches.has(name)
                assert [await caches.has(other) for other in others] == [False] * len(others)

    @case("CacheStorage.has with nonexistent cache")
    @in_loop
    async def test_has_not(self) -> None:
        """False."""
        async with storage() as caches:
            assert await caches.has("cheezburger") is False

    @case("CacheStorage.open with existing cache")
    @in_loop
    async def test_reopen(self) -> None:
        """Another object over the same store."""
        async with storage() as caches:
            first = await caches.open("c")
            await first.put(URL, Response("x"))
            second = await caches.open("c")
            assert second is not first
            assert await second.keys() == await first.keys()

    @case("CacheStorage.delete with existing cache")
    @in_loop
    async def test_delete(self) -> None:
        """True, and it is gone."""
        async with storage() as caches:
            await caches.open("c")
            assert await caches.delete("c") is True
            assert await caches.has("c") is False

    @case("CacheStorage.delete with nonexistent cache")
    @in_loop
    async def test_delete_nothing(self) -> None:
        """False."""
        async with storage() as caches:
            assert await caches.delete("cheezburger") is False

    @case("CacheStorage names are DOMStrings not USVStrings")
    @in_loop
    async def test_lone_surrogates(self) -> None:
        """A name is kept as it is, half a character too."""
        async with storage() as caches:
            await caches.open("unpaired\ud800")
            assert await caches.keys() == ["unpaired\ud800"]
            assert await caches.has("unpaired\ud800") is True
            assert await caches.has("unpaired\ufffd") is False


@wpt("cache-storage-keys.https.any.js")
@case("CacheStorage keys")
@in_loop
async def test_storage_keys() -> None:
    """Names in the order the caches were made."""
    names = ["", "example", "Another cache name", "A", "a", "ex ample"]
    async with storage() as caches:
        for name in names:
            await caches.open(name)
        assert await caches.keys() == names


@wpt("cache-storage-match.https.any.js")
class TestStorageMatch:
    @pytest.mark.parametrize(
        ("put", "asked"),
        [
            pytest.param(
                Request(URL),
                Request(URL),
                marks=case("CacheStorageMatch with no cache name provided"),
                id="request",
            ),
            pytest.param(URL, Request(URL), marks=case("CacheStorageMatch a string request"), id="string"),
        ],
    )
    @in_loop
    async def test_no_name(self, put: str | Request, asked: Request) -> None:
        """Every cache is looked into."""
        async with storage() as caches:
            await (await caches.open("c")).put(put, Response("hello"))
            assert await text(await caches.match(asked)) == "hello"

    @case("CacheStorageMatch from one of many caches")
    @in_loop
    async def test_many(self) -> None:
        """The cache made first wins."""
        async with storage() as caches:
            for name in ("c", "a", "b"):
                await (await caches.open(name)).put(URL, Response(name))
            assert await text(await caches.match(URL)) == "c"

    @case("CacheStorageMatch from one of many caches by name", departs=NONE)
    @in_loop
    async def test_by_name(self) -> None:
        """The one that is named answers, or nobody."""
        async with storage() as caches:
            for name in "xyz":
                await caches.open(name)
            await (await caches.open("x")).put(URL, Response("hello"))
            assert await text(await caches.match(URL, cache_name="x")) == "hello"
            assert await caches.match(URL, cache_name="y") is None

    @case("CacheStorageMatch a HEAD request", departs=NONE)
    @in_loop
    async def test_head(self) -> None:
        """Another method finds nothing."""
        async with storage() as caches:
            await (await caches.open("c")).put(URL, Response("hello"))
            assert await caches.match(head(URL)) is None

    @case("CacheStorageMatch with no cached entry", departs=NONE)
    @in_loop
    async def test_nothing(self) -> None:
        """None."""
        async with storage() as caches:
            await caches.open("c")
            assert await caches.match(URL) is None

    @case("CacheStorageMatch with no caches available but name provided", departs=NONE)
    @in_loop
    async def test_no_caches(self) -> None:
        """None, and asking makes no cache."""
        async with storage() as caches:
            assert await caches.match(URL, cache_name="foo") is None
            assert await caches.has("foo") is False

    @case("CacheStorageMatch with empty cache name provided")
    @in_loop
    async def test_empty_name(self) -> None:
        """The empty name is a name, not the absence of one."""
        async with storage() as caches:
            await (await caches.open("c")).put(URL, Response("hello"))
            assert await caches.match(URL, cache_name="") is None
            await (await caches.open("")).put(URL, Response("empty"))
            assert await text(await caches.match(URL, cache_name="")) == "empty"

    @pytest.mark.parametrize(
        ("put", "asked", "option"),
        [
            pytest.param(
                Request(f"{SITE}/?foo"),
                Request(f"{SITE}/"),
                "ignore_search",
                marks=case("CacheStorageMatch supports ignoreSearch"),
                id="search",
            ),
            pytest.param(
                Request(f"{SITE}/"),
                head(f"{SITE}/"),
                "ignore_method",
                marks=case("Cache.match supports ignoreMethod"),
                id="method",
            ),
            pytest.param(
                biscuit(BISCUITS[0]),
                biscuit(None),
                "ignore_vary",
                marks=case("CacheStorageMatch supports ignoreVary", departs=HIDDEN),
                id="vary",
            ),
        ],
    )
    @in_loop
    async def test_options(self, put: Request, asked: Request, option: str) -> None:
        """What differs is found only when the difference is ignored."""
        async with storage() as caches:
            await (await caches.open("c")).put(put, Response("foo", headers={"Vary": "X-Biscuit"}))
            assert await caches.match(asked) is None
            ignored: Any = {option: True}
            assert await text(await caches.match(asked, **ignored)) == "foo"
