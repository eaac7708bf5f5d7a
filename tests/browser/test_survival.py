"""The article's own page, and the kit's, through everything: drops, stalls, another ETag, a server that goes, a reload, a closed tab, a kill.

The sizes are those of `make browser`; a smaller one of each is part of `make test`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.browsers import Browser, Tab
from tests.browser.chromium import Chromium
from tests.browser.lab import running
from tests.browser.models import Model
from tests.browser.sites import Site

MODEL = "/models/m/model.bin"
MIB = 1 << 20

STANDARD, KIT = "standard", "kit"
DIGESTS = {
    STANDARD: """
    const response = await caches.match(model)
    const hash = await crypto.subtle.digest("SHA-256", await response.arrayBuffer())
    return [...new Uint8Array(hash)].map(byte => byte.toString(16).padStart(2, "0")).join("")
    """,
    KIT: "return digest()",
}

SILENT = """
    const parts = {
        database: () => new Promise((done, failed) => { Object.assign(indexedDB.open("probe"), { onsuccess: done, onerror: failed }) }),
        caches: async () => (await caches.open("probe")).put("/probe", new Response("1")),
        locks: () => navigator.locks.query(),
    }
    const silent = []
    await Promise.all(Object.entries(parts).map(([name, ask]) => {
        const answered = ask().catch(() => {}).then(() => true)
        return Promise.race([answered, new Promise((late) => setTimeout(late, 10_000))]).then((it) => it || silent.push(name))
    }))
    return silent
"""
"""Which of the browser's own parts, without any of the kit's, do not answer a page at all."""


class Journey:
    """A download on its way in a browser.

    Args:
        browser: Its own; it will be killed.
        site: Where page and model are.
        model: What is downloaded.
        page: Which page downloads it: the standard one, or the kit's.
    """

    def __init__(self, browser: Browser, site: Site, model: Model, page: str = STANDARD) -> None:
        self.browser = browser
        self.site = site
        self.model = model
        self.page = page
        self.healed = False  # a browser that was killed may come back with a part that never answers: then it is killed again, once
        self.tab: Tab = self._open()

    def _open(self) -> Tab:
        return self.browser.open(self.site.url_of(f"/pages/{self.page}.html"))

    def begin(self) -> None:
        """Press the button, and wait for the first bytes."""
        self.tab.run("await registered")
        self.tab.click("#download")
        self.until(1 / 50)

    def until(self, part: float) -> None:
        """Wait until such a part of the model has been sent."""
        wanted = part * self.model.size
        what = f"{wanted / MIB:.0f} MiB"
        try:
            self.site.wait(lambda: self.model.sent >= wanted, what=what)
        except AssertionError as late:
            state = self.tab.evaluate("[state.textContent, document.visibilityState]", within=10)
            silent = self.tab.run(SILENT)
            said = f"{late}; the page says {state}; {self.model.sent} bytes were sent; no answer of {silent}; last asked for: {self.asked()}"
            if not silent or self.healed:
                raise AssertionError(said) from None
            print(said)
            self.healed = True
            self.restart()
            self.until(part)

    def asked(self) -> list[str]:
        """The last paths of the site that were asked for."""
        return [each.path for each in list(self.site.server.requests)[-8:]]

    def reopen(self) -> None:
        """Close the tab, and open the page in another."""
        self.tab.close()
        self.tab = self._open()

    def restart(self) -> None:
        """Kill the browser, start it again, and open the page."""
        self.browser.kill()
        self.browser.launch()
        self.tab = self._open()

    def ends(self, *, within: float = 400.0) -> str:
        """The digest of what is in the cache, once the worker was told of success."""
        told = self.site.wait(
            lambda: next((each for each in self.site.told if "ended" in each), None),
            within=within,
            what=f"the end, after {self.model.sent / MIB:.0f} MiB,",
        )
        assert told["ended"] == "success", told
        digest: str = self.tab.run(DIGESTS[self.page], model=MODEL)
        return digest


@pytest.fixture
def site() -> Iterator[Site]:
    """A site of the test's own."""
    with Site() as made:
        yield made


def travel(journey: Journey, *, away: float) -> str:
    """Everything that may happen on the way; the digest in the end."""
    journey.model.faults.rate = RATE
    journey.model.faults.drop_every = journey.model.size // 5
    journey.begin()
    journey.model.change_etag()
    journey.until(0.15)
    journey.tab.reload()
    journey.until(0.3)
    journey.model.faults.stall_every, journey.model.faults.stall = journey.model.size // 4 + 1, 1.0
    journey.reopen()
    journey.until(0.5)
    journey.restart()
    journey.until(0.75)
    journey.site.down(away)
    return journey.ends()


