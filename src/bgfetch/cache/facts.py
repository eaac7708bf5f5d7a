"""The JSON beside a partial and beside a blob: enough to go on from it, or to tell what it is, without the database.

The format is a promise (docs/on-disk.md). Unknown members are ignored, missing ones have their default, and a
member of another type makes the whole unreadable: nothing half-believed is built on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

__all__ = ["BlobFacts", "PartialFacts", "decode", "encode"]

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PartialFacts:
    """`facts.json` of a partial.

    Args:
        url: The request's URL as it was given, its query included: identity is the source.
        headers: Request headers that are not secret.
        total: Length of the body, bytes; -1 while it is unknown.
        etag, last_modified, content_type: Of the version whose bytes these are.
        digest: "ALG:HEX" it must have, or "".
        scope, id, title: The registration that asked first.
    """

    LARGEST: ClassVar[int] = 1 << 20

    url: str
    headers: Pairs = ()
    total: int = -1
    etag: str = ""
    last_modified: str = ""
    content_type: str = ""
    digest: str = ""
    scope: str = "default"
    id: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """``<blob>.json``: where a blob came from.

    Args:
        url: The request's URL.
        size: Bytes.
        scope: Whose cache it went to.
        status, headers: Of the reply.
        digest: "ALG:HEX", or "".
        verified: How it was checked (core.model.Verified).
        crc32c: Of the whole body, 8 hex digits, where no table of pieces stands beside it.
    """

    LARGEST: ClassVar[int] = 1 << 20

    url: str
    size: int = 0
    scope: str = "default"
    status: int = 200
    headers: Pairs = ()
    digest: str = ""
    verified: str = ""
    crc32c: str = ""


Facts = TypeVar("Facts", PartialFacts, BlobFacts)


def encode(facts: PartialFacts | BlobFacts) -> bytes:
    """The facts as JSON, what is default left out."""
    members = {
        each.name: getattr(facts, each.name)
        for each in fields(facts)
        if getattr(facts, each.name) != each.default
    }
    return json.dumps({"version": 1, **members}, separators=(",", ":")).encode()


def decode(kind: type[Facts], text: bytes) -> Facts | None:
    """The facts, or None where the text is not such facts."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("version") != 1 or not isinstance(found.get("url"), str):
        return None
    values: dict[str, Any] = {"url": found["url"]}
    for each in fields(kind):
        if each.name == "url" or each.name not in found:
            continue
        value = _pairs(found[each.name]) if each.name == "headers" else found[each.name]
        if type(value) is not type(each.default):
            return None
        values[each.name] = value
    return kind(**values)


def _pairs(value: object) -> Pairs | None:
    if not isinstance(value, list):
        return None
    pairs = tuple(tuple(pair) for pair in value if isinstance(pair, list))
    good = all(len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs)
    return pairs if good and len(pairs) == len(value) else None
