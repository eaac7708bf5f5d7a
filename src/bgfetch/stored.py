"""Requests and reply heads as they lie in the database: JSON texts without secrets.

The rule it keeps: no secret reaches the disk. A secret request header keeps its name and loses its value, so that
a reader sees that it is missing; of a reply, what authenticates and where a signed address stood is left out.
JSON comes from the standard library: importing msgspec, or the tables of addresses in
`core/urls`, costs a command more than reading its rows.
"""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from bgfetch.core.model import Headers, ReplyHead, Request

__all__ = ["checksum", "pack_reply", "pack_request", "unpack_reply", "unpack_request", "without_secrets"]

# Beside what carries credentials: it may be a signed address, and has been followed.
_LEFT_OUT = "location"


def checksum(*columns: object) -> int:
    """CRC-32 of the columns' Python notation, joined by unit separators."""
    return crc32("\x1f".join(map(str, columns)).encode("utf-8", "surrogatepass"))


def without_secrets(request: Request) -> Request:
    """The request as a reader of the database gets it: secret headers have the value ""."""
    if not request.headers:
        return request
    from bgfetch.core.urls import is_secret_header  # noqa: PLC0415 - see the module

    headers = Headers(
        (name, "" if is_secret_header(name) else value) for name, value in request.headers.pairs
    )
    return Request(
        request.url, request.method, headers, request.body, request.integrity, request.expected_size
    )


def pack_request(request: Request) -> str:
    """The request without its body and without secrets; what is default is left out."""
    packed: dict[str, Any] = {"url": request.url}
    if request.method != "GET":
        packed["method"] = request.method
    if request.headers:
        packed["headers"] = without_secrets(request).headers.pairs
    if request.integrity:
        packed["integrity"] = request.integrity
    if request.expected_size is not None:
        packed["expected_size"] = request.expected_size
    return _text(packed)


def unpack_request(text: str, body: bytes | None = None) -> Request:
    """What `pack_request` packed.

    Raises:
        ValueError, KeyError, TypeError: The text is not what was packed.
    """
    packed = json.loads(text)
    return Request(
        packed["url"],
        packed.get("method", "GET"),
        Headers((name, value) for name, value in packed.get("headers", ())),
        body,
        packed.get("integrity", ""),
        packed.get("expected_size"),
    )


def pack_reply(reply: ReplyHead | None) -> str:
    """The head without secrets; "" for none. A redirect may have led to a signed address: its query is left out."""
    if reply is None:
        return ""
    from bgfetch.core.urls import is_secret_header  # noqa: PLC0415 - see the module

    kept = [pair for pair in reply.headers.pairs if not (pair[0] == _LEFT_OUT or is_secret_header(pair[0]))]
    return _text({"url": reply.url.partition("?")[0], "status": reply.status, "headers": kept})


def unpack_reply(text: str) -> ReplyHead | None:
    """What `pack_reply` packed.

    Raises:
        ValueError, KeyError, TypeError: The text is not what was packed.
    """
    if not text:
        return None
    packed = json.loads(text)
    return ReplyHead(
        packed["url"], packed["status"], Headers((name, value) for name, value in packed["headers"])
    )


def _text(packed: dict[str, Any]) -> str:
    return json.dumps(packed, ensure_ascii=False, separators=(",", ":"))
