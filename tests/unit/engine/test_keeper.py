"""Verification gives way to the end of the process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.partials import Partials
from bgfetch.core.digests import Digest
from bgfetch.core.spans import Spans
from bgfetch.engine.keeper import Keeper
from bgfetch.vfs import Vfs

_LARGE = 64 << 30  # a minute's work, and no room, since it is a hole


def test_closing_leaves_off_hashing(tmp_path: Path) -> None:
    """A body that takes a minute to verify holds up the end by much less than two seconds, and is not called wrong."""
    vfs, said = Vfs(), list[object]()
    partial = Partials(tmp_path / "partials", vfs).open("a" * 64)
    keeper = Keeper(Blobs(tmp_path / "blobs", vfs), lambda _task, event: said.append(event))
    os.truncate(next((tmp_path / "partials").rglob("data")), _LARGE)
    machine = SimpleNamespace(
        digest=Digest.parse(f"sha256:{'0' * 64}"), held=Spans.of([(0, _LARGE)]), total=_LARGE
    )
    task = SimpleNamespace(partial=partial, machine=machine, hasher=None, digest="")
    keeper.verify(cast("Any", task), _LARGE)
    began = time.monotonic()
    keeper.close()
    assert time.monotonic() - began < 1.5
    assert said == []
    partial.close()
