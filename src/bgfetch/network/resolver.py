"""How long this process waits for a silent resolver before it asks again."""

from __future__ import annotations

from collections.abc import MutableMapping

__all__ = ["ask_often"]


def ask_often(environ: MutableMapping[str, str]) -> None:
    """Have glibc ask every 2 s, five times, instead of every 5 s, twice: a resolver's return is noticed in time.

    Only before any thread looks up names, and where nobody has said otherwise. Other systems do not read it.

    Source: resolv.conf(5), RES_OPTIONS.
    """
    environ.setdefault("RES_OPTIONS", "timeout:2 attempts:5")
