"""Files in the store's directories that belong to nothing: what a process left that ended between two steps.

A name whose blob has gone holds its bytes for ever; a table or facts without their body, and a draft that never got
its name, are only litter. Each is found by what it is, and is left alone as long as it may be on its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.links import Links
from bgfetch.vfs import Vfs

__all__ = ["strays"]


def strays(blobs: Blobs, links: Links, vfs: Vfs, used: Iterable[str], *, before: float) -> Iterator[Path]:
    """Each stray file that nobody has touched since.

    Args:
        blobs: Finished bodies.
        links: Their names.
        vfs: The file system.
        used: Blobs that somebody refers to.
        before: Instant, seconds since the epoch.
    """
    for path in (*_nameless(blobs), *_outlived(blobs, links, vfs, used)):
        touched = vfs.touched(path)
        if touched is not None and touched < before:
            yield path


def _nameless(blobs: Blobs) -> Iterator[Path]:
    """Drafts, and what stands beside bodies that are not there."""
    for path in blobs.beside():
        body, _, kind = path.name.partition(".")
        if kind not in ("pieces", "json") or not path.with_name(body).exists():
            yield path


def _outlived(blobs: Blobs, links: Links, vfs: Vfs, used: Iterable[str]) -> Iterator[Path]:
    """Names of bodies that nobody refers to any longer, and names in the making."""
    found = [vfs.identity(blobs.path(name)) for name in used]
    bodies = {each[:2] for each in found if each is not None}
    sizes = {each[2] for each in found if each is not None}  # where there are no links a name is a copy
    for path in links.files():
        file = vfs.identity(path)
        draft = path.name.startswith(".") and path.name.endswith(".bgfetch")
        if file is not None and (draft or (file[:2] not in bodies and file[2] not in sizes)):
            yield path
