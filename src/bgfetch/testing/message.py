"""Requests as they were seen, and the reply a correct origin would give.

Source: RFC 9110 sections 13 (conditional requests) and 14 (ranges).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from urllib.parse import urlsplit

from bgfetch.testing.content import Content

__all__ = ["Reply", "SeenRequest", "asked_span", "correct_reply", "text_reply"]

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request as it came over the wire.

    Args:
        method: As sent.
        target: Second word of the request line: a path with its query, or a whole URL where we are the proxy.
        headers: Names lower-case; repeated ones joined with ", ".
        body: What was uploaded.
        connection: Number of the connection it came on, from 0.
        at: When its head was complete, seconds of the monotonic clock.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""
    connection: int = 0
    at: float = 0.0

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        """What follows "?" in the target."""
        return urlsplit(self.target).query

    @property
    def host(self) -> str:
        """The Host header, or ""."""
        return self.headers.get("host", "")

    @property
    def range(self) -> str | None:
        """The Range header, or None."""
        return self.headers.get("range")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to send: `spans` of `content` one after the other, under `headers`."""

    status: int
    content: Content
    spans: tuple[tuple[int, int], ...]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Bytes in its body."""
        return sum(stop - start for start, stop in self.spans)

    def but(self, **headers: str | None) -> Reply:
        """The same reply with these headers; `_` stands for "-" in a name, None removes the header."""
        changes = {name.replace("_", "-").title(): value for name, value in headers.items()}
        merged = {**self.headers, **changes}
        return replace(self, headers={name: value for name, value in merged.items() if value is not None})

    def head(self) -> bytes:
        """The status line and headers as bytes, up to and with the empty line."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def asked_span(header: str | None, length: int) -> tuple[int, int] | None:
    """The bytes that a Range header asks for; empty when there are none; None when it asks for all of them.

    What it does not understand, also several ranges, it ignores, as RFC 9110 section 14.2 lets a server do.
    """
    match = _RANGE.match(header or "")
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return (max(0, length - int(last)), length)
    start, stop = int(first), min(int(last) + 1, length) if last else length
    if last and int(last) < start:
        return None
    return (start, stop) if start < length else (length, length)


def text_reply(status: int, text: str, media_type: str = "text/plain; charset=utf-8") -> Reply:
    """A small reply with this text."""
    content = Content(memoryview(text.encode()))
    headers = {"Content-Type": media_type, "Content-Length": str(content.length)}
    return Reply(status, content, ((0, content.length),), headers)


def correct_reply(
    request: SeenRequest, content: Content, *, if_range: bool = True, repr_digest: bool = False
) -> Reply:
    """What a correct origin answers to a GET or HEAD for this content.

    Args:
        request: What was asked.
        content: What is there.
        if_range: Whether If-Range is understood; if not, a range is given whatever the validator says.
        repr_digest: Whether to send `Repr-Digest` (RFC 9530).
    """
    headers = {"Accept-Ranges": "bytes", "Content-Type": content.media_type, **_validators(content)}
    if repr_digest:
        digest = base64.b64encode(bytes.fromhex(content.sha256)).decode()
        headers["Repr-Digest"] = f"sha-256=:{digest}:"
    if content.etag and request.headers.get("if-none-match") in {content.etag, "*"}:
        return Reply(304, content, (), _validators(content))
    span = asked_span(request.range, content.length)
    if span is None or request.method != "GET" or (if_range and not _if_range_holds(request, content)):
        whole = Reply(200, content, ((0, content.length),), headers)
        return whole.but(content_length=str(content.length))
    start, stop = span
    if start == stop:
        return text_reply(416, "there are no such bytes\n").but(content_range=f"bytes */{content.length}")
    partial = Reply(206, content, (span,), headers)
    content_range = f"bytes {start}-{stop - 1}/{content.length}"
    return partial.but(content_length=str(stop - start), content_range=content_range)


def _validators(content: Content) -> dict[str, str]:
    both = {"ETag": content.etag, "Last-Modified": content.modified}
    return {name: value for name, value in both.items() if value}


def _if_range_holds(request: SeenRequest, content: Content) -> bool:
    # The comparison is the strong one: a weak tag never holds (RFC 9110 section 13.1.5).
    condition = request.headers.get("if-range")
    return condition is None or (condition in {content.etag, content.modified} and condition[:2] != "W/")
