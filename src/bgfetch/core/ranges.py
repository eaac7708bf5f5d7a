"""The reply checker: what a reply head means for a request, decided from data alone.

Nothing else in bgfetch looks at reply headers to decide whether bytes may be stored. The rule it keeps: bytes of
two versions are never mixed, and no reply that contradicts what is known is believed.

Source: RFC 9110 sections 8.8 (validators), 13.1.5 (If-Range), 14 (range requests), 15 (status codes);
Background Fetch, "validate a partial response", with its defects mended (docs/conformance.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from bgfetch.core.model import FailureReason, Fault, Headers, ReplyHead
from bgfetch.core.retry import StatusClass, asked_to_wait, classify_status, fault_for_status
from bgfetch.core.sniff import refusal
from bgfetch.core.urls import redacted
from bgfetch.core.verdicts import (
    Accept,
    Ask,
    Complete,
    Follow,
    Known,
    PlainRange,
    Refuse,
    ResolveAgain,
    Restart,
    Retry,
    Verdict,
    Whole,
)

__all__ = [
    "Accept",
    "Ask",
    "Complete",
    "ContentRange",
    "Follow",
    "Known",
    "PlainRange",
    "Refuse",
    "ResolveAgain",
    "Restart",
    "Retry",
    "Verdict",
    "Whole",
    "check_reply",
    "is_strong",
    "parse_content_range",
    "range_headers",
]


@dataclass(frozen=True, slots=True)
class ContentRange:
    """`bytes start-stop/total`, half-open; `total` None for `*`; `start` None for an unsatisfied range."""

    start: int | None
    stop: int | None
    total: int | None


_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE)
_LENGTH = re.compile(r"\d{1,19}", re.ASCII)
_ENCODINGS_NONE = frozenset({"", "identity"})


def parse_content_range(values: list[str]) -> ContentRange | None:
    """The one range a Content-Range field gives, or None for a missing, repeated or malformed one.

    Source: RFC 9110 section 14.4 (the standard's own text has the wrong grammar, WICG/background-fetch#154).
    """
    match = _CONTENT_RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return None
    first, last, total_text = match.groups()
    total = None if total_text == "*" else int(total_text)
    if first is None:
        return None if total is None else ContentRange(None, None, total)
    start, stop = int(first), int(last) + 1
    if stop <= start or (total is not None and stop > total):
        return None
    return ContentRange(start, stop, total)


def is_strong(etag: str) -> bool:
    """Whether two equal tags of this kind promise equal bytes (RFC 9110 section 8.8.1); one tag, not a list."""
    return len(etag) > 2 and etag.startswith('"') and etag.find('"', 1) == len(etag) - 1


def range_headers(ask: Ask, known: Known) -> list[tuple[str, str]]:
    """The header fields that make a request the one that `ask` describes.

    `identity` always: a coded body has no stable byte offsets.
    """
    fields = [("Accept-Encoding", "identity")]
    if ask.ranged:
        last = "" if ask.stop is None else str(ask.stop - 1)
        fields.append(("Range", f"bytes={ask.start}-{last}"))
        if ask.conditional:
            fields.append(("If-Range", known.etag))
    return fields


def check_reply(ask: Ask, reply: ReplyHead, known: Known, *, now: float) -> Verdict:
    """What to do with a reply.

    Args:
        ask: The request it answers.
        reply: Its head.
        known: What is known of the body so far.
        now: Instant, seconds since the epoch, for Retry-After dates.

    Returns:
        One of the `Verdict` classes; a Fault inside carries the sentence for a person.
    """
    status = reply.status
    if not ask.safe:
        return _sent_once(ask, reply)
    if 300 <= status <= 399 and status != 304:
        return _redirect(reply)
    if status == 416 and ask.ranged:
        return _unsatisfiable(ask, reply, known)
    if status == 412:
        return Restart(_fault("changed", f"{_where(ask)} is no longer the version that was begun"))
    if not 200 <= status <= 299:
        return _failed(ask, reply, now)
    if status not in (200, 203, 206):
        return Refuse(fault_for_status(status, redacted(ask.url)))
    return _success(ask, reply, known)


def _sent_once(ask: Ask, reply: ReplyHead) -> Verdict:
    """An upload: any 2xx is its answer; only a redirect that keeps method and body is followed; no second try.

    Source: Background Fetch, "complete a record"; WHATWG Fetch, HTTP-redirect fetch (301 to 303 become a GET there,
    which is not what was asked for).
    """
    if 200 <= reply.status <= 299:
        return _accept_whole(reply, None)
    if reply.status in (307, 308):
        return _redirect(reply)
    return Refuse(replace(fault_for_status(reply.status, redacted(ask.url)), transient=False))


def _success(ask: Ask, reply: ReplyHead, known: Known) -> Verdict:
    page = refusal(b"", reply.headers.get("content-type", ""), asked=ask.named)
    if page is not None and "html" not in known.content_type:
        return Retry(page)
    coding = reply.headers.get("content-encoding", "").lower()
    if coding not in _ENCODINGS_NONE:
        detail = f"{_where(ask)} came encoded as {coding[:40]!r} although identity was asked; its bytes are not the file's"
        return Refuse(_fault("encoded", detail))
    length = _content_length(reply.headers)
    if isinstance(length, Fault):
        return Retry(length)
    if reply.status == 206:
        return _partial(ask, reply, known, length)
    return _whole(ask, reply, known, length)


def _partial(ask: Ask, reply: ReplyHead, known: Known, length: int | None) -> Verdict:
    where = _where(ask)
    if not ask.ranged:
        return Refuse(_fault("bad-range-reply", f"{where} sent a part although the whole was asked"))
    got = parse_content_range(reply.headers.get_all("content-range"))
    if got is None or got.start is None or got.stop is None:
        return Whole(_fault("bad-range-reply", f"{where} sent a part without saying which"))
    if length is not None and length < got.stop - got.start:
        return Whole(
            _fault("bad-range-reply", f"{where} sent {length} bytes and called them {got.stop - got.start}")
        )
    changed = _changed(reply.headers, got.total, known)
    if changed:
        return Restart(_fault("changed", f"{where} changed while it was fetched ({changed})"))
    if got.start != ask.start:
        return Whole(
            _fault("bad-range-reply", f"{where} sent bytes from {got.start} where {ask.start} was asked")
        )
    total = known.total if got.total is None else got.total
    wrong = _wrong_size(ask, total, known)
    if wrong is not None:
        return Refuse(wrong)
    stop = got.stop if ask.stop is None else min(got.stop, ask.stop)
    return _accept(reply, got.start, stop, total, ranges=True)


def _whole(ask: Ask, reply: ReplyHead, known: Known, length: int | None) -> Verdict:
    wrong = _wrong_size(ask, length, known)
    if not known.version:
        return Refuse(wrong) if wrong is not None else _accept_whole(reply, length)
    changed = _changed(reply.headers, length, known)
    blind = known.total is not None and length is None and not is_strong(known.etag) and not known.by_digest
    if changed or blind:
        why = changed or "nothing to compare"
        return Restart(_fault("changed", f"{_where(ask)} changed while it was fetched ({why})"))
    if ask.ranged and ask.conditional:
        return PlainRange()
    if ask.ranged and ask.start > 0:
        return Whole(_fault("no-ranges", f"{_where(ask)} no longer answers range requests"))
    return _accept_whole(reply, known.total if length is None else length)


def _unsatisfiable(ask: Ask, reply: ReplyHead, known: Known) -> Verdict:
    got = parse_content_range(reply.headers.get_all("content-range"))
    total = got.total if got is not None and got.start is None else None
    if total is not None and total == known.front == known.held and known.total in (None, total):
        return _complete(ask, reply, known, total)
    detail = f"{redacted(reply.url)} has no such range any more"
    if known.held and total is not None and known.total not in (None, total):
        return Restart(_fault("changed", f"{detail}: it is {total} bytes long now, not {known.total}"))
    return Whole(_fault("bad-range-reply", detail))


def _complete(ask: Ask, reply: ReplyHead, known: Known, total: int) -> Verdict:
    """Nothing lies behind what is held: complete, if this reply is about the same version and that has its size."""
    etag = reply.headers.get("etag", "")
    if etag and known.etag and etag != known.etag and not known.by_digest:
        return Restart(_fault("changed", f"{_where(ask)} changed while it was fetched (another ETag)"))
    wrong = _wrong_size(ask, total, known)
    return Complete(total) if wrong is None else Refuse(wrong)


def _redirect(reply: ReplyHead) -> Verdict:
    locations = reply.headers.get_all("location")
    if len(set(locations)) != 1 or reply.status in (300, 305, 306):
        return Refuse(fault_for_status(reply.status, redacted(reply.url)))
    return Follow(locations[0])


def _failed(ask: Ask, reply: ReplyHead, now: float) -> Verdict:
    fault = fault_for_status(reply.status, redacted(ask.url))
    # Signed URLs answer 400 as well when they have expired (S3: "Request has expired").
    expired = ask.resolved and reply.status in (400, 404)
    if ask.safe and (expired or classify_status(reply.status) is StatusClass.AUTH):
        return ResolveAgain(fault)
    if classify_status(reply.status) is StatusClass.TRANSIENT and ask.safe:
        return Retry(fault, asked_to_wait(reply.headers, now))
    return Refuse(fault)


def _changed(headers: Headers, total: int | None, known: Known) -> str:
    """What shows that this reply is of another version than the one known, or ""."""
    if not known.version:
        return ""
    if None not in (total, known.total) and total != known.total:
        return f"{total} bytes now, {known.total} before"
    if total is not None and total < known.held:
        return f"{total} bytes now, and {known.held} of it are held"
    if known.by_digest:
        return ""
    if known.etag and headers.get("etag", "") != known.etag:
        return "another ETag"
    if not is_strong(known.etag) and headers.get("last-modified", "") != known.last_modified:
        return "another Last-Modified"
    return ""


def _wrong_size(ask: Ask, total: int | None, known: Known) -> Fault | None:
    if total is None or known.expected_size in (None, total):
        return None
    return _fault("size", f"{_where(ask)} is {total} bytes long where {known.expected_size} were promised")


def _content_length(headers: Headers) -> int | Fault | None:
    values = (
        {part.strip() for part in headers.get("content-length", "").split(",")}
        if "content-length" in headers
        else set()
    )
    if not values or "transfer-encoding" in headers:
        return None
    text = values.pop()
    if values or not _LENGTH.fullmatch(text):
        return _fault("bad-http", "the server gave contradictory or impossible lengths", transient=True)
    return int(text)


def _accept_whole(reply: ReplyHead, length: int | None) -> Accept:
    return _accept(reply, 0, length, length, ranges=False)


def _accept(reply: ReplyHead, start: int, stop: int | None, total: int | None, *, ranges: bool) -> Accept:
    headers = reply.headers
    return Accept(
        start,
        stop,
        total,
        headers.get("etag", ""),
        headers.get("last-modified", ""),
        headers.get("content-type", ""),
        ranges,
    )


def _where(ask: Ask) -> str:
    return redacted(ask.url)


def _fault(kind: str, detail: str, *, transient: bool = False) -> Fault:
    return Fault(kind, detail, FailureReason.FETCH_ERROR, transient)
