"""What every command begins with: settings from flags, environment and file, and the home they name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from bgfetch.cli.exits import Mended
from bgfetch.config import load
from bgfetch.errors import CacheError
from bgfetch.wiring import Wiring, mended

__all__ = ["opened"]


@contextmanager
def opened(**overrides: Any) -> Iterator[Wiring]:
    """The home this command works on, closed at the end; overrides are settings given as flags.

    Raises:
        Mended: Its database was damaged, and no longer is.
    """
    context = click.get_current_context(silent=True)  # none while a shell asks what could be typed
    home = None if context is None else context.find_root().params.get("home")
    wiring = Wiring(load({"home": home, **overrides}))
    try:
        yield wiring
    except CacheError as error:
        wiring.close()
        words = mended(wiring.settings, error)
        if not words:
            raise
        raise Mended(words) from error
    finally:
        wiring.close()
