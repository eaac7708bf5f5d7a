"""What every test begins with: fetches run in the test's own process, unless the test is one of the daemon's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("BGFETCH_IN_PROCESS", "1")  # read by each process that a test starts, too

BROWSER = Path(__file__).parent / "browser"


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what needs no browser; where two workers share the tests, one of them has all of it, in its order.

    Browsers mostly wait, so that two beside each other take little more than the time of one.
    """
    items.sort(key=lambda item: BROWSER in item.path.parents)
    for item in items:
        if BROWSER not in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("no browser"))
