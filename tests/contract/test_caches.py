"""What Cache and CacheStorage promise: each case of web-platform-tests that makes sense here, on both stores.

The classes are the files of `service-workers/cache-storage`, the tests their cases; what is ours comes last. Opaque,
CORS, blob and form-data cases are the browser's alone. A relative URL is refused, since there is no page.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec

import pytest

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.entries import Entries, MemoryEntries, SqliteEntries
from bgfetch.cache.links import Links
from bgfetch.cache.partials import Partials
from bgfetch.caches import Cache, CacheStorage
from bgfetch.core.model import Headers, Request, Verified
from bgfetch.database import Database
from bgfetch.errors import Aborted, CacheError, InvalidRequest, InvalidState, NetworkError, QuotaExceeded
from bgfetch.response import FileBody, GrowingBody, Response, Stand
from bgfetch.vfs import Vfs

P = ParamSpec("P")
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
SHAPES = ("circle", "square", None)


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test, run to its end in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Shop:
    """A storage, what it stands on, and the pages that its `add` can fetch."""

    def __init__(self, root: Path, entries: Entries) -> None:
        self.entries = entries
        self.vfs = Vfs()
        self.blobs = Blobs(root / "blobs", self.vfs)
        self.partials = Partials(root / "partials", self.vfs)
        self.partials_root = root / "partials"
        self.links = Links(root / "names", self.vfs)
        self.now = 1000.0
        self.pages: dict[str, Response] = {}
        self.storage = self.of("app")

    def of(self, scope: str) -> CacheStorage:
        """The storage of a scope."""
        return CacheStorage(
            scope, self.entries, self.blobs, self.partials, self.links, lambda: self.now, fetch=self.fetch
        )

    @asynccontextmanager
    async def fetch(self, request: Request) -> AsyncIterator[Response]:
        """What a page answers; a vary page tells what it varies by."""
        page = self.pages.get(request.url.partition("#")[0])
        if page is None:
            raise NetworkError("no route")
        yield page.clone()


@pytest.fixture(params=["memory", "sqlite"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Each store of entries in turn."""
    if request.param == "memory":
        yield Shop(tmp_path, MemoryEntries())
        return
    database = Database.open(tmp_path / "state" / "bgfetch.sqlite3", now=0.0)
    yield Shop(tmp_path, SqliteEntries(database))
    database.close()


def asking(url: str = URL, method: str = "GET", **headers: str) -> Request:
    """A request; `x_shape` names the header x-shape."""
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request(url, method, Headers(pairs))


async def one(shop: Shop) -> Cache:
    """An empty cache."""
    return await shop.storage.open("c")


async def stocked(shop: Shop) -> Cache:
    """A cache with an entry for each of SIMPLE, whose body says which."""
    cache = await one(shop)
    for name, (url, status) in SIMPLE.items():
        await cache.put(url, Response(name, status=status))
    return cache


async def varied(shop: Shop) -> Cache:
    """A cache with entries of one URL that vary by x-shape, and one without that header."""
    cache = await one(shop)
    for shape in SHAPES:
        request = asking() if shape is None else asking(x_shape=shape)
        await cache.put(request, Response(str(shape), headers={"vary": "X-Shape"}))
    return cache


async def text(found: Response | None) -> str | None:
    """The body of what was found."""
    return None if found is None else await found.text()


async def texts(found: list[Response]) -> list[str]:
    """The bodies of what was found."""
    return [await each.text() for each in found]


