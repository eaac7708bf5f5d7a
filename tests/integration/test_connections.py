"""Connections are kept: setting one up costs round trips, and a new one begins slowly."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.lab import Lab, asking

from bgfetch.engine.scheduler import Caps
from bgfetch.testing import OriginServer


def test_segments_share_a_connection(tmp_path: Path) -> None:
    """A file fetched segment by segment takes one connection in each of the two loops, not one for each segment."""
    body = random.Random(1).randbytes((40 << 20) + 57)
    with OriginServer(body) as origin, Lab(tmp_path, caps=Caps(per_record=1)) as lab:
        assert lab.fetch(asking(origin.url)).body == body
        assert len(origin.requests) > 2
        assert len({request.connection for request in origin.requests}) <= 2


def test_a_slow_piece_is_shared(tmp_path: Path) -> None:
    """Where each connection is slow, one piece comes over several, and is put together right."""
    body = random.Random(3).randbytes((1 << 20) - 57)
    with OriginServer(body, rate=200_000) as origin, Lab(tmp_path) as lab:
        assert lab.fetch(asking(origin.url, sha256=origin.sha256)).body == body
        asked = [request.headers.get("range", "") for request in origin.requests]
        assert len(asked) >= 4
        assert any(not span.startswith("bytes=0-") for span in asked)


@pytest.mark.parametrize("size", [1, 65536])
def test_small_files_share_a_connection(tmp_path: Path, size: int) -> None:
    """Many small files over one connection take one connection."""
    body = random.Random(2).randbytes(size)
    with OriginServer(body) as origin, Lab(tmp_path, caps=Caps(per_host=1, start=1)) as lab:
        requests = [asking(f"{origin.url}?{number}") for number in range(5)]
        assert lab.fetch(*requests).row.failure_detail == ""
        assert {request.connection for request in origin.requests} == {0}
