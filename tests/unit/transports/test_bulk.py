"""What is asked and understood without libcurl, in lines of text; what is not beyond doubt is left to libcurl."""

from __future__ import annotations

import pytest

from bgfetch.transports.base import Exchange
from bgfetch.transports.bulk import Head, parse_head, request_for

RANGE = ("Range", "bytes=0-9")


def test_a_range_is_asked_for_as_libcurl_does() -> None:
    """The request has curl's fields in curl's order; the default port is not named, the query is kept as it is."""
    exchange = Exchange(
        1, "https://example.org:443/a/../b%20c?x=1&y=%2F", headers=[RANGE, ("X-Empty", ""), ("Accept", "a/b")]
    )
    assert request_for(exchange, "ua/1") == (
        b"GET /a/../b%20c?x=1&y=%2F HTTP/1.1\r\nHost: example.org\r\nUser-Agent: ua/1\r\n"
        b"Range: bytes=0-9\r\nX-Empty:\r\nAccept: a/b\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.org:8080/", b"example.org:8080"),
        ("http://example.org:443/", b"example.org:443"),
        ("http://[::1]:9/", b"[::1]:9"),
        ("http://[::1]:80/", b"[::1]"),
    ],
)
def test_the_host_is_named(url: str, host: bytes) -> None:
    """With its port, unless that goes without saying (RFC 9110, section 7.2)."""
    request = request_for(Exchange(1, url, headers=[RANGE]), "ua")
    assert request is not None
    assert request.split(b"\r\n")[1] == b"Host: " + host


@pytest.mark.parametrize(
    "exchange",
    [
        Exchange(1, "http://a/x"),
        Exchange(1, "http://a/x", "HEAD", [RANGE]),
        Exchange(1, "http://a/x", "GET", [RANGE], body=b""),
        Exchange(1, "http://a/x", headers=[RANGE], multiplex=True),
        Exchange(1, "http://a/x", headers=[RANGE, ("Host", "b")]),
        Exchange(1, "http://a/x", headers=[RANGE, ("Connection", "close")]),
        Exchange(1, "http://a/x", headers=[RANGE, ("X", "a\r\nY: b")]),
        Exchange(1, "http://a/x", headers=[RANGE, ("X\r\nY", "b")]),
        Exchange(1, "http://a/x", headers=[RANGE, ("X", "é")]),
        Exchange(1, "http://u:p@a/x", headers=[RANGE]),
        Exchange(1, "http://a/x#y", headers=[RANGE]),
        Exchange(1, "http://a/x y", headers=[RANGE]),
        Exchange(1, "http://ä/x", headers=[RANGE]),
        Exchange(1, "http://a", headers=[RANGE]),
        Exchange(1, "ftp://a/x", headers=[RANGE]),
    ],
)
def test_other_requests_are_libcurls(exchange: Exchange) -> None:
    """Nothing but a GET of a range whose every character is harmless is sent by our own hand."""
    assert request_for(exchange, "ua") is None


@pytest.mark.parametrize(
    ("lines", "head"),
    [
        ([b"HTTP/1.1 206 Partial Content", b"Content-Length: 5"], Head(206, 5, keep=True)),
        ([b"HTTP/1.1 206", b"content-length:5", b"Content-Encoding: Identity"], Head(206, 5, keep=True)),
        ([b"HTTP/1.1 200 OK", b"Content-Length: 5", b"Connection: close"], Head(200, 5, keep=False)),
        ([b"HTTP/1.1 200 OK", b"Content-Length: 5", b"Connection: Keep-Alive"], Head(200, 5, keep=True)),
        ([b"HTTP/1.1 302 Found", b"Location: /"], Head(302, None, keep=True)),
        ([b"HTTP/1.1 304 Same", b"Content-Length: 5"], Head(304, None, keep=True)),
        ([b"HTTP/1.1 200 OK", b"Content-Length: 5", b"Content-Length: 5"], Head(200, None, keep=True)),
        ([b"HTTP/1.1 200 OK", b"Content-Length: 5, 5"], Head(200, None, keep=True)),
        ([b"HTTP/1.1 200 OK", b"Content-Length: +5"], Head(200, None, keep=True)),
        ([b"HTTP/1.1 200 OK", b"Content-Length: 1" + b"0" * 18], Head(200, None, keep=True)),
        (
            [b"HTTP/1.1 200 OK", b"Content-Length: 5", b"Transfer-Encoding: chunked"],
            Head(200, None, keep=True),
        ),
        ([b"HTTP/1.1 200 OK", b"Content-Length: 5", b"Content-Encoding: gzip"], Head(200, None, keep=True)),
    ],
)
def test_framing(lines: list[bytes], head: Head) -> None:
    """A body's length is known where exactly one plain Content-Length says it and nothing contradicts."""
    assert parse_head(lines) == head


@pytest.mark.parametrize(
    "lines",
    [
        [b"HTTP/1.0 206 OK", b"Content-Length: 5"],
        [b"HTTP/1.1 100 Continue"],
        [b"HTTP/2 200 OK"],
        [b"ICY 200 OK"],
        [b""],
        [b"HTTP/1.1 206 OK", b"Content-Length: 5", b" folded"],
        [b"HTTP/1.1 206 OK", b"Content-Length : 5"],
        [b"HTTP/1.1 206 OK", b"Content-Length: 5\nX: y"],
        [b"HTTP/1.1 206 OK\nContent-Length: 5"],
        [b"HTTP/1.1 206 OK", b"X: a\0b"],
        [b"HTTP/1.1 206 OK", b"no colon"],
    ],
)
def test_doubtful_heads_are_none(lines: list[bytes]) -> None:
    """Older versions, interim replies, folded lines, bare line ends and garbage are for libcurl to judge."""
    assert parse_head(lines) is None
