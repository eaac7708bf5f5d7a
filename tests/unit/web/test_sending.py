"""How much is given to the server at once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from bgfetch.core.spans import Span
from bgfetch.vfs import Vfs
from bgfetch.web import sending
from bgfetch.web.folder import stamp_of
from bgfetch.web.limits import Pace
from bgfetch.web.sending import ZERO_COPY, Sender

SIZE = 12 << 20


@pytest.mark.parametrize(
    ("rate", "most"), [(0, 4 << 20), (64 << 20, 4 << 20), (4 << 20, 1 << 20), (64 << 10, 16 << 10)]
)
@pytest.mark.parametrize("offered", [(), (ZERO_COPY,)], ids=["copied", "zero-copy"])
def test_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, most: int, offered: tuple[str, ...]
) -> None:
    """Where there is a rate, no more at once than a quarter of a second's: longer silences look like a lost connection."""
    monkeypatch.setattr(sending, "copied_tail", lambda: 0)
    size = SIZE if not rate else min(SIZE, rate)  # a bucket is full at first: nothing is waited for
    (tmp_path / "f").write_bytes(bytes(size))
    counts: list[int] = []

    async def send(message: Any) -> None:
        counts.append(message["count"] if message["type"] == ZERO_COPY else len(message["body"]))

    async def job() -> bool:
        pace = Pace(rate) if rate else None
        nobody: Any = type("Stays", (), {"happened": False})
        sender = Sender(fd, stamp_of(fd), send, nobody, 5.0, pace, offered, Vfs())
        return await sender.send_all(Span(0, size))

    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        assert asyncio.run(job()) or offered  # without a tail nothing is left to copy
    finally:
        os.close(fd)
    assert sum(counts) == size
    assert max(counts) <= most
