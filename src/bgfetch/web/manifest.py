"""The manifest: what a folder of models holds, with the digest of every file and of every segment.

It is what a client verifies against before it has the whole; its form is part of the kit's contract
(docs/web-server.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from bgfetch.web.digesting import Digests
from bgfetch.web.fields import content_type
from bgfetch.web.paths import Parts, url_path

__all__ = ["VERSION", "hashing_json", "manifest_json"]

VERSION = 1


def manifest_json(files: Iterable[tuple[Parts, int, Digests]]) -> bytes:
    """The manifest of these files, sorted by path.

    Args:
        files: Path below the folder whose manifest it is, bytes, digests. URLs are relative to that folder, too.
    """
    ordered = sorted(files, key=lambda each: "/".join(each[0]))
    return _encoded({"bgfetch": VERSION, "files": [_file(*each) for each in ordered]})


def hashing_json(done: int, total: int) -> bytes:
    """What is sent while there is no manifest yet: bytes hashed, of how many."""
    return _encoded({"hashing": {"done": done, "total": total}})


def _file(path: Parts, size: int, digests: Digests) -> dict[str, Any]:
    return {
        "path": "/".join(path),
        "url": f"{url_path(path)}?sha256={digests.sha256}",
        "size": size,
        "sha256": digests.sha256,
        "type": content_type(path[-1]),
        "segment_size": digests.segment_size,
        "segments": list(digests.segments),
    }


def _encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