class TestPut:
    """cache-put.https.any.js."""

    @in_loop
    async def test_called_with_simple_request_and_response(self, shop: Shop) -> None:
        """It gives nothing, and the pair is there."""
        cache = await one(shop)
        result: object = await cache.put(asking(), Response("Hello world!"))  # type: ignore[func-returns-value]
        assert result is None
        assert await text(await cache.match(asking())) == "Hello world!"

    @in_loop
    async def test_called_with_request_and_response_from_fetch(self, shop: Shop) -> None:
        """Status, headers, URL and body come back."""
        cache = await one(shop)
        headers = Headers([("content-type", "text/x"), ("x", "1"), ("x", "2")])
        await cache.put(URL, Response(b"simple\n", headers=headers, url=URL))
        found = await cache.match(URL)
        assert found is not None
        assert (found.status, found.ok, found.url, found.headers) == (200, True, URL, headers)
        assert await found.read() == b"simple\n"

    @in_loop
    async def test_with_request_without_a_body(self, shop: Shop) -> None:
        """The request is not changed by it, and may be put again."""
        cache = await one(shop)
        request = asking()
        await cache.put(request, Response("1"))
        await cache.put(request, Response("2"))
        assert request == asking()

    @in_loop
    async def test_with_response_without_a_body(self, shop: Shop) -> None:
        """No body is never used, so the same response may be put twice."""
        cache = await one(shop)
        response = Response()
        await cache.put(URL, response)
        assert not response.body_used
        await cache.put(URL, response)
        assert await text(await cache.match(URL)) == ""

    @in_loop
    async def test_with_a_response_containing_an_empty_url(self, shop: Shop) -> None:
        """A response made here keeps having no URL."""
        cache = await one(shop)
        await cache.put(URL, Response("x"))
        found = await cache.match(URL)
        assert found is not None
        assert found.url == ""

    @in_loop
    async def test_with_an_empty_response_body(self, shop: Shop) -> None:
        """Nothing is stored as nothing, with its head."""
        cache = await one(shop)
        await cache.put(URL, Response("", headers=[("Content-Type", "text/plain")]))
        found = await cache.match(URL)
        assert found is not None
        assert (found.status, found.headers["Content-Type"], await found.text()) == (200, "text/plain", "")

    @pytest.mark.parametrize("url", ["", URL], ids=["synthetic", "http"])
    @in_loop
    async def test_with_synthetic_or_http_206_response(self, shop: Shop, url: str) -> None:
        """A part of a body is refused."""
        cache = await one(shop)
        with pytest.raises(InvalidRequest, match="206"):
            await cache.put(URL, Response("", status=206, url=url))
        assert await cache.keys() == []

    @in_loop
    async def test_with_http_500_response(self, shop: Shop) -> None:
        """An error is stored like everything else."""
        cache = await one(shop)
        await cache.put(URL, Response("", status=500))
        found = await cache.match(URL)
        assert found is not None
        assert (found.status, found.ok, await found.text()) == (500, False, "")

    @in_loop
    async def test_called_twice_with_matching_requests_and_different_responses(self, shop: Shop) -> None:
        """The second replaces the first."""
        cache = await one(shop)
        await cache.put(asking(), Response("Old body", status=201))
        await cache.put(asking(), Response("New body"))
        found = await cache.match(URL)
        assert found is not None
        assert (found.status, await found.text()) == (200, "New body")
        assert len(await cache.keys()) == 1

    @in_loop
    async def test_called_multiple_times_with_urls_that_differ_only_by_a_fragment(self, shop: Shop) -> None:
        """They are one entry, and its URL is the last one used."""
        cache = await one(shop)
        await cache.put(asking(), Response("Old body"))
        await cache.put(asking(f"{URL}#(O_o)"), Response("New body"))
        assert await text(await cache.match(URL)) == "New body"
        await cache.put(asking(f"{URL}#fragment"), Response("New body"))
        assert [request.url for request in await cache.keys()] == [f"{URL}#fragment"]

    @in_loop
    async def test_with_a_string_request(self, shop: Shop) -> None:
        """A URL stands for a GET of it."""
        cache = await one(shop)
        await cache.put(f"{SITE}/foo", Response("some body"))
        assert await text(await cache.match(f"{SITE}/foo")) == "some body"

    @pytest.mark.parametrize("response", ["Hello world!", None], ids=["invalid", "null"])
    @in_loop
    async def test_with_an_invalid_or_null_response(self, shop: Shop, response: Any) -> None:
        """Only a Response is stored."""
        cache = await one(shop)
        with pytest.raises(InvalidRequest):
            await cache.put(URL, response)

    @in_loop
    async def test_with_a_non_http_request(self, shop: Shop) -> None:
        """Files and the like are not cached."""
        cache = await one(shop)
        with pytest.raises(InvalidRequest, match="http"):
            await cache.put("file:///etc/passwd", Response("x"))

    @pytest.mark.parametrize("url", ["relative-url", "", "//host/x", "/x"])
    @in_loop
    async def test_with_a_relative_url(self, shop: Shop, url: str) -> None:
        """Ours: it is refused, for there is no page it could be relative to."""
        cache = await one(shop)
        with pytest.raises(InvalidRequest, match="absolute"):
            await cache.put(url, Response("x"))

    @pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "post"])
    @in_loop
    async def test_with_a_non_get_request(self, shop: Shop, method: str) -> None:
        """Only GET is stored."""
        cache = await one(shop)
        with pytest.raises(InvalidRequest, match="GET"):
            await cache.put(replace(asking(method=method), body=b"x"), Response("x"))

    @in_loop
    async def test_with_a_used_response_body(self, shop: Shop) -> None:
        """What was read cannot be stored."""
        cache = await one(shop)
        response = Response("x")
        await response.text()
        assert response.body_used
        with pytest.raises(InvalidRequest, match="used"):
            await cache.put(URL, response)
        assert await cache.match(URL) is None

    @in_loop
    async def test_get_reader_after_put(self, shop: Shop) -> None:
        """What was stored cannot be read from the same response."""
        cache = await one(shop)
        response = Response("x")
        await cache.put(URL, response)
        assert response.body_used
        with pytest.raises(InvalidRequest, match="used"):
            await response.read()

    @pytest.mark.parametrize("vary", ["*", "Accept-Language,*", " * "])
    @in_loop
    async def test_with_a_vary_star_response(self, shop: Shop, vary: str) -> None:
        """What could never be found is refused, alone and in a list."""
        cache = await one(shop)
        with pytest.raises(InvalidRequest, match="Vary"):
            await cache.put(URL, Response("x", headers={"VARY": vary}))

    @in_loop
    async def test_should_store_redirect_correctly(self, shop: Shop) -> None:
        """A redirect is stored as such; ours: without Location, which may be a signed address."""
        cache = await one(shop)
        await cache.put(URL, Response(status=302, headers={"location": f"{SITE}/foo-bar.html"}))
        found = await cache.match(URL)
        assert found is not None
        assert (found.status, found.headers.get("location")) == (302, None)


