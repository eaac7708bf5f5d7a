"""What a request asks of a file, as a table and for all inputs."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.model import Headers
from bgfetch.core.spans import Span
from bgfetch.web.conditions import Answer, Representation, asked_range, decide

NEW, OLD = '"' + "a" * 64 + '"', '"1f-2-3"'
MODIFIED = 1_700_000_000
DATE = formatdate(MODIFIED, usegmt=True)
EARLIER, LATER = (formatdate(MODIFIED + by, usegmt=True) for by in (-60, 60))
FILE = Representation(1000, (NEW, OLD), MODIFIED)
NOW = MODIFIED + 3600.0
WHOLE, NONE = Span(0, 1000), Span(0, 0)


def answer(*pairs: tuple[str, str], method: str = "GET", file: Representation = FILE) -> Answer:
    """What is decided for these fields."""
    return decide(method, Headers(pairs), file, now=NOW)


@pytest.mark.parametrize(
    ("value", "span"),
    [
        ("bytes=0-", Span(0, 1000)),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=10-19", Span(10, 20)),
        ("bytes=999-", Span(999, 1000)),
        ("bytes=0-999999999999999999999999999", Span(0, 1000)),
        ("bytes=00000000000000000000000000001-2", Span(1, 3)),
        ("Bytes=5-5", Span(5, 6)),
        ("bytes= 5-5 ", Span(5, 6)),
        ("bytes=,5-5,,", Span(5, 6)),
        ("bytes=-1", Span(999, 1000)),
        ("bytes=-1000", Span(0, 1000)),
        ("bytes=-5000", Span(0, 1000)),
        ("bytes=-99999999999999999999999999", Span(0, 1000)),
        # there are no such bytes
        ("bytes=1000-", Span(1000, 1000)),
        ("bytes=1000-2000", Span(1000, 1000)),
        ("bytes=99999999999999999999999999-", Span(1000, 1000)),
        ("bytes=-0", Span(1000, 1000)),
        # malformed, of another unit, or of several ranges: as if it were not there
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        ("bytes=1-2x", None),
        ("bytes=+1-2", None),
        ("bytes=1 - 2", None),
        ("bytes=1-2-3", None),
        ("bytes=\u0661-\u0662", None),
        ("bytes 1-2", None),
        ("items=1-2", None),
        ("", None),
        ("bytes=0-0,5-5", None),
        ("bytes=0-0,-1", None),
        ("bytes=" + "0-0," * 5000 + "1-1", None),
    ],
)
def test_ranges(value: str, span: Span | None) -> None:
    """One range of bytes is understood in every spelling of RFC 9110 section 14, and nothing else is."""
    assert asked_range([value], 1000) == span


def test_two_range_fields_are_ignored() -> None:
    """Who sends two contradicts himself."""
    assert asked_range(["bytes=0-1", "bytes=2-3"], 1000) is None


@pytest.mark.parametrize(
    ("value", "status"), [("bytes=0-", 416), ("bytes=0-0", 416), ("bytes=-1", 200), ("bytes=-0", 416)]
)
def test_an_empty_file_has_no_ranges(value: str, status: int) -> None:
    """No 206 of nothing is ever sent: there is no Content-Range for it."""
    assert answer(("range", value), file=Representation(0, (NEW,), MODIFIED)).status == status


RANGE = ("range", "bytes=10-19")
PART = Span(10, 20)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ((), Answer(200, WHOLE, NEW)),
        ((RANGE,), Answer(206, PART, NEW)),
        ((("range", "bytes=1000-"),), Answer(416, NONE, NEW)),
        # If-Range: one strong tag of this file, or its exact date
        ((RANGE, ("if-range", NEW)), Answer(206, PART, NEW)),
        ((RANGE, ("if-range", OLD)), Answer(206, PART, OLD)),
        ((RANGE, ("if-range", '"other"')), Answer(200, WHOLE, NEW)),
        ((RANGE, ("if-range", f"W/{NEW}")), Answer(200, WHOLE, NEW)),
        ((RANGE, ("if-range", f"{NEW}, {OLD}")), Answer(200, WHOLE, NEW)),
        ((RANGE, ("if-range", NEW.strip('"'))), Answer(200, WHOLE, NEW)),
        ((RANGE, ("if-range", "*")), Answer(200, WHOLE, NEW)),
        ((RANGE, ("if-range", NEW), ("if-range", NEW)), Answer(200, WHOLE, NEW)),
        ((RANGE, ("if-range", DATE)), Answer(206, PART, NEW)),
        ((RANGE, ("if-range", EARLIER)), Answer(200, WHOLE, NEW)),
        ((RANGE, ("if-range", LATER)), Answer(200, WHOLE, NEW)),
        ((RANGE, ("if-range", "yesterday")), Answer(200, WHOLE, NEW)),
        ((("range", "bytes=1000-"), ("if-range", '"other"')), Answer(200, WHOLE, NEW)),
        ((("range", "bytes=1000-"), ("if-range", NEW)), Answer(416, NONE, NEW)),
        ((("if-range", '"other"'),), Answer(200, WHOLE, NEW)),
        # If-None-Match: weak comparison, any of a list; it goes before If-Modified-Since
        ((("if-none-match", NEW),), Answer(304, NONE, NEW)),
        ((("if-none-match", OLD),), Answer(304, NONE, OLD)),
        ((("if-none-match", f"W/{NEW}"),), Answer(304, NONE, NEW)),
        ((("if-none-match", f'"x", {OLD}, "y"'),), Answer(304, NONE, OLD)),
        ((("if-none-match", "*"),), Answer(304, NONE, NEW)),
        ((("if-none-match", '"other"'),), Answer(200, WHOLE, NEW)),
        ((("if-none-match", '"other"'), ("if-modified-since", LATER)), Answer(200, WHOLE, NEW)),
        ((("if-modified-since", DATE),), Answer(304, NONE, NEW)),
        ((("if-modified-since", LATER),), Answer(304, NONE, NEW)),
        ((("if-modified-since", EARLIER),), Answer(200, WHOLE, NEW)),
        ((("if-modified-since", "soon"),), Answer(200, WHOLE, NEW)),
        ((RANGE, ("if-none-match", NEW)), Answer(304, NONE, NEW)),
        # If-Match: strong comparison; it goes before If-Unmodified-Since, and both before everything else
        ((("if-match", NEW),), Answer(200, WHOLE, NEW)),
        ((("if-match", f'"x", {OLD}'),), Answer(200, WHOLE, OLD)),
        ((("if-match", "*"),), Answer(200, WHOLE, NEW)),
        ((("if-match", '"other"'),), Answer(412, NONE, NEW)),
        ((("if-match", f"W/{NEW}"),), Answer(412, NONE, NEW)),
        ((("if-match", ""),), Answer(412, NONE, NEW)),
        ((("if-match", NEW), ("if-unmodified-since", EARLIER)), Answer(200, WHOLE, NEW)),
        ((("if-unmodified-since", EARLIER),), Answer(412, NONE, NEW)),
        ((("if-unmodified-since", DATE),), Answer(200, WHOLE, NEW)),
        ((("if-unmodified-since", "once"),), Answer(200, WHOLE, NEW)),
        ((RANGE, ("if-match", '"other"'), ("if-range", NEW)), Answer(412, NONE, NEW)),
        ((("if-match", '"other"'), ("if-none-match", NEW)), Answer(412, NONE, NEW)),
        ((("if-match", NEW), ("if-none-match", NEW)), Answer(304, NONE, NEW)),
        ((RANGE, ("if-match", OLD)), Answer(206, PART, OLD)),
    ],
)
def test_preconditions(pairs: tuple[tuple[str, str], ...], expected: Answer) -> None:
    """Each precondition has the answer of RFC 9110 section 13, and they are looked at in the order of 13.2.2."""
    assert answer(*pairs) == expected


def test_a_date_too_young_tells_nothing() -> None:
    """Within the second of its Last-Modified a file may have been written twice: no range is given by that date."""
    fields = Headers([RANGE, ("if-range", DATE)])
    assert decide("GET", fields, FILE, now=MODIFIED + 0.5).status == 200
    assert decide("GET", fields, FILE, now=MODIFIED + 1.5).status == 206


def test_head_has_no_ranges() -> None:
    """Range is of GET only (section 14.2); preconditions are of both."""
    assert answer(RANGE, method="HEAD") == Answer(200, WHOLE, NEW)
    assert answer(("if-none-match", NEW), method="HEAD").status == 304
    assert answer(("if-match", '"x"'), method="HEAD").status == 412


FIELDS = st.sampled_from(
    ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]
)
VALUES = st.one_of(
    st.sampled_from([NEW, OLD, f"W/{NEW}", '"other"', "*", DATE, EARLIER, LATER, "bytes=0-", "bytes=-5", ""]),
    st.builds("bytes={}-{}".format, st.integers(0, 2000), st.integers(0, 2000)),
    st.text(alphabet=st.characters(max_codepoint=255), max_size=40),
)
REQUESTS = st.lists(st.tuples(FIELDS, VALUES), max_size=6)


@given(pairs=REQUESTS, size=st.integers(0, 1500), method=st.sampled_from(["GET", "HEAD"]))
def test_every_request_has_a_sound_answer(pairs: list[tuple[str, str]], size: int, method: str) -> None:
    """Whatever is asked: known statuses, spans inside of the file, a tag of this file, and 206 only to a Range."""
    file = Representation(size, (NEW, OLD), MODIFIED)
    got = decide(method, Headers(pairs), file, now=NOW)
    assert got.etag in file.etags
    assert got.status in (200, 206, 304, 412, 416)
    if got.status == 200:
        assert got.span == (0, size)
    elif got.status == 206:
        assert method == "GET"
        assert any(name == "range" for name, _ in pairs)
        assert 0 <= got.span.start < got.span.stop <= size
    else:
        assert got.span.length == 0


@given(pairs=REQUESTS, tag=st.text("0123456789abcdef", min_size=1, max_size=64))
def test_no_range_of_another_version(pairs: list[tuple[str, str]], tag: str) -> None:
    """Who names a tag that this file never had in If-Range is never given a part of it."""
    fields = Headers([*[pair for pair in pairs if pair[0] != "if-range"], ("if-range", f'"x{tag}"')])
    assert decide("GET", fields, FILE, now=NOW).status != 206
