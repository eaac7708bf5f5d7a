"""docs/on-disk.md as a stranger would follow it: a reader written from the page alone, with nothing of bgfetch."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import struct
from pathlib import Path

import google_crc32c

from bgfetch.config import load
from bgfetch.testing import OriginServer
from bgfetch.wiring import Wiring

PIECE = 1048576
BODY = os.urandom(6 * PIECE + 12345)


def key_of(url: str) -> str:
    """The page, "Keys": method, URL, an empty nonce, joined by newlines."""
    return hashlib.sha256(f"GET\n{url}\n".encode()).hexdigest()


def held(table: bytes, data: bytes) -> dict[int, bytes]:
    """The page, "`pieces`": what is held of each piece, and only what its checksum proves."""
    found = {}
    for index, (word, crc) in enumerate(struct.iter_unpack("<II", table)):
        length = word & 0x7FFFFFFF
        piece = data[index * PIECE : index * PIECE + length]
        if 0 < length <= PIECE:
            assert google_crc32c.extend(0, piece) == crc, f"slot {index} does not prove its bytes"
            found[index] = piece
    return found


def test_a_stranger_can_read_a_partial_and_a_blob(tmp_path: Path) -> None:
    """Layout, keys, slots and JSON are what the page says; directories are their owner's alone."""
    wiring = Wiring(load({"home": str(tmp_path), "in_process": True}, {}))
    with OriginServer(BODY, rate=3e6, latency=0.0) as server:

        async def begin_one() -> None:
            registration = await wiring.manager("default").fetch("half", server.url, title="Half")
            async for progress in registration:
                if progress.downloaded >= PIECE:
                    return

        asyncio.run(begin_one())
        wiring.close()
        partial = tmp_path / "partials" / key_of(server.url)
        pieces = held((partial / "pieces").read_bytes(), (partial / "data").read_bytes())
        assert pieces
        assert all(BODY[index * PIECE :].startswith(piece) for index, piece in pieces.items())
        facts = json.loads((partial / "facts.json").read_text())
        assert (facts["version"], facts["url"], facts["total"], facts["id"]) == (
            1,
            server.url,
            len(BODY),
            "half",
        )

        again = Wiring(load({"home": str(tmp_path), "in_process": True}, {}))

        async def finish() -> None:
            registration = await again.manager("default").get("half")
            assert registration is not None
            await registration.wait()

        asyncio.run(finish())
        again.close()
    (blob,) = (path for path in (tmp_path / "blobs/unverified").glob("*/*") if "." not in path.name)
    assert blob.parent.name == blob.name[:2]
    assert not blob.stat().st_mode & 0o222
    assert b"".join(held(Path(f"{blob}.pieces").read_bytes(), blob.read_bytes()).values()) == BODY
    told = json.loads(Path(f"{blob}.json").read_text())
    assert (told["url"], told["size"], told["verified"]) == (facts["url"], len(BODY), "validators")
    assert not partial.exists()
    for directory in (path for path in tmp_path.rglob("*") if path.is_dir()):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700, directory
