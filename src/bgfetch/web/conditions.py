"""What a request asks of a file: which status, which bytes, under which tag. A decision from data alone.

The rule it keeps: a range is given only of the version that the client has the rest of.

Source: RFC 9110 sections 13.1 (preconditions), 13.2.2 (their order), 14.1.2 and 14.2 (byte ranges).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bgfetch.core.model import Headers
from bgfetch.core.ranges import is_strong
from bgfetch.core.retry import http_date
from bgfetch.core.spans import Span

__all__ = ["Answer", "Representation", "asked_range", "decide"]

_SET = re.compile(r"bytes[ \t]*=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_MOST_DIGITS = 19  # of a position: more lie behind the end of every file
_BEYOND = 10**_MOST_DIGITS
_DATE_IS_STRONG = 1.0  # s that a date must lie back: a second change within it would have the same date


@dataclass(frozen=True, slots=True)
class Representation:
    """A file as it is now.

    Args:
        size: Bytes.
        etags: Every strong tag it has been given out under; the first is the one for who names none.
        modified: When it was last written to, whole seconds since the epoch; None where that is not told.
    """

    size: int
    etags: tuple[str, ...]
    modified: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send.

    Args:
        status: 200, 206, 304, 412 or 416.
        span: The bytes of the file that are the body, for 200 and 206; empty otherwise.
        etag: The tag to send: the one that the client named, if it is this file's.
    """

    status: int
    span: Span
    etag: str


def decide(method: str, headers: Headers, file: Representation, *, now: float) -> Answer:
    """The answer to a GET or a HEAD.

    Args:
        method: "GET" or "HEAD"; a HEAD has the head of the GET without its Range.
        headers: Of the request.
        file: What it is about.
        now: Seconds since the epoch, for dates that are too young to tell two versions apart.

    Source: RFC 9110 section 13.2.2, steps 1 to 5.
    """
    named = _named(headers, file)
    whole, nothing = Span(0, file.size), Span(0, 0)
    if not _matches(headers, file):
        return Answer(412, nothing, named)
    if _not_modified(headers, file):
        return Answer(304, nothing, named)
    asked = asked_range(headers.get_all("range"), file.size) if method == "GET" else None
    if asked is None or not _same_version(headers, file, now):
        return Answer(200, whole, named)
    if asked.length == 0:
        return Answer(416, nothing, named)
    return Answer(206, asked, named)


def asked_range(values: list[str], size: int) -> Span | None:
    """The bytes that a Range field asks for; an empty span where there are none such, None to ignore the field.

    Ignored are other units, what is malformed, and sets of several ranges: a server may (section 14.2), and then neither
    a list of thousands of overlapping ones nor the parsing of multipart bodies is anybody's trouble.
    """
    match = _SET.fullmatch(values[0].strip(" \t")) if len(values) == 1 else None
    if match is None:
        return None
    specs = [each.strip(" \t") for each in match[1].split(",")]
    specs = [each for each in specs if each]  # empty members of a list count for nothing (section 5.6.1)
    spec = _SPEC.fullmatch(specs[0]) if len(specs) == 1 else None
    if spec is None or spec[0] == "-":
        return None
    return _suffix(spec[2], size) if not spec[1] else _positions(spec[1], spec[2], size)


def _suffix(length: str, size: int) -> Span | None:
    wanted = _number(length)
    if size == 0 and wanted:
        return None  # all of nothing: there is no Content-Range for it
    return Span(max(0, size - wanted), size)


def _positions(first: str, last: str, size: int) -> Span | None:
    start, stop = _number(first), _number(last) + 1 if last else _BEYOND
    if stop <= start and last:
        return None
    return Span(start, min(stop, size)) if start < size else Span(size, size)


def _number(digits: str) -> int:
    stripped = digits.lstrip("0") or "0"
    return int(stripped) if len(stripped) <= _MOST_DIGITS else _BEYOND


def _matches(headers: Headers, file: Representation) -> bool:
    """If-Match, or else If-Unmodified-Since: whether the request is to be carried out at all."""
    if "if-match" in headers:
        value = headers["if-match"]
        return value.strip() == "*" or any(tag in file.etags for tag in _TAG.findall(value))
    until = http_date(headers.get("if-unmodified-since", ""))
    return until is None or file.modified is None or file.modified <= until


def _not_modified(headers: Headers, file: Representation) -> bool:
    """If-None-Match, or else If-Modified-Since: whether the client has this version."""
    if "if-none-match" in headers:
        value = headers["if-none-match"]
        return value.strip() == "*" or any(
            tag.removeprefix("W/") in file.etags for tag in _TAG.findall(value)
        )
    since = http_date(headers.get("if-modified-since", ""))
    return since is not None and file.modified is not None and file.modified <= since


def _same_version(headers: Headers, file: Representation, now: float) -> bool:
    """If-Range: whether what the client has is of this version; one strong tag, or the exact date."""
    values = headers.get_all("if-range")
    if not values:
        return True
    if len(values) == 1 and is_strong(values[0]):
        return values[0] in file.etags
    date = http_date(values[0]) if len(values) == 1 else None
    return date is not None and date == file.modified and now - date > _DATE_IS_STRONG


def _named(headers: Headers, file: Representation) -> str:
    """The tag of this file that the request names, or its first."""
    for field in ("if-range", "if-match", "if-none-match"):
        for tag in _TAG.findall(headers.get(field, "")):
            if tag in file.etags:
                return str(tag)
    return file.etags[0] if file.etags else ""