class TestMatch:
    """cache-match.https.any.js."""

    @in_loop
    async def test_with_no_matching_entries(self, shop: Shop) -> None:
        """Nothing is found where nothing is."""
        assert await (await stocked(shop)).match(f"{SITE}/not-present-in-the-cache") is None

    @pytest.mark.parametrize("name", SIMPLE)
    @in_loop
    async def test_with_url(self, shop: Shop, name: str) -> None:
        """Each URL finds its own entry."""
        assert await text(await (await stocked(shop)).match(SIMPLE[name][0])) == name

    @in_loop
    async def test_with_request_and_new_request(self, shop: Shop) -> None:
        """An equal request finds what the first one stored."""
        cache = await stocked(shop)
        assert await text(await cache.match(asking(f"{SITE}/a"))) == "a"
        assert await text(await cache.match(Request("HTTP://EXAMPLE.com:80/a"))) == "a"

    @in_loop
    async def test_with_multiple_cache_hits(self, shop: Shop) -> None:
        """A cache answers from itself, whatever another one holds."""
        cache = await stocked(shop)
        other = await shop.storage.open("second_matching_cache")
        await other.put(f"{SITE}/a", Response("other", status=201))
        assert await text(await cache.match(f"{SITE}/a")) == "a"

    @pytest.mark.parametrize("method", ["HEAD", "POST"])
    @in_loop
    async def test_with_head_or_post_request(self, shop: Shop, method: str) -> None:
        """Another method finds nothing."""
        assert await (await stocked(shop)).match(asking(f"{SITE}/a", method)) is None

    @pytest.mark.parametrize("name", ["a", "a_with_query"])
    @in_loop
    async def test_with_ignore_search(self, shop: Shop, name: str) -> None:
        """The query counts on neither side, and the first that was put wins."""
        cache = await stocked(shop)
        assert await text(await cache.match(SIMPLE[name][0], ignore_search=True)) == "a"

    @in_loop
    async def test_supports_ignore_method(self, shop: Shop) -> None:
        """HEAD finds a GET only when the method is ignored."""
        cache = await one(shop)
        await cache.put(asking(), Response("foo"))
        head = asking(method="HEAD")
        assert await cache.match(head) is None
        assert await text(await cache.match(head, ignore_method=True)) == "foo"

    @in_loop
    async def test_supports_ignore_vary(self, shop: Shop) -> None:
        """A request that differs in what the response varies by finds it only when that is ignored."""
        cache = await one(shop)
        await cache.put(asking(x_shape="circle"), Response("o", headers={"Vary": "X-Shape"}))
        assert await cache.match(asking()) is None
        assert await text(await cache.match(asking(), ignore_vary=True)) == "o"

    @in_loop
    async def test_does_not_support_cache_name_option(self, shop: Shop) -> None:
        """Only the storage has that option."""
        cache: Any = await one(shop)
        with pytest.raises(TypeError, match="cache_name"):
            await cache.match(URL, cache_name="foo")

    @in_loop
    async def test_with_url_containing_fragment(self, shop: Shop) -> None:
        """The fragment does not count."""
        assert await text(await (await stocked(shop)).match(f"{SITE}/cat#mouse")) == "cat"

    @in_loop
    async def test_with_string_fragment_http_as_query(self, shop: Shop) -> None:
        """A piece of a URL finds nothing; as a relative URL it is refused here."""
        cache = await stocked(shop)
        with pytest.raises(InvalidRequest):
            await cache.match("http")
        assert await cache.match("http://e") is None
        assert await cache.match("file:///a") is None

    @in_loop
    async def test_with_responses_containing_vary_header(self, shop: Shop) -> None:
        """Each variant answers the request it was made for."""
        cache = await varied(shop)
        assert await text(await cache.match(URL)) == "None"
        assert await text(await cache.match(asking(X_Shape="square"))) == "square"
        assert await cache.match(asking(x_shape="")) is None

    @in_loop
    async def test_with_request_and_response_objects_with_different_urls(self, shop: Shop) -> None:
        """What was asked finds it, what answered does not."""
        cache = await one(shop)
        await cache.put(URL, Response("x", url="https://cdn.example/x"))
        found = await cache.match(URL)
        assert found is not None
        assert found.url == "https://cdn.example/x"
        assert await cache.match(found.url) is None

    @in_loop
    async def test_invoked_multiple_times_for_the_same_request(self, shop: Shop) -> None:
        """Each time the body can be read."""
        cache = await one(shop)
        await cache.put(URL, Response("a simple text file\n"))
        assert [await text(await cache.match(URL)) for _ in range(2)] == ["a simple text file\n"] * 2

    @in_loop
    async def test_with_a_non_2xx_response(self, shop: Shop) -> None:
        """Its status comes back."""
        found = await (await stocked(shop)).match(f"{SITE}/non2xx")
        assert found is not None
        assert (found.status, found.ok) == (404, False)

    @in_loop
    async def test_with_a_network_error_response(self, shop: Shop) -> None:
        """Even that can be stored, and comes back."""
        found = await (await stocked(shop)).match(f"{SITE}/error")
        assert found is not None
        assert (found.status, found.ok) == (0, False)

    @in_loop
    async def test_large_responses_can_be_cloned_and_read_correctly(self, shop: Shop) -> None:
        """One side of a clone may stay unread."""
        cache = await one(shop)
        data = bytes(range(256)) * (5 << 12) + b"end"  # 5 MiB and a little
        await cache.put(URL, Response(data))
        found = await cache.match(URL)
        assert found is not None
        assert await found.clone().read() == data
        assert not found.body_used

    @in_loop
    async def test_headers_are_stored_correctly(self, shop: Shop) -> None:
        """Cookies are not stored, everything else is."""
        cache = await one(shop)
        await cache.put(URL, Response("x", headers={"foo": "bar", "set-cookie": "X"}))
        found = await cache.match(URL)
        assert found is not None
        assert (found.headers.get("foo"), found.headers.get("set-cookie")) == ("bar", None)

    @in_loop
    async def test_mime_type_should_be_set_from_content_header_correctly(self, shop: Shop) -> None:
        """Content-Type is kept, and text without one has the standard's."""
        cache = await one(shop)
        await cache.put(f"{SITE}/1", Response("x", headers={"content-type": "text/html"}))
        await cache.put(f"{SITE}/2", Response("x"))
        found = await cache.match_all()
        types = [each.headers.get("content-type") for each in found]
        assert types == ["text/html", "text/plain;charset=UTF-8"]


