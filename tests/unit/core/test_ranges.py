"""The reply checker: no reply that contradicts what is known is believed, and each has one meaning."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bgfetch.core.model import FailureReason, Headers, ReplyHead
from bgfetch.core.ranges import (
    Accept,
    Ask,
    Complete,
    ContentRange,
    Follow,
    Known,
    PlainRange,
    Refuse,
    ResolveAgain,
    Restart,
    Retry,
    Verdict,
    Whole,
    check_reply,
    is_strong,
    parse_content_range,
    range_headers,
)

URL = "https://host/model.bin?token=secret"
TAG = '"v1"'
ASK = Ask(URL, 0, 100)
LATER = Ask(URL, 100, 200)
WHOLE = Ask(URL, 0, None, ranged=False)
UPLOAD = Ask(URL, 0, None, ranged=False, safe=False)
NEW = Known()
HALF = Known(total=1000, etag=TAG, held=500, front=500)
WEAK = Known(total=1000, etag='W/"v1"', last_modified="monday", held=500, front=500)
BARE = Known(total=1000, held=500, front=500)
UNSURE = Known(etag=TAG, held=500, front=500)  # of unknown length
MONDAY, TUESDAY = ("Last-Modified", "monday"), ("Last-Modified", "tuesday")


def judge(ask: Ask, status: int, *fields: tuple[str, str], known: Known = NEW) -> Verdict:
    """The verdict on a reply with these fields."""
    return check_reply(ask, ReplyHead(ask.url, status, Headers(fields)), known, now=0.0)


def part(content_range: str, *, etag: str = TAG) -> tuple[tuple[str, str], ...]:
    """Fields of a 206."""
    return (("Content-Range", content_range), ("ETag", etag))


def length(count: int) -> tuple[str, str]:
    """A Content-Length."""
    return ("Content-Length", str(count))


# Content-Range


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("bytes 0-0/1", (0, 1, 1)),
        ("bytes 0-99/1000", (0, 100, 1000)),
        ("bytes 900-999/1000", (900, 1000, 1000)),
        ("bytes 5-9/*", (5, 10, None)),
        ("BYTES 0-99/1000", (0, 100, 1000)),
        ("bytes */1000", (None, None, 1000)),
        ("bytes */0", (None, None, 0)),
        ("bytes 0-9223372036854775806/9223372036854775807", (0, 2**63 - 1, 2**63 - 1)),
    ],
)
def test_content_range(value: str, parsed: tuple[int | None, int | None, int | None]) -> None:
    """The grammar of RFC 9110 section 14.4."""
    assert parse_content_range([value]) == ContentRange(*parsed)


def test_content_range_comes_once() -> None:
    """None and two are as good as a malformed one."""
    assert parse_content_range([]) is None
    assert parse_content_range(["bytes 0-9/10"] * 2) is None


UNITS = (
    "",
    "byte ",
    "bytes",
    "bytes=",
    "bytes: ",
    "bytes  ",
    " bytes ",
    "octets ",
    "none ",
    "bytes\t",
    "\x00bytes ",
)
SPANS = (
    "0-99",
    "*",
    "0-99,200-299",
    "-99",
    "0-",
    "0",
    "a-b",
    "0x0-0x9",
    "0-9-9",
    "+0-9",
    "0- 99",
    "\u0660-\u0669",
    "0.0-9.0",
)
TOTALS = ("/1000", "/*", "", "/", "/-1", "/ 1000", "/1e3", "/x", "/1000/1000", "/99999999999999999999", "/**")
GRID = {f"{unit}{span}{total}" for unit, span, total in product(("bytes ", *UNITS), SPANS, TOTALS)}
MALFORMED = [
    *sorted(GRID - {"bytes 0-99/1000", "bytes 0-99/*", "bytes */1000"}),
    *("bytes 9-0/1000", "bytes 10-9/1000", "bytes 0-1000/1000", "bytes 0-0/0", "bytes 1000-1000/1000", "bytes */*"),
    *("bytes 0-99/50", "bytes 99999999999999999999-99999999999999999999/*", "bytes 0-99/1000 ", " bytes 0-99/1000"),
    *("bytes 0-99/1000\n", "bytes 0-99/1000;x", "bytes 0-99 / 1000", "bytes 0\u201399/1000", '"bytes 0-99/1000"'),
]  # fmt: skip


def test_no_malformed_content_range_is_believed() -> None:
    """Whatever is not exactly one range in bytes is none at all."""
    assert len(MALFORMED) > 1000
    assert [value for value in MALFORMED if parse_content_range([value]) is not None] == []


@given(st.text(max_size=40))
@example("bytes 0-99/1000")
def test_any_text_is_a_sane_range_or_none(text: str) -> None:
    """A range that was read is not empty and lies within the total."""
    got = parse_content_range([text])
    if got is not None and got.start is not None and got.stop is not None:
        assert 0 <= got.start < got.stop <= (got.total or got.stop)


# Validators and the request


@pytest.mark.parametrize(
    ("etag", "strong"),
    [
        (TAG, True),
        ('"a b"', True),
        ('W/"v1"', False),
        ('w/"v1"', False),
        ("", False),
        ('""', False),
        ('"', False),
        ("v1", False),
        ('"v1', False),
        ('v1"', False),
        ('"v1", "v2"', False),
    ],
)
def test_strong_validators(etag: str, strong: bool) -> None:  # noqa: FBT001 - a table
    """Equal tags promise equal bytes only when there is one, in quotes, without W/."""
    assert is_strong(etag) == strong


@pytest.mark.parametrize(
    ("ask", "fields"),
    [
        (WHOLE, []),
        (ASK, [("Range", "bytes=0-99")]),
        (Ask(URL, 7, None), [("Range", "bytes=7-")]),
        (Ask(URL, 7, 8, conditional=True), [("Range", "bytes=7-7"), ("If-Range", TAG)]),
        (replace(WHOLE, conditional=True), []),
    ],
)
def test_what_is_sent(ask: Ask, fields: list[tuple[str, str]]) -> None:
    """Never a coded body, for it has no stable offsets; If-Range only beside Range."""
    assert range_headers(ask, HALF) == [("Accept-Encoding", "identity"), *fields]


def test_the_name_of_what_is_wanted_is_that_of_the_source() -> None:
    """A redirect's target may have any name."""
    assert ASK.named == URL
    assert Ask("https://cdn/4711", source=URL).named == URL


