"""Who listens is told, also of the end of the one who tells."""

from __future__ import annotations

from bgfetch.core.model import Progress
from bgfetch.engine.bulletin import Bulletin


def test_who_comes_after_the_driver_died_is_woken() -> None:
    """Nothing was ever told of it, and nothing will be: who listens now must look at `bug` all the same."""
    bulletin = Bulletin()
    before: list[Progress] = []
    after: list[Progress] = []
    bulletin.listen(1, before.append)
    bulletin.give_up(ZeroDivisionError())
    bulletin.listen(1, after.append)
    assert len(before) == len(after) == 1
    assert isinstance(bulletin.bug, ZeroDivisionError)
