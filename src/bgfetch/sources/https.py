"""A plain URL becomes a request: checked here once, so that nothing behind this meets a URL it cannot trust."""

from __future__ import annotations

from collections.abc import Iterable

from bgfetch.core.digests import Digest
from bgfetch.core.model import Headers, Request
from bgfetch.core.urls import parse_http_url, redacted
from bgfetch.errors import InvalidRequest

__all__ = ["checked_request"]

# Fields that are the transport's, or that would make another body of the same URL (Background Fetch issue 28).
_OURS = frozenset({
    "accept-encoding", "connection", "content-length", "expect", "host", "if-range", "range", "te",
    "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_LONGEST_BODY = 1 << 30


def checked_request(
    url: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    integrity: str = "",
    expected_size: int | None = None,
) -> Request:
    """A request that can be registered.

    Args:
        url: Absolute http or https URL.
        method: Any method token but CONNECT and TRACE.
        headers: (name, value) pairs.
        body: For methods other than GET and HEAD.
        integrity: "ALG:HEX", or "".
        expected_size: Bytes, >= 0.

    Raises:
        InvalidRequest: What is wrong, naming it; secrets in it are not repeated.
    """
    upper = method.upper()
    if not upper or not set(upper.lower()) <= _TOKEN or upper in ("CONNECT", "TRACE"):
        raise InvalidRequest(f"{method[:20]!r} is not a method that can be fetched with")
    if body is not None and upper in ("GET", "HEAD"):
        raise InvalidRequest(f"a {upper} request has no body")
    if body is not None and len(body) > _LONGEST_BODY:
        raise InvalidRequest(f"a request body of {len(body)} bytes is longer than {_LONGEST_BODY}")
    if expected_size is not None and expected_size < 0:
        raise InvalidRequest(f"expected_size is {expected_size}; a body has 0 bytes or more")
    pairs = [_checked_header(name, value) for name, value in headers]
    digest = str(Digest.parse(integrity)) if integrity else ""
    if url.lower().startswith("hf://"):
        raise InvalidRequest(
            f"names of Hugging Face cannot be fetched yet, only URLs: {redacted(url)}; a file of a repository is at "
            "https://huggingface.co/ORG/REPO/resolve/main/FILE"
        )
    return Request(parse_http_url(url), upper, Headers(pairs), body, digest, expected_size)


def _checked_header(name: str, value: str) -> tuple[str, str]:
    lowered = name.strip().lower()
    if not lowered or not set(lowered) <= _TOKEN:
        raise InvalidRequest(f"{name[:40]!r} is not the name of a header field")
    if lowered in _OURS:
        raise InvalidRequest(f"the header field {lowered!r} is set by bgfetch itself")
    if any((ord(char) < 32 and char != "\t") or ord(char) == 127 or ord(char) > 255 for char in value):
        raise InvalidRequest(
            f"the value of the header field {lowered!r} has characters that no header may have"
        )
    return lowered, value.strip()