class TestMatchAll:
    """cache-matchAll.https.any.js."""

    @in_loop
    async def test_with_no_matching_entries(self, shop: Shop) -> None:
        """Nothing is an empty list."""
        assert await (await stocked(shop)).match_all(f"{SITE}/nothing") == []

    @pytest.mark.parametrize("query", [f"{SITE}/a", asking(f"{SITE}/a"), f"{SITE}/a#x"])
    @in_loop
    async def test_with_url_request_or_fragment(self, shop: Shop, query: str | Request) -> None:
        """Just the entry of that URL."""
        assert await texts(await (await stocked(shop)).match_all(query)) == ["a"]

    @in_loop
    async def test_with_head_and_ignore_method(self, shop: Shop) -> None:
        """Another method finds nothing unless it is ignored."""
        cache = await stocked(shop)
        head = asking(f"{SITE}/a", "HEAD")
        assert await cache.match_all(head) == []
        assert await texts(await cache.match_all(head, ignore_method=True)) == ["a"]

    @pytest.mark.parametrize("name", ["a", "a_with_query"])
    @in_loop
    async def test_with_ignore_search(self, shop: Shop, name: str) -> None:
        """Every query of the URL, in the order put."""
        found = await (await stocked(shop)).match_all(SIMPLE[name][0], ignore_search=True)
        assert await texts(found) == ["a", "a_with_query"]

    @in_loop
    async def test_with_no_arguments_or_none(self, shop: Shop) -> None:
        """Everything, in the order put."""
        cache = await stocked(shop)
        assert await texts(await cache.match_all()) == list(SIMPLE)
        assert await texts(await cache.match_all(None, ignore_search=True)) == list(SIMPLE)

    @in_loop
    async def test_with_responses_containing_vary_header(self, shop: Shop) -> None:
        """Only the variants that fit; a request that has none of the headers gets the one stored without."""
        cache = await varied(shop)
        assert await texts(await cache.match_all(URL)) == ["None"]
        assert await texts(await cache.match_all(asking(x_shape="circle"))) == ["circle"]

    @in_loop
    async def test_with_multiple_vary_pairs(self, shop: Shop) -> None:
        """Variants come in the order put when what they vary by is ignored."""
        cache = await varied(shop)
        assert await texts(await cache.match_all(URL, ignore_vary=True)) == [str(shape) for shape in SHAPES]

    @in_loop
    async def test_order_after_put(self, shop: Shop) -> None:
        """An entry that is replaced moves to the end."""
        cache = await stocked(shop)
        await cache.put(f"{SITE}/a", Response("a"))
        assert await texts(await cache.match_all()) == [*list(SIMPLE)[1:], "a"]


class TestKeys:
    """cache-keys.https.any.js."""

    @in_loop
    async def test_called_on_an_empty_cache(self, shop: Shop) -> None:
        """No keys."""
        assert await (await one(shop)).keys() == []

    @in_loop
    async def test_with_no_matching_entries(self, shop: Shop) -> None:
        """No keys."""
        assert await (await stocked(shop)).keys(f"{SITE}/nothing") == []

    @pytest.mark.parametrize("query", [f"{SITE}/a", asking(f"{SITE}/a"), f"{SITE}/a#x"])
    @in_loop
    async def test_with_url_request_or_fragment(self, shop: Shop, query: str | Request) -> None:
        """Just the request of that URL."""
        assert [key.url for key in await (await stocked(shop)).keys(query)] == [f"{SITE}/a"]

    @pytest.mark.parametrize("name", ["a", "a_with_query"])
    @in_loop
    async def test_with_ignore_search(self, shop: Shop, name: str) -> None:
        """Every query of the URL, in the order put."""
        found = await (await stocked(shop)).keys(SIMPLE[name][0], ignore_search=True)
        assert [key.url for key in found] == [f"{SITE}/a", f"{SITE}/a?q=r"]

    @in_loop
    async def test_supports_ignore_method(self, shop: Shop) -> None:
        """HEAD finds nothing unless the method is ignored."""
        cache = await stocked(shop)
        head = asking(f"{SITE}/a", "HEAD")
        assert await cache.keys(head) == []
        assert len(await cache.keys(head, ignore_method=True)) == 1

    @in_loop
    async def test_supports_ignore_vary(self, shop: Shop) -> None:
        """A variant is found by another's request only when that is ignored."""
        cache = await varied(shop)
        assert len(await cache.keys(URL)) == 1
        assert len(await cache.keys(URL, ignore_vary=True)) == 3

    @in_loop
    async def test_with_string_fragment_http_as_query(self, shop: Shop) -> None:
        """A piece of a URL is no query."""
        cache = await stocked(shop)
        with pytest.raises(InvalidRequest):
            await cache.keys("http")

    @in_loop
    async def test_without_parameters_or_with_none(self, shop: Shop) -> None:
        """All requests in the order put."""
        cache = await stocked(shop)
        urls = [url for url, _ in SIMPLE.values()]
        assert [key.url for key in await cache.keys()] == urls
        assert [key.url for key in await cache.keys(None, ignore_vary=True)] == urls

    @in_loop
    async def test_with_explicitly_vary_entries(self, shop: Shop) -> None:
        """The requests come back with their headers."""
        keys = await (await varied(shop)).keys()
        assert [key.headers.get("x-shape") for key in keys] == list(SHAPES)


