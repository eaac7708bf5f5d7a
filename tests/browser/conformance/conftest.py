"""Cases of Background Fetch in browsers: native, and by the polyfill in three engines.

`tools/write_conformance.py` reads the markers and writes the table in docs/conformance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.browser.browsers import Browser, BrowserError
from tests.browser.chromium import Chromium
from tests.browser.conformance.page import ENGINES, Page
from tests.browser.lab import running
from tests.browser.sites import Site


def pytest_configure(config: pytest.Config) -> None:
    """Say what the markers mean."""
    config.addinivalue_line("markers", "wpt(file): the file of web-platform-tests the case is from")
    config.addinivalue_line(
        "markers",
        "case(title, departs='', native='', untested=''): its title, how the polyfill differs, how Chromium's own does, or "
        "why it is not tried there",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where Chromium is known to differ, its run has to fail: so one that was mended is noticed."""
    for item in items:
        said = item.get_closest_marker("case")
        if said is not None and "[native" in item.nodeid:
            item.add_marker(pytest.mark.whole)  # Chromium's own changes only with Chromium
        if said is not None and "[native" in item.nodeid and said.kwargs.get("untested"):
            item.add_marker(pytest.mark.skip(reason=said.kwargs["untested"]))
        if said is not None and "[native" in item.nodeid and said.kwargs.get("native"):
            item.add_marker(pytest.mark.xfail(reason=said.kwargs["native"], strict=True))


@pytest.fixture(scope="session", params=list(ENGINES))
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Browser]]:
    """An engine by its name, with a browser for all cases."""
    name: str = request.param
    with permitted(name, tmp_path_factory.mktemp(name)) as browser:
        yield name, browser


@contextmanager
def permitted(name: str, profile: Path) -> Iterator[Browser]:
    """An engine's browser, which may fetch in the background as often as it likes."""
    with running(ENGINES[name], profile) as browser:
        if isinstance(browser, Chromium) and browser.native:
            browser.permit_fetches()
        yield browser


@pytest.fixture
def make(engine: tuple[str, Browser], site: Site) -> Iterator[Callable[..., Page]]:
    """Makes a page of the case's own, as `Page` says; closed afterwards."""
    made: list[Page] = []
    if not engine[1].alive:
        engine[1].launch()

    def one(at: Site = site, **how: Any) -> Page:
        made.append(Page(*engine, at, **how))
        return made[-1]

    yield one
    for each in made:
        try:
            each.close()
        except BrowserError:
            engine[1].kill()


@pytest.fixture
def make_alone(engine: tuple[str, Browser], site: Site, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Makes a page as `make` does, in a browser of the case's own: one that was killed may have a profile in which
    no worker can be installed any more (seen of Firefox, rarely).
    """
    name, _ = engine
    with permitted(name, tmp_path / name) as browser:
        yield lambda **how: Page(name, browser, site, **how)


@pytest.fixture
def page(make: Callable[..., Page]) -> Page:
    """A page whose worker reads all records at each event."""
    return make()


@pytest.fixture
def other() -> Iterator[Site]:
    """Another origin."""
    with Site() as made:
        yield made