# 206


def accepted(verdict: Verdict) -> tuple[int, int | None, int | None, bool]:
    """Start, stop, total and whether it was a part."""
    assert isinstance(verdict, Accept), verdict
    return verdict.start, verdict.stop, verdict.total, verdict.ranges


@pytest.mark.parametrize(
    ("ask", "value", "known", "expected"),
    [
        (ASK, "bytes 0-99/1000", NEW, (0, 100, 1000)),
        (ASK, "bytes 0-9/1000", NEW, (0, 10, 1000)),  # a legal cap
        (ASK, "bytes 0-499/1000", NEW, (0, 100, 1000)),  # more than asked: the rest is not taken
        (ASK, "bytes 0-99/*", NEW, (0, 100, None)),
        (Ask(URL, 500, 600), "bytes 500-599/*", HALF, (500, 600, 1000)),
        (Ask(URL, 500, None), "bytes 500-999/1000", HALF, (500, 1000, 1000)),
        (Ask(URL, 500, 600), "bytes 500-599/700", UNSURE, (500, 600, 700)),
    ],
)
def test_a_part(ask: Ask, value: str, known: Known, expected: tuple[int, int, int | None]) -> None:
    """Stored from where it was asked, as far as it was asked."""
    assert accepted(judge(ask, 206, *part(value), known=known)) == (*expected, True)


