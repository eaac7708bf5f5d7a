"""The laboratory itself: browsers do what the tests tell them, and sites go wrong as they are told to."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.browser.browsers import Browser, PageError, Tab
from tests.browser.lab import running
from tests.browser.models import SEGMENT
from tests.browser.sites import Site

MARK = "globalThis.seen ??= Math.random()"
BUTTON = "document.body.innerHTML = '<button onclick=\"globalThis.clicked = navigator.userActivation?.isActive ?? true\">x'"


def test_a_page_is_asked_and_answers(tab: Tab) -> None:
    """Values go in and come out as JSON, promises are awaited, and what is thrown has the page's name and words."""
    assert tab.run("return [await Promise.resolve(one), typeof two.deep]", one=1, two={"deep": None}) == [
        1,
        "object",
    ]
    assert tab.evaluate("undefined") is None
    with pytest.raises(PageError, match="InvalidStateError: no") as thrown:
        tab.run("throw new DOMException('no', 'InvalidStateError')")
    assert thrown.value.name == "InvalidStateError"
    with pytest.raises(PageError, match="SyntaxError"):
        tab.run("not code")


def test_a_page_is_left(tab: Tab, site: Site) -> None:
    """A reload and another address make another document, on the same origin the same storage."""
    seen = tab.evaluate(MARK)
    assert tab.evaluate(MARK) == seen
    tab.run("localStorage.kept = 'yes'")
    tab.reload()
    assert tab.evaluate(MARK) != seen
    tab.goto(site.url_of("/?again"))
    assert tab.evaluate("[location.search, localStorage.kept]") == ["?again", "yes"]


def test_a_click_gives_activation(tab: Tab) -> None:
    """As a person's does, where the browser says so."""
    tab.run(BUTTON)
    tab.click("button")
    assert tab.evaluate("globalThis.clicked") is True
    assert tab.screenshot().startswith(b"\x89PNG")


def test_keys_reach_what_has_the_focus(tab: Tab, browser: Browser) -> None:
    """Tab moves there, Enter presses it."""
    if browser.name == "webkit":
        pytest.skip("WebKit's inspector has no keys")
    tab.run(BUTTON)
    tab.press("Tab")
    tab.press("Enter")
    assert tab.evaluate("globalThis.clicked") is True


def test_tabs_are_apart(browser: Browser, site: Site) -> None:
    """Each is asked for itself, and closing one leaves the other."""
    one, two = browser.open(site.url_of("/?1")), browser.open(site.url_of("/?2"))
    assert [each.evaluate("location.search") for each in (one, two)] == ["?1", "?2"]
    one.close()
    assert two.evaluate("location.search") == "?2"
    two.close()


@pytest.mark.parametrize("kind", ["chromium", "firefox", "webkit"])
def test_what_is_stored_outlives_a_kill(kind: str, tmp_path: Path) -> None:
    """Caches and IndexedDB are there again after SIGKILL, and after a gentle end."""
    with Site() as site, running(kind, tmp_path / kind) as browser:
        browser.open(site.url).run("await (await caches.open('a')).put('/kept', new Response('yes'))")
        browser.kill()
        assert not browser.alive
        browser.launch()
        assert browser.open(site.url).evaluate("(await caches.match('/kept'))?.text()") == "yes"
        browser.close()
        assert not browser.alive
        browser.launch()
        assert browser.open(site.url).evaluate("(await caches.match('/kept'))?.text()") == "yes"


def test_only_chromium_has_background_fetch(tab: Tab, browser: Browser) -> None:
    """What a browser says of itself is so."""
    found = tab.evaluate(
        "'BackgroundFetchManager' in self && 'backgroundFetch' in ServiceWorkerRegistration.prototype"
    )
    assert found is browser.native


