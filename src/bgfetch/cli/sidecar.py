"""Digests that are published beside a file: SOURCE.sha256, or the folder's SHA256SUMS.

They are fetched as everything is, so that proxies, certificates, redirects and retries are the same, and forgotten
at once: a digest from last week must not judge the file of today.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import unquote

from bgfetch.core.digests import Digest, digest_from_sums
from bgfetch.core.model import FailureReason, Request, Verified
from bgfetch.core.urls import redacted
from bgfetch.errors import NetworkError, NotFound
from bgfetch.getting import Getting, Outcome
from bgfetch.registrations.port import RecordRow
from bgfetch.shelf import Shelf
from bgfetch.wiring import Wiring

__all__ = ["with_sidecars"]

_SCOPE: Final = "bgfetch.sidecars"
_LONGEST: Final = 1 << 20  # bytes; a SHA256SUMS of 10,000 files
_PATIENCE: Final = (
    60.0  # seconds; these are small files, and a page in their place is asked for again and again
)
_BUSY: Final = ("status-408", "status-429", "status-5")


def with_sidecars(
    wiring: Wiring, shelf: Shelf, requests: Sequence[Request], *, timeout: float | None
) -> list[Request]:
    """The requests with the sha256 that is published for each; what is here and was checked is not asked about.

    Raises:
        NotFound: There is no digest for one of them.
        NetworkError: That could not be found out.
    """
    asked = [request for request in requests if not _proven(shelf, request)]
    found: dict[str, Digest] = {}
    for beside in (_own, _folder):
        left = [request for request in asked if request.url not in found]
        texts = _texts(wiring, {beside(request): request for request in left}, timeout)
        for request in left:
            digest = digest_from_sums(texts.get(beside(request), ""), _file_name(request), "sha256")
            if digest is not None:
                found[request.url] = digest
    for request in asked:
        if request.url not in found:
            raise NotFound(
                f"no sha256 is published for {redacted(request.url)}: neither {redacted(_own(request))} nor "
                f"{redacted(_folder(request))} has one"
            )
    return [
        replace(request, integrity=str(found[request.url])) if request.url in found else request
        for request in requests
    ]


def _proven(shelf: Shelf, request: Request) -> bool:
    file = shelf.cached(request)
    return file is not None and file.verified is Verified.DIGEST


def _own(request: Request) -> str:
    path, question, query = request.url.partition("?")
    return f"{path}.sha256{question}{query}"


def _folder(request: Request) -> str:
    return f"{request.url.partition('?')[0].rpartition('/')[0]}/SHA256SUMS"


def _file_name(request: Request) -> str:
    return unquote(request.url.partition("?")[0].rpartition("/")[2])


def _texts(wiring: Wiring, wanted: dict[str, Request], timeout: float | None) -> dict[str, str]:
    """What stands under each URL; nothing under those that are not there."""
    if not wanted:
        return {}
    requests = [replace(like, url=url, integrity="", expected_size=None) for url, like in wanted.items()]
    getting = Getting(wiring, _SCOPE)
    patience = min(_PATIENCE, timeout or _PATIENCE)
    outcome = getting.get(requests, told=_ignore, timeout=patience, download_total=_LONGEST * len(requests))
    try:
        return {record.request.url: _text(wiring, outcome, record) for record in outcome.records}
    finally:
        _forget(wiring, outcome)


def _text(wiring: Wiring, outcome: Outcome, record: RecordRow) -> str:
    if record.blob:
        data = wiring.vfs.read(wiring.blobs.path(record.blob), most=_LONGEST)
        return data.decode("utf-8", "replace")
    if record.failure_reason is FailureReason.BAD_STATUS and not record.failure_detail.startswith(_BUSY):
        return ""
    why = record.failure_detail or outcome.last.failure_detail or "it took too long"
    raise NetworkError(f"{redacted(record.request.url)}, where a sha256 may be, could not be read: {why}")


def _forget(wiring: Wiring, outcome: Outcome) -> None:
    row = wiring.registrations.latest(_SCOPE, outcome.id)
    if row is None or not outcome.settled:
        return
    wiring.registrations.purge(row.uid)
    for placed in wiring.entries.placed(_SCOPE):
        wiring.entries.remove(placed.entry.entry_id)
    _drop(wiring, {record.blob for record in outcome.records if record.blob})


def _drop(wiring: Wiring, blobs: Iterable[str]) -> None:
    wanted = wiring.entries.blobs() | wiring.registrations.blobs()
    for blob in blobs:
        if blob not in wanted:
            wiring.blobs.remove(blob)


def _ignore(_id: str, _progress: object) -> None:
    pass
