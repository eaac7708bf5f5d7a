"""Matching: the rules of Cache, restating the web-platform-tests named in each docstring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.matching import (
    CachedRequest,
    QueryOptions,
    early_miss,
    match_records,
    matches,
    may_be_put,
    url_key,
)
from bgfetch.core.model import Headers, ReplyHead, Request

STRICT = QueryOptions()
ANY_SEARCH = QueryOptions(ignore_search=True)
ANY_METHOD = QueryOptions(ignore_method=True)
ANY_VARY = QueryOptions(ignore_vary=True)
CAT = "https://host/cat"


def head(*, status: int = 200, vary: str | None = None) -> ReplyHead:
    """A reply's head."""
    return ReplyHead(CAT, status, Headers([] if vary is None else [("Vary", vary)]))


def hits(query: str, stored: str, options: QueryOptions = STRICT) -> bool:
    """Whether a GET of one URL finds a GET of another."""
    return matches(Request(query), CachedRequest(stored), head(), options)


@pytest.mark.parametrize(
    ("query", "stored", "strict", "any_search"),
    [
        (CAT, CAT, True, True),
        (CAT, CAT + "?q=1", False, True),
        (CAT + "?q=1", CAT, False, True),
        (CAT + "?q=1", CAT + "?q=2", False, True),
        (CAT + "?", CAT, False, True),
        (CAT + "?a?b=://c/d", CAT, False, True),
        (CAT + "#mouse", CAT, True, True),
        (CAT, CAT + "#mouse", True, True),
        (CAT + "?q=1#mouse", CAT + "?q=1", True, True),
        (CAT + "#mouse?q=1", CAT, True, True),
        (CAT, "https://host/", False, False),
        (CAT, "https://host/cat/", False, False),
        (CAT, "https://host/CAT", False, False),
        (CAT, "http://host/cat", False, False),
        (CAT, "https://other/cat", False, False),
        (CAT, "https://host:8443/cat", False, False),
    ],
)
def test_cache_match_differing_urls(query: str, stored: str, strict: bool, any_search: bool) -> None:  # noqa: FBT001
    """cache-match: "with (not) ignoreSearch", "URL containing fragment", "two responses with different URLs"."""
    assert hits(query, stored) is strict
    assert hits(query, stored, ANY_SEARCH) is any_search


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("HTTPS://Host:443", "https://host/"),
        ("http://host:80/a", "http://host/a"),
        ("http://host:443/a", "http://host:443/a"),
        ("https://host:/a", "https://host/a"),
        ("https://host?q=A", "https://host/?q=A"),
        ("https://[::1]:443/a", "https://[::1]/a"),
        ("https://[::443]/a", "https://[::443]/a"),
        ("https://User:Pass@HOST/a@B:443", "https://User:Pass@host/a@B:443"),
        ("https://host/A%2fb", "https://host/A%2fb"),
    ],
)
def test_url_key_is_what_a_url_parser_would_have_made(written: str, key: str) -> None:
    """Spellings of one origin find each other; path, query and credentials are kept letter by letter."""
    assert url_key(written) == key
    assert url_key(key) == key


@given(st.text())
def test_url_key_is_total_and_settled(url: str) -> None:
    """Nothing raises, and a key with an origin is its own key."""
    key = url_key("https://host/" + url)
    assert url_key(key) == key
    assert "://" in url_key(url)


@pytest.mark.parametrize("other", ["https://u:p@host/cat", "https://u@host/cat", "https://:p@host/cat"])
def test_cache_match_credentials_tell_entries_apart(other: str) -> None:
    """credentials: entries are keyed by the full URL, userinfo included."""
    assert not hits(CAT, other)
    assert hits(other, other)


@pytest.mark.parametrize(
    ("query", "stored", "strict", "any_method"),
    [
        ("GET", "GET", True, True),
        ("GET", "POST", False, True),
        ("HEAD", "GET", False, True),
        ("POST", "GET", False, True),
        ("PUT", "PUT", False, True),
    ],
)
def test_cache_match_methods(query: str, stored: str, strict: bool, any_method: bool) -> None:  # noqa: FBT001
    """cache-match, cache-delete, cache-keys: "with HEAD request", "with ignoreMethod", "POST requests"."""
    for options, expected in ((STRICT, strict), (ANY_METHOD, any_method)):
        asked = Request(CAT, query)
        found = not early_miss(asked, options) and matches(asked, CachedRequest(CAT, stored), head(), options)
        assert found is expected


@pytest.mark.parametrize(
    ("vary", "query", "stored", "expected"),
    [
        (None, {"Cookies": "a"}, {"Cookies": "b"}, True),
        ("", {"Cookies": "a"}, {"Cookies": "b"}, True),
        ("Cookies", {"Cookies": "is-for-cookie"}, {"Cookies": "is-for-cookie"}, True),
        ("cOOKIES", {"cookies": "is-for-cookie"}, {"COOKIES": "is-for-cookie"}, True),
        ("Cookies", {"Cookies": "none-of-the-above"}, {"Cookies": "is-for-cookie"}, False),
        ("Cookies", {}, {"Cookies": "is-for-cookie"}, False),
        ("Cookies", {"Cookies": "is-for-cookie"}, {}, False),
        ("Cookies", {}, {}, True),
        ("Cookies", {"Cookies": ""}, {}, False),
        ("Accept, ,Cookies,", {"Cookies": "a"}, {"Cookies": "b"}, False),
        ("Accept, Cookies", {"Accept": "x", "Cookies": "a"}, {"Accept": "x", "Cookies": "a"}, True),
        ("*", {}, {}, False),
        ("Accept, *", {}, {}, False),
    ],
)
def test_cache_match_vary(
    vary: str | None,
    query: dict[str, str],
    stored: dict[str, str],
    expected: bool,  # noqa: FBT001
) -> None:
    """cache-match, cache-matchAll, cache-keys, cache-delete: "supports vary", "with ignoreVary"."""
    asked = Request(CAT, headers=Headers(query.items()))
    cached = CachedRequest(CAT, headers=Headers(stored.items()))
    assert matches(asked, cached, head(vary=vary), STRICT) is expected
    assert matches(asked, cached, head(vary=vary), ANY_VARY)
    assert matches(asked, cached, None, STRICT)