class TestDelete:
    """cache-delete.https.any.js."""

    @in_loop
    async def test_with_no_arguments(self, shop: Shop) -> None:
        """One must say what."""
        cache: Any = await one(shop)
        with pytest.raises(TypeError):
            await cache.delete()

    @pytest.mark.parametrize("query", [URL, asking()], ids=["string", "request"])
    @in_loop
    async def test_called_with_a_string_or_request(self, shop: Shop, query: str | Request) -> None:
        """True, and it is gone."""
        cache = await one(shop)
        await cache.put(URL, Response("x"))
        assert await cache.delete(query)
        assert await cache.match(URL) is None

    @in_loop
    async def test_called_with_a_head_request(self, shop: Shop) -> None:
        """Another method removes nothing unless it is ignored."""
        cache = await one(shop)
        await cache.put(URL, Response("x"))
        assert not await cache.delete(asking(method="HEAD"))
        assert await cache.match(URL) is not None
        assert await cache.delete(asking(method="HEAD"), ignore_method=True)
        assert await cache.match(URL) is None

    @in_loop
    async def test_supports_ignore_vary(self, shop: Shop) -> None:
        """A variant is removed by another's request only when that is ignored."""
        cache = await one(shop)
        await cache.put(asking(x_shape="circle"), Response("o", headers={"Vary": "x-shape"}))
        assert not await cache.delete(URL)
        assert await cache.delete(URL, ignore_vary=True)
        assert await cache.keys() == []

    @in_loop
    async def test_with_a_non_existent_entry(self, shop: Shop) -> None:
        """False, and nothing else happens."""
        assert not await (await stocked(shop)).delete(f"{SITE}/nothing")

    @pytest.mark.parametrize("ignore_search", [True, False])
    @in_loop
    async def test_with_ignore_search(self, shop: Shop, ignore_search: bool) -> None:  # noqa: FBT001 - a parameter
        """Entries with a query go only when it is ignored."""
        cache = await stocked(shop)
        assert await cache.delete(f"{SITE}/a", ignore_search=ignore_search)
        assert (await cache.match(f"{SITE}/a?q=r") is None) is ignore_search


class TestAdd:
    """cache-add.https.any.js."""

    @in_loop
    async def test_called_with_no_arguments(self, shop: Shop) -> None:
        """One must say what."""
        cache: Any = await one(shop)
        for method in (cache.add, cache.add_all):
            with pytest.raises(TypeError):
                await method()

    @pytest.mark.parametrize("url", ["./resources/simple.txt", "javascript://this-is-not-http-mmkay"])
    @in_loop
    async def test_called_with_relative_or_non_http_url(self, shop: Shop, url: str) -> None:
        """Neither can be fetched."""
        cache = await one(shop)
        with pytest.raises(InvalidRequest):
            await cache.add(url)

    @in_loop
    async def test_called_with_request_object_twice(self, shop: Shop) -> None:
        """It is fetched and put each time."""
        cache = await one(shop)
        shop.pages[URL] = Response("simple", url=URL)
        await cache.add(asking())
        await cache.add(asking())
        assert await text(await cache.match(URL)) == "simple"
        assert len(await cache.keys()) == 1

    @in_loop
    async def test_called_with_post_request(self, shop: Shop) -> None:
        """Only GET can be added; nothing is sent."""
        cache = await one(shop)
        with pytest.raises(InvalidRequest, match="GET"):
            await cache.add(replace(asking(method="POST"), body=b"This is a body."))

    @in_loop
    async def test_with_request_with_null_body(self, shop: Shop) -> None:
        """A response without a body is added."""
        cache = await one(shop)
        shop.pages[URL] = Response()
        await cache.add(URL)
        assert await text(await cache.match(URL)) == ""

    @pytest.mark.parametrize("status", [206, 404, 500, 302])
    @in_loop
    async def test_with_206_404_and_500_response(self, shop: Shop, status: int) -> None:
        """What put() would take and add() would not is refused, and nothing of its batch is stored."""
        cache = await one(shop)
        shop.pages = {URL: Response("x", status=status), f"{URL}2": Response("x")}
        with pytest.raises(InvalidRequest, match=str(status)):
            await cache.add(URL)
        with pytest.raises(InvalidRequest, match=str(status)):
            await cache.add_all([URL, f"{URL}2"])
        assert await cache.keys() == []

    @in_loop
    async def test_all_with_a_mix_of_valid_and_undefined_arguments(self, shop: Shop) -> None:
        """One bad request refuses them all."""
        cache = await one(shop)
        mix: Any = [URL, None]
        with pytest.raises(InvalidRequest):
            await cache.add_all(mix)

    @in_loop
    async def test_all_with_an_empty_array(self, shop: Shop) -> None:
        """Nothing to do is done."""
        cache = await one(shop)
        await cache.add_all([])
        assert await cache.keys() == []

    @in_loop
    async def test_all_with_string_and_request_arguments(self, shop: Shop) -> None:
        """All are stored, in the order given."""
        cache = await one(shop)
        urls = [f"{SITE}/{name}" for name in "bac"]
        shop.pages = {url: Response(url) for url in urls}
        await cache.add_all([urls[0], *(Request(url) for url in urls[1:])])
        assert await texts(await cache.match_all()) == urls

    @in_loop
    async def test_all_with_a_mix_of_succeeding_and_failing_requests(self, shop: Shop) -> None:
        """If the network fails one, none is stored, and what was written is cleared away."""
        cache = await one(shop)
        shop.pages = {f"{SITE}/1": Response("1"), f"{SITE}/3": Response("3")}
        with pytest.raises(NetworkError):
            await cache.add_all([f"{SITE}/{number}" for number in (1, 2, 3)])
        assert await cache.keys() == []
        assert shop.vfs.names(shop.partials_root) == []

    @pytest.mark.parametrize("urls", [[URL, URL], [f"{URL}#one", f"{URL}#two"]], ids=["same", "fragment"])
    @in_loop
    async def test_all_called_with_the_same_request_twice(self, shop: Shop, urls: list[str]) -> None:
        """Two of one entry are a mistake."""
        cache = await one(shop)
        shop.pages[URL] = Response("x")
        with pytest.raises(InvalidState):
            await cache.add_all(urls)
        assert await cache.keys() == []

    @in_loop
    async def test_all_should_succeed_when_entries_differ_by_vary_header(self, shop: Shop) -> None:
        """Variants are two entries."""
        cache = await one(shop)
        shop.pages[URL] = Response("x", headers={"vary": "x-shape"})
        await cache.add_all([asking(x_shape="circle"), asking(x_shape="square")])
        assert len(await cache.keys()) == 2
        with pytest.raises(InvalidState):
            await cache.add_all([asking(x_shape="circle"), asking(x_shape="circle")])

    @pytest.mark.parametrize("shape_first", [True, False])
    @in_loop
    async def test_all_compares_under_the_earlier_entrys_vary_header(
        self,
        shop: Shop,
        shape_first: bool,  # noqa: FBT001 - a parameter
    ) -> None:
        """Whether two are the same is asked of the reply that came first in the list."""
        cache = await one(shop)
        shape = asking(x_shape="circle", x_size="big")
        size = asking(x_shape="square", x_size="big")

        @asynccontextmanager
        async def fetch(request: Request) -> AsyncIterator[Response]:
            by = "x-shape" if request.headers["x-shape"] == "circle" else "x-size"
            yield Response("x", headers={"vary": by})

        cache._fetch = fetch
        if shape_first:
            await cache.add_all([shape, size])
        else:
            with pytest.raises(InvalidState):
                await cache.add_all([size, shape])


