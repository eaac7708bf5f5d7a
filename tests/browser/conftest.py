"""Real browsers for tests: `browser` and `tab` in each of three engines, `site` fresh for every test.

A site is an origin of its own (its port), so tests that share a browser share no storage. What a test kills is started
again for the next one. Where a browser is missing its tests are skipped with the reason, and fail in CI run by root.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.browsers import PATIENCE, Browser, BrowserError, Tab
from tests.browser.kitted import Kitted
from tests.browser.lab import running
from tests.browser.sites import Site

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test in a browser has the time to wait for two things as long as may be, unless it says how much it needs."""
    for item in items:
        if item.path.is_relative_to(HERE) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(2 * PATIENCE))


@pytest.fixture(scope="session", params=["chromium", "firefox", "webkit"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of its kind; ask for `browser` instead."""
    with running(request.param, tmp_path_factory.mktemp(request.param)) as browser:
        yield browser


@pytest.fixture
def browser(shared: Browser) -> Browser:
    """A running browser of each kind in turn, shared with other tests."""
    if not shared.alive:
        shared.launch()
    return shared


@pytest.fixture(scope="session", params=["bare", "firefox", "webkit"])
def shared_bare(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """One browser for all tests of its kind; ask for `kitted` instead."""
    with running(request.param, tmp_path_factory.mktemp(request.param)) as browser:
        yield browser


@pytest.fixture
def kitted(shared_bare: Browser, site: Site) -> Iterator[Kitted]:
    """A page with the polyfill, in each kind of browser without Background Fetch of its own."""
    if not shared_bare.alive:
        shared_bare.launch()
    page = Kitted(shared_bare, site)
    yield page
    if shared_bare.alive:
        try:
            page.tab.close()
        except BrowserError:
            shared_bare.kill()


@pytest.fixture
def site() -> Iterator[Site]:
    """A site of the test's own."""
    with Site() as made:
        yield made


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[Tab]:
    """A new tab on the site's empty page."""
    tab = browser.open(site.url)
    yield tab
    if browser.alive:
        try:
            tab.close()
        except BrowserError:  # the test has closed it, or it hangs: the next test gets a browser that answers
            browser.kill()