def test_a_reply_teaches_the_version() -> None:
    """Validators and type are remembered with the bytes."""
    verdict = judge(ASK, 206, *part("bytes 0-99/1000"), MONDAY, ("Content-Type", "application/x"))
    assert verdict == Accept(0, 100, 1000, TAG, "monday", "application/x", ranges=True)


@pytest.mark.parametrize(
    ("ask", "fields", "known", "verdict"),
    [
        (ASK, (), NEW, Whole),  # no Content-Range, or multipart
        (ASK, part("bytes 0-99"), NEW, Whole),
        (ASK, part("bytes */1000"), NEW, Whole),
        (ASK, part("bytes 5-99/1000"), NEW, Whole),  # another start
        (LATER, part("bytes 0-99/1000"), HALF, Whole),
        (ASK, (*part("bytes 0-99/1000"), length(50)), NEW, Whole),  # fewer bytes than they are called
        (WHOLE, part("bytes 0-999/1000"), NEW, Refuse),  # a part nobody asked for
        (LATER, part("bytes 100-199/1001"), HALF, Restart),
        (LATER, part("bytes 100-199/1000", etag='"v2"'), HALF, Restart),
        (LATER, part("bytes 100-199/1000", etag=""), HALF, Restart),  # the tag is gone
        (LATER, part("bytes 100-199/400"), UNSURE, Restart),  # shorter than what is held
        (LATER, (*part("bytes 100-199/1000", etag='W/"v1"'), TUESDAY), WEAK, Restart),
        (LATER, (*part("bytes 100-199/1000", etag='W/"v1"'), MONDAY), WEAK, Accept),
        (LATER, part("bytes 100-199/1000", etag=""), BARE, Accept),
        (LATER, (*part("bytes 100-199/1000", etag=""), MONDAY), BARE, Restart),
        # replicas that differ in their tags are endured where a digest decides, not where their totals differ
        (LATER, part("bytes 100-199/1000", etag='"v2"'), replace(HALF, by_digest=True), Accept),
        (LATER, part("bytes 100-199/1001", etag='"v2"'), replace(HALF, by_digest=True), Restart),
        (ASK, part("bytes 0-99/1000"), Known(expected_size=999), Refuse),
        (ASK, part("bytes 0-99/1000"), Known(expected_size=1000), Accept),
    ],
)
def test_a_part_that_cannot_be_used(
    ask: Ask, fields: tuple[tuple[str, str], ...], known: Known, verdict: type[Verdict]
) -> None:
    """Bytes of two versions are never mixed; a server that is wrong about parts is asked for the whole."""
    assert isinstance(judge(ask, 206, *fields, known=known), verdict)


@given(
    st.integers(0, 30),
    st.none() | st.integers(1, 40),
    st.integers(0, 40),
    st.integers(0, 40),
    st.none() | st.integers(0, 40),
    st.none() | st.integers(0, 40),
)
def test_no_part_is_stored_where_it_does_not_belong(
    start: int, size: int | None, first: int, last: int, total: int | None, known_total: int | None
) -> None:
    """Of any numbers: what is accepted starts where it was asked, ends within, and agrees on the total."""
    ask = Ask(URL, start, None if size is None else start + size)
    known = Known(total=known_total, etag=TAG)
    verdict = judge(ask, 206, *part(f"bytes {first}-{last}/{'*' if total is None else total}"), known=known)
    if isinstance(verdict, Accept):
        assert verdict.stop is not None
        assert start == first == verdict.start < verdict.stop <= last + 1
        assert ask.stop is None or verdict.stop <= ask.stop
        assert known_total in (None, verdict.total)
        assert total in (None, verdict.total)


# 200