class TestStorage:
    """cache-storage.https.any.js and cache-storage-keys.https.any.js."""

    @pytest.mark.parametrize("name", ["cache-storage/foo", "", "unpaired\ud800"])
    @in_loop
    async def test_open(self, shop: Shop, name: str) -> None:
        """Any text is a name, kept as it is."""
        assert isinstance(await shop.storage.open(name), Cache)
        assert await shop.storage.keys() == [name]
        assert await shop.storage.has(name)
        assert not await shop.storage.has("unpaired\ufffd")

    @in_loop
    async def test_open_with_no_arguments(self, shop: Shop) -> None:
        """One must say which."""
        storage: Any = shop.storage
        with pytest.raises(TypeError):
            await storage.open()

    @pytest.mark.parametrize(
        ("name", "others"),
        [
            ("lowercase", ["Lowercase", " lowercase", "lowercase "]),
            ("has a space", ["has"]),
            ("has\x00_in_the_name", ["has", "has_in_the_name"]),
        ],
    )
    @in_loop
    async def test_has_with_existing_cache(self, shop: Shop, name: str, others: list[str]) -> None:
        """Names are compared exactly."""
        await shop.storage.open(name)
        assert await shop.storage.has(name)
        assert not any([await shop.storage.has(other) for other in others])

    @in_loop
    async def test_has_with_nonexistent_cache(self, shop: Shop) -> None:
        """False."""
        assert not await shop.storage.has("cheezburger")

    @in_loop
    async def test_open_with_existing_cache(self, shop: Shop) -> None:
        """Another object over the same store."""
        first, second = await one(shop), await one(shop)
        await first.put(URL, Response("x"))
        assert first is not second
        assert await second.keys() == await first.keys()

    @in_loop
    async def test_delete_with_existing_cache(self, shop: Shop) -> None:
        """It is gone for those who open it, and goes on for those who hold it."""
        held = await one(shop)
        await held.put(URL, Response("x"))
        assert await shop.storage.delete("c")
        assert not await shop.storage.has("c")
        assert await text(await held.match(URL)) == "x"
        await held.put(f"{URL}2", Response("y"))
        assert len(await held.keys()) == 2
        assert await (await one(shop)).keys() == []
        assert await shop.storage.match(URL) is None

    @in_loop
    async def test_delete_with_nonexistent_cache(self, shop: Shop) -> None:
        """False."""
        assert not await shop.storage.delete("cheezburger")

    @in_loop
    async def test_keys(self, shop: Shop) -> None:
        """Names come in the order the caches were made."""
        for name in ("", "example", "Another cache name", "A"):
            await shop.storage.open(name)
        await shop.storage.delete("example")
        await shop.storage.open("example")
        assert await shop.storage.keys() == ["", "Another cache name", "A", "example"]


