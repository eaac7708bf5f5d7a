"""Between the rows of the database and the values of the port; what must be true carries a checksum.

SQLite notices few flipped bits by itself. A registration or request that fails its CRC-32 is `Damaged`: it would
fetch something nobody asked for. Spans that fail theirs are nothing held: the bytes are fetched again, and never is
a byte claimed that may be wrong. A finished body needs none: its name is its digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final
from zlib import crc32

from bgfetch.core.model import FailureReason, Icon, ReplyHead, Request, Result, State, Verified
from bgfetch.core.spans import Span, Spans
from bgfetch.database import Damaged
from bgfetch.registrations.port import (
    EventType,
    LoggedEvent,
    OutboxEvent,
    RecordRow,
    RegistrationOptions,
    RegistrationRow,
    Wish,
)
from bgfetch.stored import checksum, pack_request, unpack_reply, unpack_request

__all__ = [
    "believed",
    "pack_icons",
    "pack_options",
    "pack_record",
    "pack_spans",
    "unpack_event",
    "unpack_line",
    "unpack_record",
    "unpack_registration",
    "unpack_spans",
]

_PLAIN: Final = RegistrationOptions()


@contextmanager
def believed(what: str) -> Iterator[None]:
    """Within it, what cannot be read back is `Damaged`: it was readable when it was written."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise Damaged(f"{what} is not what was written: {error}") from error


def pack_icons(icons: Sequence[Icon]) -> str:
    """JSON; "" for none."""
    return _text([asdict(icon) for icon in icons]) if icons else ""


def pack_options(options: RegistrationOptions | None) -> str:
    """JSON; "" for the default ones."""
    return "" if options in (None, _PLAIN) else _text(asdict(options))


def pack_record(uid: int, position: int, request: Request, key: str) -> dict[str, Any]:
    """The columns of a record that never change."""
    text = pack_request(request)
    check = checksum(uid, position, text, key, request.body)
    return {"uid": uid, "position": position, "request": text, "partial": key, "checksum": check}


def pack_spans(spans: Spans, uid: int, position: int, *, etag: str, last_modified: str) -> bytes:
    """CRC-32 (4 bytes, little-endian), then gap and length of each span in turn, as LEB128 numbers.

    The checksum also covers whose spans these are and of which version of the body. b"" is nothing held.
    """
    packed = bytearray()
    at = 0
    for start, stop in spans:
        _put(packed, start - at)
        _put(packed, stop - start)
        at = stop
    if not packed and not etag and not last_modified:
        return b""
    check = crc32(packed, checksum(uid, position, etag, last_modified))
    return check.to_bytes(4, "little") + packed


def unpack_spans(packed: bytes, uid: int, position: int, *, etag: str, last_modified: str) -> Spans | None:
    """What `pack_spans` packed, or None when any of it is not what was written."""
    if not packed and not etag and not last_modified:
        return Spans()
    body = packed[4:]
    expected = crc32(body, checksum(uid, position, etag, last_modified))
    if len(packed) < 4 or int.from_bytes(packed[:4], "little") != expected:
        return None
    numbers = _numbers(body)
    at = 0
    spans: list[Span] = []
    for gap, length in zip(numbers, numbers, strict=True):
        spans.append(Span(at + gap, at + gap + length))
        at += gap + length
    return Spans(tuple(spans))


def unpack_registration(row: tuple[Any, ...]) -> RegistrationRow:
    """The value of a row of the registration queries. Within `believed`."""
    if checksum(*row[:10]) != row[10]:
        raise ValueError("its checksum does not fit")
    uid, scope, id_, title, icons, options, _, download_total, upload_total, created_at, _ = row[:11]
    downloaded, uploaded, result, reason, detail, settled_at, available, wish, epoch, owner, state, until = (
        row[11:]
    )
    return RegistrationRow(
        uid,
        scope,
        id_,
        title,
        tuple(Icon(**icon) for icon in json.loads(icons)) if icons else (),
        download_total,
        upload_total,
        downloaded,
        uploaded,
        _RESULTS[result],
        _REASONS[reason],
        detail,
        created_at,
        settled_at,
        bool(available),
        _WISHES[wish],
        epoch,
        owner,
        _STATES[state],
        until,
        _options(options) if options else _PLAIN,
    )


def unpack_record(row: tuple[Any, ...]) -> RecordRow:
    """The value of a row of the query `records`. Within `believed`."""
    uid, position, text, key, body, check, reply, total, downloaded, uploaded = row[1:11]
    spans, etag, last_modified, digest, verified, blob, result, reason, detail, restarts = row[11:]
    if checksum(uid, position, text, key, body) != check:
        raise ValueError("its checksum does not fit")
    held = unpack_spans(spans, uid, position, etag=etag, last_modified=last_modified)
    if held is None:
        held, etag, last_modified = Spans(), "", ""
        downloaded = downloaded if result else 0
    return RecordRow(
        position,
        unpack_request(text, body),
        key,
        _reply(reply),
        total,
        downloaded,
        uploaded,
        held,
        etag,
        last_modified,
        digest,
        Verified(verified),
        blob,
        _RESULTS[result],
        _REASONS[reason],
        detail,
        restarts,
    )


def unpack_event(row: tuple[Any, ...]) -> OutboxEvent:
    """The value of a row of the query `pending`. Within `believed`."""
    event_id, uid, scope, id_, type_, created_at, attempts, not_before = row
    return OutboxEvent(event_id, uid, scope, id_, EventType(type_), created_at, attempts, not_before)


def unpack_line(row: tuple[Any, ...]) -> LoggedEvent:
    """The value of a row of the queries `events`."""
    return LoggedEvent(*row)


# A dictionary answers four times as fast as the enumeration, and a listing asks 40,000 times.
_RESULTS: Final = {it.value: it for it in Result}
_REASONS: Final = {it.value: it for it in FailureReason}
_WISHES: Final = {it.value: it for it in Wish}
_STATES: Final = {it.value: it for it in State}


def _reply(text: str) -> ReplyHead | None:
    """None as well for one that cannot be read: it is shown, nothing is decided by it."""
    try:
        return unpack_reply(text)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _options(text: str) -> RegistrationOptions:
    known = RegistrationOptions.__dataclass_fields__
    return RegistrationOptions(**{name: value for name, value in json.loads(text).items() if name in known})


def _put(packed: bytearray, number: int) -> None:
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)


def _numbers(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
