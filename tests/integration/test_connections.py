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


@pytest.mark.parametrize("size", [1, 65536])
def test_small_files_share_a_connection(tmp_path: Path, size: int) -> None:
    """Many small files over one connection take one connection."""
    body = random.Random(2).randbytes(size)
    with OriginServer(body) as origin, Lab(tmp_path, caps=Caps(per_host=1, start=1)) as lab:
        requests = [asking(f"{origin.url}?{number}") for number in range(5)]
        assert lab.fetch(*requests).row.failure_detail == ""
        assert {request.connection for request in origin.requests} == {0}