def test_cache_match_repeated_fields_are_combined() -> None:
    """Vary looks at the combined value, and Vary itself may be repeated."""
    reply = ReplyHead(CAT, 200, Headers([("Vary", "Accept"), ("Vary", "Cookies")]))
    asked = Request(CAT, headers=Headers([("Cookies", "a"), ("Cookies", "b")]))
    assert matches(asked, CachedRequest(CAT, headers=Headers([("cookies", "a, b")])), reply, STRICT)
    assert not matches(asked, CachedRequest(CAT, headers=Headers([("cookies", "b, a")])), reply, STRICT)


@pytest.mark.parametrize("status", [200, 204, 301, 404, 500])
def test_cache_put_any_status_but_206(status: int) -> None:
    """cache-put: "with an HTTP 500 response", "with a redirect", and the like are stored."""
    assert may_be_put(CachedRequest(CAT), head(status=status)) is None


@pytest.mark.parametrize(
    ("request_", "reply", "says"),
    [
        (Request("file:///etc/passwd"), head(), "http"),
        (Request("data:text/plain,x"), head(), "http"),
        (Request("httpx://host/"), head(), "http"),
        (Request(CAT, "HEAD"), head(), "HEAD"),
        (Request(CAT, "POST"), head(), "POST"),
        (Request(CAT), head(status=206), "206"),
        (Request(CAT), head(vary="*"), "Vary"),
        (Request(CAT), head(vary="Accept, * ,Cookies"), "Vary"),
    ],
)
def test_cache_put_refusals(request_: Request, reply: ReplyHead, says: str) -> None:
    """cache-put: "non-HTTP/HTTPS", "HEAD", "POST", "HTTP 206", "VARY:* (embedded)" raise TypeError with a reason."""
    reason = may_be_put(request_, reply)
    assert reason is not None
    assert says in reason


def test_cache_put_takes_what_it_names_in_any_case() -> None:
    """cache-put: the scheme's case does not matter; Vary without a star is welcome."""
    assert may_be_put(Request("HTTPS://HOST/x"), head(vary="Accept")) is None


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (STRICT, 2),
        (ANY_SEARCH, 3),
        (ANY_METHOD, 3),
        (QueryOptions(ignore_search=True, ignore_method=True), 4),
    ],
)
def test_background_fetch_match_with_query_options(options: QueryOptions, count: int) -> None:
    """match: "Match with query options." counts 2 / 3 / 3 / 4."""
    requests = [Request(CAT), Request(CAT), Request(CAT + "?q"), Request(CAT, "PUT")]
    assert len(match_records(Request(CAT), [(request, None) for request in requests], options)) == count


def test_background_fetch_match_returns_duplicates_in_the_order_given() -> None:
    """fetch: "Fetches can have requests with duplicate URLs"; matchAll without a query returns everything."""
    cat, dog = Request(CAT), Request("https://host/dog")
    records = [(cat, None), (dog, head()), (cat, head())]
    assert match_records(cat, records, STRICT) == [0, 2]
    assert match_records(Request("https://host/cow"), records, STRICT) == []
    assert match_records(None, records, STRICT) == [0, 1, 2]


def test_background_fetch_match_of_a_put_needs_ignore_method() -> None:
    """match: a PUT finds neither the PUT nor the GET of its URL, and both with ignoreMethod."""
    records: list[tuple[Request, ReplyHead | None]] = [(Request(CAT), None), (Request(CAT, "PUT"), None)]
    assert match_records(Request(CAT, "PUT"), records, STRICT) == []
    assert match_records(Request(CAT, "PUT"), records, ANY_METHOD) == [0, 1]


def test_background_fetch_match_ignores_vary_until_there_is_a_response() -> None:
    """Background Fetch, match: a record without a response is judged by its URL and method alone."""
    asked = Request(CAT, headers=Headers([("Accept", "a")]))
    stored = Request(CAT, headers=Headers([("Accept", "b")]))
    assert match_records(asked, [(stored, None), (stored, head(vary="Accept"))], STRICT) == [0]


@given(
    st.sampled_from([CAT, CAT + "?q", CAT + "#f", "https://host/dog"]),
    st.sampled_from([CAT, CAT + "?q", "https://host/dog"]),
    st.sampled_from(["GET", "PUT"]),
    st.sampled_from([None, "Accept", "*"]),
    st.sampled_from(["", "a"]),
)
def test_ignoring_more_never_finds_less(
    url: str, stored: str, method: str, vary: str | None, accept: str
) -> None:
    """Each option only widens a query."""
    asked = Request(url, headers=Headers([("Accept", accept)]))
    cached = CachedRequest(stored, method)
    found = matches(asked, cached, head(vary=vary), STRICT)
    for options in (ANY_SEARCH, ANY_METHOD, ANY_VARY):
        assert matches(asked, cached, head(vary=vary), options) >= found
