"""Cases of web-platform-tests: their markers, and a home for the app that plays the page.

`tools/write_conformance.py` reads the markers and writes the table in docs/conformance.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.daemons import stop

from bgfetch.config import load
from bgfetch.wiring import Wiring


def pytest_configure(config: pytest.Config) -> None:
    """Say what the markers mean."""
    config.addinivalue_line("markers", "wpt(file): the file of web-platform-tests the case is from")
    config.addinivalue_line(
        "markers", "case(title, departs=''): its title there, and where we differ and why"
    )


@pytest.fixture(scope="module", params=["in-process", "daemon"])
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A home for all cases of a file; what they fetch is run in this process, then by a daemon."""
    yield from _home(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A home for cases in which it does not matter who fetches."""
    yield from _home("in-process", tmp_path_factory)


def _home(runs: str, folders: pytest.TempPathFactory) -> Iterator[str]:
    told = {"HOME": str(folders.mktemp("home")), "IN_PROCESS": str(int(runs == "in-process"))}
    told |= {"ATTEMPTS": "6", "RETRY_SCALE": "0.05", "HEAD_TIMEOUT": "5", "SILENCE_TIMEOUT": "5"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(f"BGFETCH_{name}", value)
        yield runs
        if runs == "daemon":
            wiring = Wiring(load())
            stop(wiring)
            wiring.close()