class TestStorageMatch:
    """cache-storage-match.https.any.js."""

    @in_loop
    async def test_with_no_cache_name_provided(self, shop: Shop) -> None:
        """Every cache is looked into."""
        await (await one(shop)).put(URL, Response("x"))
        assert await text(await shop.storage.match(asking())) == "x"

    @in_loop
    async def test_from_one_of_many_caches(self, shop: Shop) -> None:
        """The cache made first wins, whenever its entry was put."""
        caches = [await shop.storage.open(name) for name in "zyx"]
        for cache, body in reversed(list(zip(caches[1:], "12", strict=True))):
            await cache.put(URL, Response(body))
        assert await text(await shop.storage.match(URL)) == "1"

    @in_loop
    async def test_from_one_of_many_caches_by_name(self, shop: Shop) -> None:
        """The one that is named answers, "" too."""
        for name in ("a", "b", ""):
            await (await shop.storage.open(name)).put(URL, Response(name))
        for name in ("b", ""):
            assert await text(await shop.storage.match(URL, cache_name=name)) == name

    @in_loop
    async def test_a_string_request_and_head(self, shop: Shop) -> None:
        """A URL stands for a GET; HEAD finds nothing."""
        await (await one(shop)).put(asking(), Response("x"))
        assert await text(await shop.storage.match(URL)) == "x"
        assert await shop.storage.match(asking(method="HEAD")) is None

    @in_loop
    async def test_with_no_caches_or_names_available(self, shop: Shop) -> None:
        """A cache that is not there answers nothing and is not made by asking."""
        assert await shop.storage.match(URL) is None
        assert await shop.storage.match(URL, cache_name="") is None
        assert await shop.storage.match(URL, cache_name="x") is None
        assert await shop.storage.keys() == []

    @in_loop
    async def test_supports_options(self, shop: Shop) -> None:
        """Search, method and Vary can be ignored."""
        cache = await one(shop)
        request = asking(f"{URL}?q", x_shape="circle")
        await cache.put(request, Response("x", headers={"vary": "x-shape"}))
        head = replace(request, url=f"{URL}?r", method="HEAD")
        assert await shop.storage.match(head, ignore_search=True) is None
        assert await shop.storage.match(head, ignore_search=True, ignore_method=True) is not None
        bare = asking(f"{URL}?q")
        assert await shop.storage.match(bare) is None
        assert await shop.storage.match(bare, ignore_vary=True) is not None


