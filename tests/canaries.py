"""Secrets that are recognised wherever they turn up: put one into every input, then look everywhere.

Imported by tests as `tests.canaries`: pytest is run as `python -m pytest` from the root.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Canary", "sightings"]


def _fresh() -> str:
    return f"canary-{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Canary:
    """One secret.

    Args:
        name: Where it was put.
        stored: Whether the store may know it: the query of a URL that a person gave is part of what is fetched.
        value: What to look for.
    """

    name: str
    stored: bool = False
    value: str = field(default_factory=_fresh)

    @property
    def forms(self) -> tuple[bytes, ...]:
        """The secret as it is and as Basic credentials would carry it, whatever stood before it."""
        plain = self.value.encode()
        shifted = (base64.b64encode(b"x" * lead + plain)[8:-4] for lead in (3, 4, 5))
        return plain, *shifted


def sightings(
    canaries: Iterable[Canary], *, home: Path, said: Iterable[str] = (), pids: Iterable[int] = ()
) -> list[str]:
    """Where secrets were seen, in words; nothing where all is well.

    Args:
        canaries: What to look for.
        home: Every file below it is read, and every name of one.
        said: What was printed, raised, logged or answered.
        pids: Processes whose command line is read, where the system shows it.
    """
    watched = list(canaries)
    seen: list[str] = []
    for where, text, state in (*_files(home), *_texts(said), *_command_lines(pids)):
        seen += [
            f"{canary.name} in {where}"
            for canary in watched
            if not (state and canary.stored) and any(form in text for form in canary.forms)
        ]
    return seen


def _files(home: Path) -> Iterator[tuple[str, bytes, bool]]:
    for path in home.rglob("*"):
        name = path.relative_to(home)
        yield f"the name {name}", os.fsencode(name), False
        if path.is_file():
            yield str(name), path.read_bytes(), name.parts[0] in ("state", "partials", "blobs")


def _texts(said: Iterable[str]) -> Iterator[tuple[str, bytes, bool]]:
    for text in said:
        yield f"what was said: {text[:60]!r}", text.encode("utf-8", "surrogateescape"), False


def _command_lines(pids: Iterable[int]) -> Iterator[tuple[str, bytes, bool]]:
    for pid in pids:
        path = Path(f"/proc/{pid}/cmdline")
        if path.exists():
            yield f"the command line of process {pid}", path.read_bytes(), False
