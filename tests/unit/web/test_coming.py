"""A download that is sent on while it comes: nothing that looks whole before it is verified, nothing of two versions."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bgfetch.core.model import Headers, ReplyHead, Request, Result
from bgfetch.core.spans import Span
from bgfetch.registrations.port import RecordRow
from bgfetch.running import Look
from bgfetch.vfs import Vfs
from bgfetch.web.asked import Asked
from bgfetch.web.coming import Broken, Coming

BODY = bytes(range(256)) * 4000
REPLY = ReplyHead("http://h/m", 200, Headers([("etag", '"v1"')]))
GOOD = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


class Download:
    """Stands for the home: how the download is at each look, the last one for ever."""

    def __init__(self, stands: list[tuple[Look | None, RecordRow]]) -> None:
        self.stands = stands
        self.vfs = Vfs()
        self.runs = SimpleNamespace(look=self._look)
        self.registrations = SimpleNamespace(records=self._records)

    def _look(self, _uid: int, _index: int) -> Look | None:
        return self.stands[0][0]

    def _records(self, _uid: int) -> list[RecordRow]:
        record = self.stands[0][1]
        if len(self.stands) > 1:
            del self.stands[0]
        return [record]


ROW = RecordRow(0, Request("http://h/m"), "k", total=len(BODY))
DONE = replace(ROW, result=Result.SUCCESS, digest=GOOD)


def look(front: int, generation: int = 1) -> Look:
    """So much is held from the first byte on."""
    return Look(REPLY, generation, front, len(BODY))


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """The bytes, all of them on disk."""
    (tmp_path / "data").write_bytes(BODY)
    opened = os.open(tmp_path / "data", os.O_RDONLY)
    yield opened
    os.close(opened)


def collect(
    fd: int, stands: list[Any], span: Span, total: int | None = len(BODY), *, gone: bool = False
) -> tuple[bytes, str]:
    """What was sent on, and why it ended early, or ""."""
    got = bytearray()
    departure: Any = SimpleNamespace(happened=gone)

    async def job() -> str:
        coming: Any = Coming(Download(stands), 1, REPLY, 1, 0, total, fd)  # type: ignore[arg-type]
        try:
            async for block in coming.chunks(span, departure):
                got.extend(block)
        except Broken as broken:
            return str(broken) or "broken"
        return ""

    why = asyncio.run(job())
    return bytes(got), why


WHOLE = Span(0, len(BODY))


def test_the_last_byte_waits(fd: int) -> None:
    """All is held and nothing is verified yet: all but the last byte is sent; when it then fails, that stays so."""
    failed = replace(ROW, result=Result.FAILURE, failure_detail="integrity: wrong")
    got, why = collect(fd, [(look(len(BODY)), ROW), (None, failed)], WHOLE)
    assert got == BODY[:-1]
    assert "integrity" in why


def test_whole_once_verified(fd: int) -> None:
    """Verified, the rest follows."""
    assert collect(fd, [(look(1000), ROW), (look(len(BODY)), ROW), (None, DONE)], WHOLE) == (BODY, "")


def test_a_part_needs_no_end(fd: int) -> None:
    """Bytes in the middle are sent as soon as they were stored."""
    assert collect(fd, [(look(5000), ROW)], Span(100, 4000)) == (BODY[100:4000], "")


@pytest.mark.parametrize(
    "stand",
    [
        (look(2000, generation=2), ROW),
        (None, replace(DONE, restarts=1)),
        (None, replace(DONE, total=len(BODY) + 1)),
        (None, replace(DONE, digest="sha256:" + "0" * 64)),
    ],
)
def test_nothing_of_two_versions(fd: int, stand: Any) -> None:
    """A download that began again, or whose bytes were mended after they were sent on, never looks whole."""
    got, why = collect(fd, [(look(1000), ROW), stand], WHOLE)
    assert why
    assert len(got) < len(BODY)


def test_without_a_length(fd: int) -> None:
    """Where the upstream does not say how long it is, the answer ends when the download has."""
    assert collect(fd, [(look(1000), ROW), (None, DONE)], Span(0, 0), total=None) == (BODY, "")
    failed = replace(ROW, result=Result.FAILURE, failure_detail="cut")
    assert collect(fd, [(look(1000), ROW), (None, failed)], Span(0, 0), total=None)[1] == "cut"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([], 200),
        ([("range", "bytes=5-9")], 206),
        ([("range", "bytes=5-9"), ("if-range", '"v1"')], 206),
        ([("range", "bytes=5-9"), ("if-range", '"v0"')], 200),
        ([("range", f"bytes={len(BODY)}-")], 416),
        ([("if-none-match", '"v1"')], 304),
        ([("if-match", '"v0"')], 412),
    ],
)
def test_conditions(fields: list[tuple[str, str]], status: int) -> None:
    """The upstream's strong tag is what conditions are about until there is a digest."""
    coming: Any = Coming(Download([]), 1, REPLY, 1, 0, len(BODY), -1)  # type: ignore[arg-type]
    answer, sent = coming.answer(Asked("GET", "/m.gguf", {}, Headers(fields), ""))
    assert answer.status == status
    assert ("etag", '"v1"') in sent


def test_nobody_waits_for_who_has_gone(fd: int) -> None:
    """What a client asked for far behind the front may be hours away: its place is not kept for it."""
    got, why = collect(fd, [(look(10), ROW)], Span(5000, 6000), gone=True)
    assert (got, why) == (b"", "the client has gone")