def test_background_fetch_can_be_hidden(tmp_path: Path) -> None:
    """In a page and in a service worker, so that the polyfill meets what it meets in other browsers."""
    names = "['BackgroundFetchManager', 'BackgroundFetchEvent'].filter(name => name in self)"
    with Site() as site, running("bare", tmp_path / "bare") as browser:
        tell = f"fetch('/told', {{method: 'POST', body: JSON.stringify({{worker: {names}}})}})"
        site.put("/sw.js", f"oninstall = event => event.waitUntil({tell})")
        tab = browser.open(site.url)
        assert tab.evaluate(names) == []
        assert tab.evaluate("'backgroundFetch' in ServiceWorkerRegistration.prototype") is False
        tab.run("await navigator.serviceWorker.register('/sw.js')")
        assert site.hears(worker=[])


def test_a_worker_reports(tab: Tab, site: Site) -> None:
    """A service worker tells the test something, with or without a page."""
    site.put("/sw.js", "fetch('/told', {method: 'POST', body: JSON.stringify({hello: 1})})")
    tab.run("await navigator.serviceWorker.register('/sw.js')")
    assert site.hears(hello=1)


def _get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    asked = urllib.request.Request(url, headers=headers)  # noqa: S310 - loopback
    try:
        with opener.open(asked) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, dict(refused.headers), refused.read()


def test_a_model_has_a_manifest_that_is_true(site: Site) -> None:
    """Size, digests and the versioned URL are those of the bytes that come; the file's Link leads there."""
    model = site.model("/models/m/a b.bin", 2 * SEGMENT + 5)
    _, headers, body = _get(site.url_of("/models/m/a%20b.bin"))
    assert headers["Link"].startswith("<a%20b.bin?manifest>")
    assert hashlib.sha256(body).hexdigest() == model.sha256
    (entry,) = json.loads(_get(site.url_of("/models/m/manifest.json"))[2])["files"]
    assert [entry["path"], entry["size"], entry["sha256"]] == ["a b.bin", len(body), model.sha256]
    pieces = [body[at : at + SEGMENT] for at in range(0, len(body), SEGMENT)]
    assert entry["segments"] == [hashlib.sha256(each).hexdigest() for each in pieces]
    assert _get(site.url_of(f"/models/m/{entry['url']}"), Range="bytes=7-9")[2] == body[7:10]
    assert _get(site.url_of(f"/models/m/a%20b.bin?sha256={'0' * 64}"))[0] == 404


FAULTS: dict[str, tuple[dict[str, Any], Any]] = {
    "drop": ({"drop_every": 1 << 20}, "IncompleteRead"),
    "stall": ({"stall_every": 1 << 20, "stall": 0.05}, "IncompleteRead"),
    "refuse": ({"refuse": 1, "retry_after": "2"}, 503),
    "ranges": ({"ranges": False}, 200),
    "html": ({"html": True}, 200),
    "wrong": ({"wrong": {0}}, 206),
    "status": ({"status": 404}, 404),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_goes_wrong_as_told(site: Site, fault: str) -> None:
    """And only as told: without it the same request gives the right bytes."""
    model = site.model("/m.bin", 3 << 20)
    right = _get(site.url_of("/m.bin"), Range="bytes=0-2999999")[2]
    told, outcome = FAULTS[fault]
    for name, value in told.items():
        setattr(model.faults, name, value)
    try:
        status, _, body = _get(site.url_of("/m.bin"), Range="bytes=0-2999999")
    except Exception as error:  # noqa: BLE001 - the name is what is compared
        assert type(error).__name__ == outcome  # noqa: PT017
    else:
        assert status == outcome
        assert body != right
    assert len(right) == 3_000_000
    assert hashlib.sha256(right).hexdigest() != model.sha256


def test_a_site_goes_away_and_comes_back(site: Site) -> None:
    """Nobody answers in between."""
    site.down(0.2)
    with pytest.raises(urllib.error.URLError):
        _get(site.url)
    site.up()
    assert _get(site.url)[0] == 200