@pytest.mark.parametrize(
    ("ask", "fields", "known", "expected"),
    [
        (ASK, (length(1000),), NEW, (0, 1000, 1000)),  # ranges are not known here
        (WHOLE, (length(1000),), NEW, (0, 1000, 1000)),
        (WHOLE, (), NEW, (0, None, None)),
        (WHOLE, (length(1000), ("Transfer-Encoding", "chunked")), NEW, (0, None, None)),
        (WHOLE, (length(0),), NEW, (0, 0, 0)),
        (WHOLE, (("Content-Length", "5, 5"),), NEW, (0, 5, 5)),
        (WHOLE, (length(1000), ("ETag", TAG)), HALF, (0, 1000, 1000)),
        (WHOLE, (("ETag", TAG),), HALF, (0, 1000, 1000)),
        (WHOLE, (), replace(BARE, by_digest=True), (0, 1000, 1000)),
        (ASK, (length(1000), ("ETag", TAG)), HALF, (0, 1000, 1000)),
    ],
)
def test_a_whole_body(
    ask: Ask, fields: tuple[tuple[str, str], ...], known: Known, expected: tuple[int, int | None, int | None]
) -> None:
    """It starts at 0, whatever was asked, and is never appended."""
    assert accepted(judge(ask, 200, *fields, known=known)) == (*expected, False)


@pytest.mark.parametrize(
    ("ask", "fields", "known", "verdict"),
    [
        (replace(LATER, conditional=True), (length(1000), ("ETag", TAG)), HALF, PlainRange),
        (LATER, (length(1000), ("ETag", TAG)), HALF, Whole),
        (replace(LATER, conditional=True), (length(1000), ("ETag", '"v2"')), HALF, Restart),
        (replace(LATER, conditional=True), (length(999), ("ETag", TAG)), HALF, Restart),
        (LATER, (length(400), ("ETag", TAG)), UNSURE, Restart),
        (WHOLE, (length(1000),), BARE, Accept),
        (WHOLE, (), BARE, Restart),  # nothing to compare
        (WHOLE, (length(999),), Known(expected_size=1000), Refuse),
        (WHOLE, (("Content-Length", "5, 6"),), NEW, Retry),
        (WHOLE, (("Content-Length", "-5"),), NEW, Retry),
        (WHOLE, (("Content-Length", "5x"),), NEW, Retry),
        (WHOLE, (("Content-Length", "9" * 30),), NEW, Retry),
        (WHOLE, (("Content-Encoding", "gzip"),), NEW, Refuse),
        (WHOLE, (("Content-Encoding", "identity"),), NEW, Accept),
        # a page in place of a model: a portal, also a coded one, and what is held stays
        (LATER, (length(150), ("Content-Type", "text/html")), HALF, Retry),
        (LATER, (("Content-Encoding", "gzip"), ("Content-Type", "text/html; charset=utf-8")), HALF, Retry),
        (Ask("https://portal/login", 100, source=URL), (("Content-Type", "text/html"),), HALF, Retry),
        (WHOLE, (("Content-Type", "text/html"),), Known(content_type="text/html"), Accept),
        (Ask("https://host/a.html"), (("Content-Type", "text/html"),), NEW, Accept),
    ],
)
def test_a_whole_body_that_was_not_to_come(
    ask: Ask, fields: tuple[tuple[str, str], ...], known: Known, verdict: type[Verdict]
) -> None:
    """A 200 to a range is the same version, another one, or no answer to the question at all."""
    assert isinstance(judge(ask, 200, *fields, known=known), verdict)


# 416, redirects, failures