NATIVE = pytest.param(
    "chromium", marks=pytest.mark.whole
)  # it waits 20 s after the fifth break, whatever the size
RATE = 6.0 * MIB  # bytes a second, of the line that all connections share
SMALL, WHOLE = (24, 2.0), (200, 20.0)
GOAL = 1.2
# Chromium's own, measured: 1.41. The connection that breaks after a fifth is resumed with If-Range, and the ETag that changed
# meanwhile makes that a new beginning, whatever the bytes; after the kill it knows only what it had saved (9 of 30 MiB).
MISSES = {"chromium"}


@pytest.mark.timeout(900)  # the whole size; the sample takes less than a minute
@pytest.mark.parametrize("kind", ["bare", "firefox", "webkit", NATIVE])
@pytest.mark.parametrize(
    ("mib", "away"),
    [pytest.param(*SMALL, id="sample"), pytest.param(*WHOLE, id="whole", marks=pytest.mark.whole)],
)
def test_standard_page(kind: str, mib: int, away: float, tmp_path: Path, site: Site) -> None:
    """The right bytes, and at most 1.2 times as many as needed; the sample has few bytes for as many blows."""
    model = site.model(MODEL, mib * MIB)
    begun = time.monotonic()
    with running(kind, tmp_path / kind) as browser:
        if isinstance(browser, Chromium) and browser.native:
            browser.permit_fetches()
        journey = Journey(browser, site, model)
        assert travel(journey, away=away) == model.sha256
    factor = model.sent / model.size
    print(f"{kind}, {mib} MiB: {factor:.2f} x the bytes, {time.monotonic() - begun:.0f} s")
    if mib == WHOLE[0] and factor > GOAL and kind in MISSES:
        pytest.xfail(f"{kind}: {factor:.2f} x the bytes, the goal is {GOAL}")
    assert mib != WHOLE[0] or factor <= GOAL


@pytest.mark.whole
@pytest.mark.timeout(900)
def test_native_engine(tmp_path: Path, site: Site) -> None:
    """The same by the kit's page in Chromium's own Background Fetch: many small parts lose little by each blow."""
    model = site.model(MODEL, WHOLE[0] * MIB)
    begun = time.monotonic()
    with running("chromium", tmp_path) as browser:
        journey = Journey(browser, site, model, KIT)
        assert travel(journey, away=WHOLE[1]) == model.sha256
    assert site.hears(engine="native")
    factor = model.sent / model.size
    print(f"native engine, {WHOLE[0]} MiB: {factor:.2f} x the bytes, {time.monotonic() - begun:.0f} s")
    assert factor <= GOAL


# test_kit_worker_storage.py has the same of the engine, in each browser.
@pytest.mark.parametrize(
    "kind", ["bare", *(pytest.param(name, marks=pytest.mark.whole) for name in ("firefox", "webkit"))]
)
def test_two_tabs_download_once(kind: str, tmp_path: Path, site: Site) -> None:
    """Both pages are pressed and show it; the second goes on when the first is closed."""
    model = site.model(MODEL, 40 * MIB)
    model.faults.rate = 12.0 * MIB
    with running(kind, tmp_path / kind) as browser:
        journey = Journey(browser, site, model)
        journey.begin()
        second = browser.open(site.url_of("/pages/standard.html"))
        second.run("await registered")
        second.click("#download")
        journey.until(0.4)
        assert "failure" not in second.evaluate("state.textContent")
        journey.tab.close()
        journey.tab = second
        assert journey.ends() == model.sha256
    assert model.sent <= 1.0 * model.size + 3 * (8 * MIB)


@pytest.mark.whole  # test_kit_engine_faults.py has the same of the engine
@pytest.mark.parametrize("kind", ["bare", "firefox", "webkit"])
@pytest.mark.parametrize("fault", ["wrong bytes", "a page instead of the model"])
def test_what_is_wrong_is_never_handed_out(kind: str, fault: str, tmp_path: Path, site: Site) -> None:
    """The fetch fails, and nothing of it is in a cache."""
    model = site.model(MODEL, 12 * MIB)
    if fault == "wrong bytes":
        model.faults.wrong = {1}
    else:
        model.faults.html = True
    with running(kind, tmp_path / kind) as browser:
        journey = Journey(browser, site, model)
        journey.tab.run("await registered")
        journey.tab.click("#download")
        told = site.wait(lambda: next((each for each in site.told if "ended" in each), None), what="the end")
        assert told == {"ended": "fail", "reason": "fetch-error"}
        assert journey.tab.evaluate("(await caches.match(model)) === undefined", model=MODEL) is True
        assert journey.tab.evaluate("state.textContent") == "failure: fetch-error"