class TestOurs:
    """What the standard has no word for."""

    @in_loop
    async def test_finished_download_is_linked(self, shop: Shop) -> None:
        """Putting what is a blob already writes no byte and keeps how it was verified."""
        cache = await one(shop)
        await cache.put(URL, Response("model"))
        found = await cache.match(URL)
        assert found is not None
        body = found.take()
        assert isinstance(body, FileBody)
        checked = replace(body, verified=Verified.DIGEST)
        other = await shop.of("other").open("mine")
        before = list(shop.blobs.names())
        await other.put(f"{SITE}/again", Response(checked))
        assert list(shop.blobs.names()) == before
        (entry,) = [placed.entry for placed in shop.entries.placed("other")]
        assert (entry.blob, entry.size, entry.verified) == (body.blob, 5, Verified.DIGEST)

    @in_loop
    async def test_made_body_is_content_addressed(self, shop: Shop) -> None:
        """Bytes put here are named by their digest, and equal ones are stored once."""
        cache = await one(shop)
        for number in range(2):
            await cache.put(f"{URL}{number}", Response(b"same"))
        digest = hashlib.sha256(b"same").hexdigest()
        assert list(shop.blobs.names()) == [f"sha256/{digest[:2]}/{digest}"]
        assert shop.vfs.names(shop.partials_root) == []

    @in_loop
    async def test_path_has_the_files_own_name(self, shop: Shop) -> None:
        """The path is a file called what the URL or the server calls it, whole, and read-only."""
        cache = await one(shop)
        await cache.put(f"{SITE}/org/gemma%202b.bin?x=1", Response(b"model"))
        await cache.put(f"{SITE}/y", Response(b"2", headers={"content-disposition": 'filename="../b.gguf"'}))
        names = [found.path.name for found in await cache.match_all() if found.path is not None]
        assert names == ["gemma 2b.bin", "b.gguf"]
        found = await cache.match(f"{SITE}/org/gemma%202b.bin?x=1")
        assert found is not None
        assert found.path is not None
        assert found.path.read_bytes() == b"model"
        assert not found.body_used

    @pytest.mark.parametrize("how", ["deleted", "cut", "edited"])
    @in_loop
    async def test_vanished_blob_is_a_miss(self, shop: Shop, how: str) -> None:
        """A file that a person deleted, cut or edited is no entry any longer, and another cache answers."""
        cache = await one(shop)
        await cache.put(URL, Response("gone"))
        second = await shop.storage.open("second")
        await second.put(URL, Response("here"))
        path = shop.blobs.path(shop.entries.placed()[0].entry.blob)
        path.unlink()
        if how == "cut":
            path.write_bytes(b"go")
        if how == "edited":
            path.write_bytes(b"Gone")
            os.utime(path, (later := time.time() + 60, later))
        assert await text(await shop.storage.match(URL)) == "here"
        assert await cache.match(URL) is None
        assert await cache.keys() == []

    @in_loop
    async def test_linking_a_vanished_blob_is_refused(self, shop: Shop) -> None:
        """No entry without its file."""
        cache = await one(shop)
        await cache.put(URL, Response("model"))
        found = await cache.match(URL)
        assert found is not None
        shop.blobs.remove(shop.entries.placed()[0].entry.blob)
        with pytest.raises(CacheError, match="gone"):
            await cache.put(f"{URL}2", found)
        assert shop.entries.find(1, Request(f"{URL}2")) is None

    @in_loop
    async def test_growing_body_is_stored_when_it_is_whole(self, shop: Shop) -> None:
        """put() follows a download to its end."""
        cache = await one(shop)
        data = bytes(3 << 20) + b"end"
        fronts = iter([10, 1 << 20, len(data), len(data)])

        async def advanced(position: int) -> Stand:
            front = next(fronts)
            return Stand(front, len(data), over=position == len(data))

        def read_into(buffer: memoryview, offset: int) -> int:
            chunk = data[offset : offset + len(buffer)]
            buffer[: len(chunk)] = chunk
            return len(chunk)

        await cache.put(URL, Response(GrowingBody(read_into, advanced)))
        found = await cache.match(URL)
        assert found is not None
        assert await found.read() == data

    @in_loop
    async def test_growing_body_that_fails_is_not_stored(self, shop: Shop) -> None:
        """An abort reaches put(), which leaves nothing behind."""
        cache = await one(shop)

        async def advanced(position: int) -> Stand:
            error = Aborted("aborted") if position else None
            return Stand(5, 10, over=position > 0, error=error)

        with pytest.raises(Aborted):
            await cache.put(URL, Response(GrowingBody(lambda buffer, _: len(buffer), advanced)))
        assert await cache.keys() == []
        assert list(shop.blobs.names()) == []
        assert shop.vfs.names(shop.partials_root) == []

    @in_loop
    async def test_cancelled_put_leaves_nothing_behind(self, shop: Shop) -> None:
        """Cancelling while bytes come stores nothing and closes what was open."""
        cache = await one(shop)
        waiting = asyncio.Event()

        async def advanced(position: int) -> Stand:
            if position:
                waiting.set()
                await asyncio.Event().wait()
            return Stand(5, None, over=False)

        body = GrowingBody(lambda buffer, _: len(buffer), advanced)
        task = asyncio.create_task(cache.put(URL, Response(body)))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await cache.keys() == []
        assert shop.vfs.names(shop.partials_root) == []

    @in_loop
    async def test_full_disk_is_quota_exceeded(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        """The standard's error, and the former entry stays."""
        cache = await one(shop)
        await cache.put(URL, Response("old"))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(shop.vfs, "pwrite", full)
        with pytest.raises(QuotaExceeded):
            await cache.put(URL, Response("new"))
        monkeypatch.undo()
        assert await text(await cache.match(URL)) == "old"

    @in_loop
    async def test_scopes_are_apart(self, shop: Shop) -> None:
        """What one scope stores another does not see."""
        await (await one(shop)).put(URL, Response("x"))
        other = shop.of("other")
        assert await other.keys() == []
        assert await other.match(URL) is None

    @in_loop
    async def test_secrets_are_not_stored(self, shop: Shop) -> None:
        """Of a secret header only its presence is kept, and that is what Vary compares."""
        cache = await one(shop)
        for token in ("one", "two"):
            request = asking(authorization=f"Bearer {token}")
            await cache.put(request, Response(token, headers={"vary": "authorization"}))
        (key,) = await cache.keys()
        assert key.headers["authorization"] == ""
        assert await text(await cache.match(asking(authorization="Bearer three"))) == "two"
        assert await cache.match(asking()) is None

    @pytest.mark.parametrize("url", ["https://user:pw@example.com/", "http://[::1", "http:///"])
    @in_loop
    async def test_impossible_urls_are_refused(self, shop: Shop, url: str) -> None:
        """Credentials and broken URLs raise as the Request constructor does, without the secret."""
        cache = await one(shop)
        with pytest.raises(InvalidRequest) as caught:
            await cache.match(url)
        assert "pw" not in str(caught.value)

    @in_loop
    async def test_url_comes_back_with_its_query(self, shop: Shop) -> None:
        """A response that was not redirected has the URL that was asked for; a signed address loses its query."""
        cache = await one(shop)
        await cache.put(f"{URL}?q=1#f", Response("x", url=f"{URL}?q=1"))
        await cache.put(f"{URL}2", Response("x", url="https://cdn.example/x?sig=1"))
        assert [found.url for found in await cache.match_all()] == [f"{URL}?q=1", "https://cdn.example/x"]

    @in_loop
    async def test_use_is_noted_now_and_then(self, shop: Shop) -> None:
        """A look notes the time for eviction, but not more than once an hour."""
        cache = await one(shop)
        await cache.put(URL, Response("x"))
        seen = []
        for now in (1001.0, 5000.0, 5001.0):
            shop.now = now
            await cache.match(URL)
            seen.append(shop.entries.placed()[0].entry.last_used)
        assert seen == [1000.0, 5000.0, 5000.0]

    @in_loop
    async def test_add_needs_something_to_fetch_with(self, shop: Shop) -> None:
        """A storage that was given nothing says so."""
        storage = CacheStorage("app", shop.entries, shop.blobs, shop.partials, shop.links, lambda: 0.0)
        cache = await storage.open("c")
        with pytest.raises(CacheError, match="put"):
            await cache.add(URL)
