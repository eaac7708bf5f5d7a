"""A lost or damaged database, made again from what lies beside the bytes.

`facts.json` of each partial says which registration asked for it, so that it becomes active again and goes on from
its bytes; ``<blob>.json`` says where a finished body came from, so that it is in the cache `downloads` again. What is
known already is left alone: this may be done twice, or by two processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bgfetch.cache.entries import Entry
from bgfetch.cache.facts import BlobFacts, PartialFacts
from bgfetch.cache.maintenance import Kept, References
from bgfetch.core.digests import Digest
from bgfetch.core.identity import default_id, request_key
from bgfetch.core.matching import may_be_put
from bgfetch.core.model import Headers, ReplyHead, Request, Verified
from bgfetch.core.urls import parse_http_url
from bgfetch.errors import DuplicateId, InvalidRequest

__all__ = ["CACHE_NAME", "Rebuilt", "Register", "rebuild"]

CACHE_NAME: Final = "downloads"


class Register(References, Protocol):
    """Takes registrations; the store of registrations is such."""

    def add(
        self,
        scope: str,
        id: str,  # noqa: A002 - the standard's word
        requests: Sequence[tuple[Request, str]],
        *,
        title: str = "",
        now: float,
    ) -> object:
        """A new registration of these (request, key of its partial); DuplicateId when the id is active."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was added: (scope, id) of registrations, and how many entries."""

    registrations: tuple[tuple[str, str], ...]
    entries: int


def rebuild(kept: Kept, register: Register, *, now: float, entries_lost: bool = False) -> Rebuilt:
    """Add again what the files say and the database does not.

    Args:
        kept: The stores, over the fresh database.
        register: The registrations in it.
        now: Instant of what is added, seconds since the epoch.
        entries_lost: Whether a body that a registration knows may have lost its entry. Else it has none because its
            event was not handled yet, or by somebody who wanted none.

    Raises:
        CacheError: The database refuses.
    """
    return Rebuilt(
        tuple(_registrations(kept, register, now)),
        _entries(kept, set() if entries_lost else register.blobs(), now),
    )


def _registrations(kept: Kept, register: Register, now: float) -> Iterator[tuple[str, str]]:
    groups: dict[tuple[str, str], list[tuple[Request, str, str]]] = {}
    known = register.keys()
    for key, facts in kept.partials.facts():
        request = _request(facts)
        # Facts name no method: only a GET has this key, and nothing else may be sent again.
        if request is None or key in known or request_key(request) != key or _is_whole(kept, key):
            continue
        place = (facts.scope, facts.id or default_id([request]))
        groups.setdefault(place, []).append((request, key, facts.title))
    for (scope, name), found in groups.items():
        found.sort(key=lambda each: each[0].url)  # their order is lost; one that does not change is as good
        requests = [(request, key) for request, key, _ in found]
        try:
            register.add(scope, name, requests, title=found[0][2], now=now)
        except DuplicateId:
            continue
        yield scope, name


def _is_whole(kept: Kept, key: str) -> bool:
    """Whether it got its final name before its process ended: then it is an entry, and nothing is to be fetched."""
    placed = kept.blobs.promised(kept.partials.path(key))
    return placed is not None and kept.blobs.size(placed.blob) == placed.size


def _request(facts: PartialFacts) -> Request | None:
    """What was asked; None where the file does not say anything that could be asked."""
    try:
        url, integrity = parse_http_url(facts.url), facts.digest and str(Digest.parse(facts.digest))
    except InvalidRequest:
        return None
    return Request(url, headers=Headers(facts.headers), integrity=integrity)


def _entries(kept: Kept, known: set[str], now: float) -> int:
    known = kept.entries.blobs() | known
    lost = [name for name in kept.blobs.names() if name not in known]
    # Newest first, since of several versions of one URL the first that is put stays.
    lost.sort(key=lambda name: kept.vfs.touched(kept.blobs.path(name)) or 0.0, reverse=True)
    count = 0
    for name in lost:
        facts = kept.blobs.facts(name)
        if facts is None or kept.blobs.size(name) != facts.size:
            continue
        entry = _entry(name, facts, now)
        if entry is None or kept.entries.by_url(facts.scope, entry.request.url) is not None:
            continue
        kept.entries.put(kept.entries.open_cache(facts.scope, CACHE_NAME), entry)
        count += 1
    return count


def _entry(name: str, facts: BlobFacts, now: float) -> Entry | None:
    try:
        request = Request(parse_http_url(facts.url))
        verified = Verified(facts.verified)
    except (InvalidRequest, ValueError):
        return None
    pairs = [pair for pair in facts.headers if pair[0] != "content-length"]
    reply = ReplyHead(request.url, facts.status, Headers([*pairs, ("content-length", str(facts.size))]))
    if may_be_put(request, reply) is not None:
        return None
    return Entry(request, reply, name, facts.size, verified, facts.digest, now)
