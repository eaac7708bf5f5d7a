"""The header fields that model files, manifests and refusals are sent with: docs/web-server.md has the table.

Pure: facts in, fields out. Names are lower-case, as ASGI wants them.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import quote, urlsplit

from bgfetch.core.model import Headers
from bgfetch.core.spans import Span

__all__ = [
    "Cors",
    "Fields",
    "Resource",
    "content_type",
    "digest_field",
    "file_fields",
    "range_fields",
    "text_fields",
]

Fields = list[tuple[str, str]]

_REVALIDATED = "no-cache, no-transform"
_FOREVER = "public, max-age=31536000, immutable, no-transform"
_EXPOSED = (
    "Accept-Ranges, Content-Range, Content-Length, Content-Digest, ETag, Last-Modified, Link, Repr-Digest, "
    "Retry-After, Server-Timing"
)
_ASKED = "Range, If-Range, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, Authorization"
_PREFLIGHT_AGE = "7200"  # s: Chromium's longest
# What runtimes load by type; nothing that a browser would show, so that a model's folder never speaks for the site.
_TYPES = {
    "js": "text/javascript",
    "json": "application/json",
    "mjs": "text/javascript",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
}


def content_type(name: str) -> str:
    """The media type of a file by its name."""
    return _TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Resource:
    """What the fields of a file are made of.

    Args:
        name: Its own name, the last part of its path.
        size: Bytes.
        modified: Seconds since the epoch; None while the file may yet change without another date.
        sha256: Hex, or "" while it is not known.
        versioned: The URL names the digest, so its bytes never change.
    """

    name: str
    size: int
    modified: int | None
    sha256: str = ""
    versioned: bool = False


@dataclass(frozen=True, slots=True)
class Cors:
    """Which other origins' pages may read what is served.

    Args:
        origins: Such as "https://app.example"; "*" for all; none for none.
    """

    origins: Collection[str] = ()

    def fields(self, origin: str) -> Fields:
        """For an answer to a request from a page of this origin ("" = none was named)."""
        if not self.origins:
            return [("cross-origin-resource-policy", "same-origin")]
        fields = [("cross-origin-resource-policy", "cross-origin")]
        every = "*" in self.origins
        if not every:
            fields.append(("vary", "Origin"))
        if self.allows(origin):
            allowed = "*" if every else origin
            fields += [
                ("access-control-allow-origin", allowed),
                ("access-control-expose-headers", _EXPOSED),
                ("timing-allow-origin", allowed),
            ]
        return fields

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may read; "" is one that was not named."""
        return "*" in self.origins or origin in self.origins

    def is_foreign(self, headers: Headers) -> bool:
        """Whether a page of another site asks that may not read the answer; who is no browser says nothing of sites.

        Source: Fetch Metadata, Sec-Fetch-Site; browsers without that name the Origin of some requests only.
        """
        origin = headers.get("origin", "")
        if self.allows(origin):
            return False
        if site := headers.get("sec-fetch-site", ""):
            return site not in ("same-origin", "none")
        return bool(origin) and urlsplit(origin).netloc != headers.get("host", "")

    def preflight(self) -> Fields:
        """For an answer to OPTIONS, beside `fields`. If-Range is on no browser's safe list: each resumed download asks."""
        if not self.origins:
            return [("allow", "GET, HEAD, OPTIONS")]
        return [
            ("access-control-allow-methods", "GET, HEAD"),
            ("access-control-allow-headers", _ASKED),
            ("access-control-max-age", _PREFLIGHT_AGE),
            ("allow", "GET, HEAD, OPTIONS"),
        ]


def digest_field(sha256: str) -> str:
    """A digest as the value of Repr-Digest or Content-Digest (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode('ascii')}:"


def file_fields(file: Resource, etag: str, *, refused: bool = False) -> Fields:
    """What every answer about a file carries, 304 and 416 too; without a tag where none would be a promise yet.

    Args:
        file: The file.
        etag: Its tag, or "".
        refused: What this client asked for is not to be had; that is no answer to keep for others.
    """
    kept = _FOREVER if file.versioned else _REVALIDATED
    return [
        ("accept-ranges", "bytes"),
        *([("etag", etag)] if etag else []),
        *([] if file.modified is None else [("last-modified", formatdate(file.modified, usegmt=True))]),
        ("cache-control", "no-store" if refused else kept),
        ("link", f'<{quote(file.name, safe="")}?manifest>; rel="describedby"; type="application/json"'),
        ("x-content-type-options", "nosniff"),
    ]


def range_fields(file: Resource, status: int, span: Span, segment: str) -> Fields:
    """What an answer with bytes carries beside that.

    Args:
        file: The file.
        status: 200 or 206.
        span: The bytes sent.
        segment: sha256 of exactly these bytes, hex, or "".
    """
    fields = [("content-type", content_type(file.name)), ("content-length", str(span.length))]
    if file.sha256:
        fields.append(("repr-digest", digest_field(file.sha256)))
    if status == 206:
        fields.append(("content-range", f"bytes {span.start}-{span.stop - 1}/{file.size}"))
        if segment:
            fields.append(("content-digest", digest_field(segment)))
    return fields


def text_fields(body: bytes, media_type: str = "text/plain; charset=utf-8") -> Fields:
    """For a short answer that is no file: never HTML, so that nobody takes it for a model's page."""
    return [
        ("content-type", media_type),
        ("content-length", str(len(body))),
        ("x-content-type-options", "nosniff"),
    ]
