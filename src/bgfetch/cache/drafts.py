"""A body that is made or read here, on its way to the blobs: what `Cache.put` is given that is no blob yet."""

from __future__ import annotations

import hashlib
import secrets

from bgfetch.cache.blobs import Blobs, Finished
from bgfetch.cache.facts import BlobFacts
from bgfetch.cache.partials import Partial, Partials
from bgfetch.cache.writer import BufferPool, PieceWriter
from bgfetch.core.model import ReplyHead, Verified
from bgfetch.stored import pack_reply, unpack_reply

__all__ = ["Draft"]


class Draft:
    """A body being written under a key that nobody else has; one user at a time.

    Args:
        partials: Where it is until it is whole.
    """

    def __init__(self, partials: Partials) -> None:
        self._partials = partials
        self._key = secrets.token_hex(32)
        self._opened: tuple[Partial, PieceWriter] | None = None
        self._sha256 = hashlib.sha256()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes taken."""
        return self._size

    @property
    def sha256(self) -> str:
        """Hex of the digest of what was taken."""
        return self._sha256.hexdigest()

    def _open(self) -> tuple[Partial, PieceWriter]:
        """Not done when it is made, so that whoever made it can always drop it."""
        if self._opened is None:
            partial = self._partials.open(self._key)
            self._opened = partial, PieceWriter(partial, 0, None, stored=_nobody_asks, pool=BufferPool())
        return self._opened

    def write(self, chunk: bytes) -> None:
        """Take the next bytes. OSError from the disk."""
        _, writer = self._open()
        self._sha256.update(chunk)
        self._size += len(chunk)
        writer.write(chunk)

    def adopt(self, blobs: Blobs, scope: str, url: str, reply: ReplyHead) -> str:
        """Make it a blob, durably; its name.

        Args:
            blobs: Where finished bodies are.
            scope: Whose cache it goes to.
            url: The request's.
            reply: The head that is stored with it; its secrets are left out.
        """
        partial, writer = self._open()
        writer.flush()
        stored = unpack_reply(pack_reply(reply))
        facts = BlobFacts(
            url=url,
            size=self._size,
            scope=scope,
            status=reply.status,
            headers=() if stored is None else stored.headers.pairs,
            digest=f"sha256:{self.sha256}",
            verified=Verified.LENGTH.value,
        )
        (name,) = blobs.adopt([Finished(partial, self._size, self.sha256, facts)])
        return name

    def drop(self) -> None:
        """Give everything back; what was adopted stays."""
        if self._opened is not None:
            partial, writer = self._opened
            writer.close()
            partial.close()
        self._partials.remove(self._key)


def _nobody_asks(start: int, stop: int, differs: bool) -> None:  # noqa: FBT001 - the writer's signature
    """Nobody waits for what is stored."""
