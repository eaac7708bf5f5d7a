"""Chromium's own Background Fetch under the page's API: what goes wrong there is salvaged, and finished by the other engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.browsers import Browser, Tab
from tests.browser.lab import running
from tests.browser.sites import Site

pytestmark = pytest.mark.timeout(120)  # a browser starts, and takes seconds for its first native fetch

SIZE = 40 * 2**20 + 5
READY = """
const { ready } = await import("/bgfetch/bgfetch.js");
const bf = globalThis.bf = await ready({ stall: 4000 });
const hex = async (bytes) => [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].map((it) => it.toString(16).padStart(2, "0")).join("");
"""
START = READY + 'const reg = globalThis.reg = await bf.fetch("m", "/models/m/manifest.json");\n'
END = "const reg = await bf.get('m'); await reg.finished; return await hex(await reg.bytes('model.bin'));"


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Browser]:
    """A Chromium of the test's own."""
    with running("chromium", tmp_path / "profile") as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser, site: Site) -> Tab:
    """A tab of it."""
    return chromium.open(site.url)


def test_it_downloads_natively(page: Tab, site: Site) -> None:
    """By ranges, and what comes is checked, settled and handed out as with the other engine."""
    model = site.model("/models/m/model.bin", SIZE)
    assert page.run(
        START
        + "const first = reg.engine; await reg.finished; return [bf.engine, first, await hex(await reg.bytes('model.bin')), reg.files[0].verified, reg.downloaded]"
    ) == [
        "native",
        "native",
        model.sha256,
        "digest",
        SIZE,
    ]
    assert model.sent < 1.2 * SIZE


def test_a_second_one_without_a_click_goes_another_way(page: Tab, site: Site) -> None:
    """Asking the browser again would have it refuse this site for good."""
    site.model("/models/m/model.bin", 2**20)
    assert (
        page.run(
            START
            + """await reg.finished; await bf.delete("m");
        const again = await bf.fetch("m", "/models/m/manifest.json"); await again.finished;
        return [again.result, (await navigator.permissions.query({ name: "background-fetch" })).state]"""
        )[0]
        == "success"
    )


def test_what_stalls_is_given_up_and_finished(page: Tab, site: Site) -> None:
    """The browser itself would wait for ever."""
    model = site.model("/models/m/model.bin", SIZE)
    model.faults.stall_every, model.faults.stall = 10 * 2**20, 60.0
    page.run(START)
    assert page.evaluate("reg.engine") == "native"
    page.run(
        "const end = Date.now() + 40000; while (reg.engine === 'native' && Date.now() < end) await new Promise((next) => setTimeout(next, 200));"
    )
    assert page.evaluate("reg.engine") == "worker"
    model.faults.stall_every = 0
    assert page.run(READY + END) == model.sha256


def test_a_pause_keeps_what_has_come(page: Tab, site: Site) -> None:
    """It is salvaged; the other engine has the rest."""
    model = site.model("/models/m/model.bin", SIZE)
    model.faults.rate = 6_000_000
    page.run(
        START
        + "while (reg.downloaded < 20e6) await new Promise((next) => reg.addEventListener('progress', next, { once: true })); await reg.pause();"
    )
    model.faults.rate = 0
    assert page.run(READY + "const it = await bf.get('m'); await it.resume();" + END) == model.sha256
    assert model.sent < 1.7 * SIZE


def test_a_browser_that_was_killed_goes_on(page: Tab, chromium: Browser, site: Site) -> None:
    """The next one of the same profile finishes it."""
    model = site.model("/models/m/model.bin", SIZE)
    model.faults.rate = 6_000_000
    page.run(START)
    chromium.kill()
    model.faults.rate = 0
    chromium.launch()
    assert chromium.open(site.url).run(READY + END) == model.sha256


def test_a_browser_that_was_closed_goes_on(page: Tab, chromium: Browser, site: Site) -> None:
    """Closing it aborts its own fetch: the page finishes with the other engine."""
    model = site.model("/models/m/model.bin", SIZE)
    model.faults.rate = 6_000_000
    page.run(
        START
        + "while (reg.downloaded < 20e6) await new Promise((next) => reg.addEventListener('progress', next, { once: true }));"
    )
    chromium.close()
    model.faults.rate = 0
    chromium.launch()
    assert chromium.open(site.url).run(READY + END) == model.sha256