@pytest.mark.parametrize(
    ("fields", "known", "verdict"),
    [
        ((("Content-Range", "bytes */500"),), UNSURE, Complete(500)),
        ((("Content-Range", "bytes */500"), ("ETag", TAG)), UNSURE, Complete(500)),
        ((("Content-Range", "bytes */500"), ("ETag", '"v2"')), UNSURE, Restart),
        (
            (("Content-Range", "bytes */500"), ("ETag", '"v2"')),
            replace(UNSURE, by_digest=True),
            Complete(500),
        ),
        ((("Content-Range", "bytes */500"),), replace(UNSURE, expected_size=600), Refuse),
        ((("Content-Range", "bytes */0"),), NEW, Complete(0)),  # an empty file
        ((("Content-Range", "bytes */400"),), UNSURE, Whole),
        ((("Content-Range", "bytes */400"),), HALF, Restart),
        ((("Content-Range", "bytes */1000"),), HALF, Whole),
        ((("Content-Range", "bytes 0-499/500"),), UNSURE, Whole),
        ((), UNSURE, Whole),
        ((), NEW, Whole),
        ((("Content-Range", "bytes */500"),), Known(held=500, front=100), Whole),
    ],
)
def test_no_such_range(
    fields: tuple[tuple[str, str], ...], known: Known, verdict: Verdict | type[Verdict]
) -> None:
    """416 completes exactly what is held, of the same version and the promised size; else ranges are no use."""
    got = judge(Ask(URL, 500, 600), 416, *fields, known=known)
    assert got == verdict or (isinstance(verdict, type) and isinstance(got, verdict))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(status: int) -> None:
    """Followed by whoever knows where to; two places are none."""
    assert judge(ASK, status, ("Location", "/there")) == Follow("/there")
    assert isinstance(judge(ASK, status), Refuse)
    assert isinstance(judge(ASK, status, ("Location", "/a"), ("Location", "/b")), Refuse)
    assert judge(ASK, status, ("Location", "/a"), ("Location", "/a")) == Follow("/a")


RESOLVED = replace(ASK, resolved=True)


@pytest.mark.parametrize(
    ("ask", "status", "verdict"),
    [
        *(
            (ASK, status, Refuse)
            for status in (204, 205, 300, 304, 305, 306, 400, 402, 404, 405, 451, 501, 505)
        ),
        *((ASK, status, ResolveAgain) for status in (401, 403, 407, 410)),
        *((RESOLVED, status, ResolveAgain) for status in (400, 401, 403, 404, 410)),
        *((ASK, status, Retry) for status in (408, 425, 429, 500, 502, 503, 504, 511, 599, 600)),
        (ASK, 412, Restart),
        (WHOLE, 416, Refuse),  # no range was asked for
        (RESOLVED, 451, Refuse),
        (ASK, 203, Accept),
    ],
)
def test_statuses(ask: Ask, status: int, verdict: type[Verdict]) -> None:
    """Some pass, some need a fresh URL, the rest are final."""
    got = judge(ask, status, ("Location", "/"), ("Content-Length", "5"))
    assert isinstance(got, verdict)


def test_a_server_may_name_the_time() -> None:
    """Retry-After comes with the verdict."""
    got = judge(ASK, 503, ("Retry-After", "30"))
    assert isinstance(got, Retry)
    assert got.after == 30.0


@pytest.mark.parametrize("status", [*range(300, 307), 309, 400, 401, 403, 404, 408, 412, 416, 429, 500, 503])
@pytest.mark.parametrize("resolved", [False, True])
def test_an_upload_is_never_sent_again(status: int, resolved: bool) -> None:  # noqa: FBT001 - a table
    """Whatever the server says to it is the end, and the reason is the status."""
    got = judge(replace(UPLOAD, resolved=resolved), status, ("Location", "/"), ("Retry-After", "1"))
    assert isinstance(got, Refuse)
    assert (got.fault.reason, got.fault.transient) == (FailureReason.BAD_STATUS, False)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 226])
def test_any_success_answers_an_upload(status: int) -> None:
    """Its body is taken as it comes, pages and codings too."""
    fields = (("Content-Type", "text/html"), ("Content-Encoding", "gzip"))
    assert accepted(judge(UPLOAD, status, *fields)) == (0, None, None, False)


@pytest.mark.parametrize("status", [307, 308])
def test_an_upload_follows_what_keeps_its_method(status: int) -> None:
    """Only these redirects ask for the same request elsewhere."""
    assert judge(UPLOAD, status, ("Location", "/there")) == Follow("/there")


def test_no_sentence_holds_a_query() -> None:
    """A signed URL is a secret."""
    for status in (200, 206, 302, 404, 412, 416, 503):
        got = judge(LATER, status, ("Content-Encoding", "x"), known=HALF)
        assert "secret" not in repr(got)
