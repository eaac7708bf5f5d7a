"""`<model-download>` in real browsers: what it says, how it is used by keyboard, and what it asks of a strict page.

Its manager is a fake (pages/fake.js), so that each state can be looked at; test_demo.py has it with the real one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from tests.browser.asgi import serve
from tests.browser.browsers import Browser, Tab
from tests.browser.chromium import ChromiumTab

import bgfetch.web

PAGES = Path(__file__).with_name("pages")
NPM = Path(__file__).parents[2] / "build/npm/node_modules"
# No exception for anything inline, from elsewhere, or made out of strings.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; require-trusted-types-for 'script'"
STATES = {
    "idle": ("idle", "Not on this device yet", ["Download"]),
    "checking": ("checking", "Looking at what is here…", []),
    "queued": ("queued", "Waiting for its turn", ["Pause", "Abort"]),
    "offline": ("queued", "Waiting for the network; it goes on by itself", ["Pause", "Abort"]),
    "retrying": ("queued", "The server did not answer; next try ", ["Pause", "Abort"]),
    "downloading": ("downloading", "Downloading", ["Pause", "Abort"]),
    "unsized": ("downloading", "Downloading", ["Pause", "Abort"]),
    "paused": ("paused", "Paused", ["Resume", "Abort"]),
    "verifying": ("verifying", "Checking every byte…", ["Abort"]),
    "ready": ("ready", "Ready, on this device", ["Delete"]),
    "failed": ("failed", "What arrived is not the file", ["Try again", "Delete"]),
    "evicted": (
        "evicted",
        "The browser removed part of it to make room",
        ["Fetch what is missing", "Delete"],
    ),
    "unsupported": ("unsupported", "This browser cannot keep models", []),
}


@pytest.fixture(scope="module")
def strict_site() -> Iterator[str]:
    """The kit, the pages of these tests and axe-core, under a policy without exceptions."""

    async def with_policy(request: Request, call_next: Any) -> Response:
        answer: Response = await call_next(request)
        answer.headers["Content-Security-Policy"] = POLICY
        return answer

    routes = [
        Mount("/bgfetch", bgfetch.web.Kit()),
        Mount("/npm", StaticFiles(directory=NPM, check_dir=False)),
        Mount("/", StaticFiles(directory=PAGES)),
    ]
    with serve(Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, with_policy)])) as url:
        yield url


@pytest.fixture
def page(tab: Tab, strict_site: str) -> Iterator[Tab]:
    """The page, ready; at the end nothing must have broken its policy."""
    tab.goto(f"{strict_site}/element.html")
    tab.run("while (!window.show) await new Promise(requestAnimationFrame)")
    yield tab
    assert tab.evaluate("self.violations ?? []") == []


def test_each_state_is_said_in_words_with_the_buttons_it_has(page: Tab) -> None:
    """Whatever the state, a person reads what it is, what is awaited, and what they can do."""
    for state, (attribute, words, buttons) in STATES.items():
        seen = page.run(
            """const element = await show(state)
            const found = {attribute: element.getAttribute("state"), ...texts(element)}
            element.remove()
            return found""",
            state=state,
        )
        assert seen["attribute"] == attribute, state
        assert seen["status"].startswith(words), state
        assert [seen[name] for name in ("button", "other") if name in seen] == buttons, state


def test_numbers_are_said_in_the_readers_language(page: Tab) -> None:
    """Size, rate and time left are written as the element's language writes them."""
    seen = page.run(
        """const said = {waiting: texts(await show("retrying")).status}
        for (const lang of ["en", "de"]) {
            const element = await show("downloading", {lang})
            said[lang] = texts(element)
            said[lang].spoken = part(element, "bar").getAttribute("aria-valuetext")
            said[lang].name = part(element, "bar").getAttribute("aria-label")
        }
        return said"""
    )
    assert seen["en"]["size"] == "9.8 MB of 22.9 MB"
    assert (seen["en"]["rate"], seen["en"]["eta"]) == ("2.1 MB/s", "7 seconds left")
    assert seen["en"]["spoken"] == "43%, 9.8 MB of 22.9 MB"
    assert re.search(r"next try \d+:\d\d:\d\d", seen["waiting"])
    assert seen["en"]["name"] == "Progress of MiniLM"
    assert seen["de"]["size"] == "9,8 MB of 22,9 MB"


def test_the_size_is_seen_before_consent_and_nothing_is_fetched_without_it(page: Tab) -> None:
    """Only a press starts a download, and by then its size has been told."""
    page.run("""window.element = await show("idle", {manifest: "/m/manifest.json"})""")
    assert page.evaluate("texts(element).size") == "22.9 MB"
    assert page.evaluate("element.backgroundFetch.calls") == []
    page.click("model-download")  # the middle of the element is no button
    assert page.evaluate("element.backgroundFetch.calls") == []
    page.run("""part(element, "button").click(); await nextState(element, "queued")""")
    calls = page.evaluate("element.backgroundFetch.calls")
    assert calls == [["ensure", "fake", "/m/manifest.json", {"title": "MiniLM", "downloadTotal": 22_928_619}]]


def test_the_keyboard_is_enough_and_focus_is_never_lost(page: Tab, browser: Browser) -> None:
    """Tab reaches the button; it stays focused while its meaning changes; when it goes, the words have the focus, not Delete."""
    if browser.name == "webkit":
        pytest.skip("WebKitGTK's inspector has no keys; the same focus rules are tested below without them")
    page.run("""window.element = await show("idle"); document.querySelector("#before").focus()""")
    focused = "(element.shadowRoot.activeElement ?? document.activeElement).textContent"
    page.press("Tab")
    assert page.evaluate(focused) == "Download"
    page.press("Enter")
    page.run(
        """await nextState(element, "queued"); element.registration.set({state: "running", downloaded: 1e6})"""
    )
    assert page.evaluate(focused) == "Pause"
    page.press(" ")
    page.run("""await nextState(element, "paused")""")
    assert page.evaluate(focused) == "Resume"
    page.press("Tab")
    assert page.evaluate(focused) == "Abort"
    page.press("Tab")
    assert page.evaluate(focused) == "After"


def test_a_button_that_goes_leaves_its_focus_to_the_words(page: Tab) -> None:
    """Whoever pressed Pause does not find Delete under the same key when the download ends."""
    page.run("""window.element = await show("downloading"); part(element, "button").focus()""")
    page.run("""element.registration.set({result: "success", state: "settled"})""")
    assert page.evaluate("element.shadowRoot.activeElement.textContent") == "Ready, on this device"


def test_a_screen_reader_hears_each_state_and_each_quarter_once(page: Tab) -> None:
    """A hundred progress events are three announcements, and the bar always has its words."""
    said = page.run(
        """const element = await show("queued")
        const log = part(element, "live")
        const said = []
        new MutationObserver(() => said.push(log.textContent)).observe(log, {childList: true})
        for (let done = 0; done < 100; done++) {
            element.registration.set({state: "running", downloaded: 22_928_619 * done / 100})
            await null
        }
        element.registration.set({state: "paused"}); await null
        element.registration.set({state: "settled", result: "success"}); await null
        return said"""
    )
    assert said == [
        "MiniLM: Downloading",
        "MiniLM: Downloading, 25%, 5.7 MB of 22.9 MB",
        "MiniLM: Downloading, 50%, 11.5 MB of 22.9 MB",
        "MiniLM: Downloading, 75%, 17.2 MB of 22.9 MB",
        "MiniLM: Paused",
        "MiniLM: Ready, on this device",
    ]


def test_it_reads_from_right_to_left_where_the_page_does(page: Tab) -> None:
    """In a right-to-left page the label is at the right, the buttons at the left."""
    place = """const element = await show("idle")
        const at = (name) => part(element, name).getBoundingClientRect().left
        return at("label") < at("button")"""
    assert page.run(place) is True
    assert page.run(f"""document.documentElement.dir = "rtl"; {place}""") is False


def test_every_button_is_large_enough_for_a_thumb(page: Tab) -> None:
    """44 by 44 CSS pixels at least, in each state, also where the page is as narrow as a phone."""
    sizes = page.run(
        """document.querySelector("#place").style.width = "320px"
        const found = []
        for (const state of Object.keys(STATES)) {
            const element = await show(state)
            for (const button of element.shadowRoot.querySelectorAll("button:not([hidden])")) {
                const {width, height, right} = button.getBoundingClientRect()
                found.push([state, width >= 44, height >= 44, right <= element.getBoundingClientRect().right + 1])
            }
        }
        return found"""
    )
    assert len(sizes) >= 15
    assert [each for each in sizes if not all(each[1:])] == []


def test_reduced_motion_stills_what_moves(page: Tab) -> None:
    """The bar without a total moves, except for those who asked that nothing does."""
    if not isinstance(page, ChromiumTab):
        pytest.skip("only Chromium's protocol can pretend the preference")
    page.run("""window.element = await show("unsized")""")
    moving = """part(element, "bar").getAnimations().length"""
    assert page.evaluate(moving) == 1
    page.call(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    )
    assert page.evaluate(moving) == 0


def test_texts_can_be_replaced_for_all_and_for_one(page: Tab) -> None:
    """A page in another language brings its own words, with the numbers where it wants them."""
    seen = page.run(
        """Object.assign(ModelDownload.texts, {download: "Herunterladen"})
        const all = await show("idle"), one = await show("idle")
        one.texts = {download: "Her damit ({size})"}
        const found = [texts(all).button, texts(one).button]
        ModelDownload.texts.download = "Download"
        return found"""
    )
    assert seen == ["Herunterladen", "Her damit (22.9 MB)"]


def test_nothing_from_a_server_is_markup(page: Tab) -> None:
    """What a server or a page says is text, wherever it is shown."""
    seen = page.run(
        """const element = await show("failed", {label: "<img src=x onerror=alert(1)>"})
        return [texts(element).error, texts(element).label, element.shadowRoot.querySelectorAll("b, img").length]"""
    )
    assert seen == ["segment 3 has another sha256 <b>than said</b>", "<img src=x onerror=alert(1)>", 0]


def test_attributes_and_properties_are_one(page: Tab) -> None:
    """What is set as a property is seen as an attribute, and the other way round."""
    seen = page.run(
        """const element = await show("idle", {}, new FakeManager())
        element.name = "other"; element.engine = "native"; element.auto = true; element.disabled = true; element.sha256 = "ab"
        const html = element.cloneNode().outerHTML
        element.setAttribute("src", "/b.bin"); element.setAttribute("engine", "nonsense")
        return [html, element.src, element.engine, part(element, "button").disabled]"""
    )
    for attribute in ('name="other"', 'engine="native"', 'auto=""', 'disabled=""', 'sha256="ab"'):
        assert attribute in seen[0]
    assert seen[1:] == ["/b.bin", "auto", True]


def test_events_tell_the_page_and_leave_the_shadow(page: Tab) -> None:
    """Progress, pause, success, abort, fail and quota reach a listener of the document with what it needs."""
    seen = page.run(
        """const element = await show("downloading")
        element.registration.set({downloaded: 11_000_000})
        await element.pause(); await element.resume()
        await element.abort()
        await element.download()
        element.registration.set({result: "success", state: "settled", downloaded: 22_928_619})
        const full = await show("idle", {}, new FakeManager({refuses: gone}))
        await full.download()
        return events.map(([kind, {state, downloaded, downloadTotal, failureReason, failureDetail}]) =>
            [kind, state, downloaded, downloadTotal, failureReason, failureDetail])"""
    )
    kinds = [each[0] for each in seen]
    assert kinds == [
        *["progress"] * 2, "pause", *["progress"] * 2, "abort", "progress", "success", "quota", "fail",
    ]  # fmt: skip
    assert seen[1] == ["progress", "downloading", 11_000_000, 22_928_619, "", ""]
    assert seen[-1][4:] == ["quota-exceeded", "12 GB are needed, 3 GB are free"]


def test_events_cross_the_shadow_of_an_app_around_it(page: Tab) -> None:
    """An element inside another component is heard outside it, too."""
    seen = page.run(
        """const outer = document.createElement("div")
        const element = document.createElement("model-download")
        element.backgroundFetch = STATES.ready()
        outer.attachShadow({mode: "open"}).append(element)
        document.querySelector("#place").append(outer)
        await nextState(element, "ready")
        return events.map(([kind]) => kind)"""
    )
    assert seen == ["success"]


def test_auto_starts_without_a_press_and_disabled_never_starts(page: Tab) -> None:
    """`auto` is the page's own consent; `disabled` takes it back."""
    seen = page.run(
        """const started = await show("idle", {auto: "", disabled: ""})
        await started.download()
        const auto = await show("other", {auto: ""}, new FakeManager())
        await nextState(auto, "queued")
        return [started.backgroundFetch.calls.length, auto.backgroundFetch.calls.length]"""
    )
    assert seen == [0, 1]


def test_when_ready_waits_over_a_failure_that_is_retried(page: Tab) -> None:
    """`whenReady()` gives the registration in the end, also after a first attempt that failed."""
    seen = page.run(
        """const element = await show("failed")
        let here = false
        const ready = element.whenReady().then((registration) => (here = registration))
        await null
        const early = here
        await element.download()
        element.registration.set({result: "success", state: "settled"})
        return [early, (await ready) === element.registration, (await element.whenReady()) === element.registration]"""
    )
    assert seen == [False, True, True]


def test_a_newer_version_is_offered_and_what_is_here_stays(page: Tab) -> None:
    """When the manifest names other bytes than those stored, the page is told, and a press fetches them."""
    page.run(
        """const manager = STATES.ready()
        manager.registration.files = [{path: "a", url: "/a?sha256=01"}]
        window.element = await show("ready", {manifest: "/manifest.json"}, manager)
        while (texts(element).button !== "Update") await new Promise(requestAnimationFrame)"""
    )
    assert page.evaluate("texts(element).status") == "Ready; a newer version is out"
    assert page.evaluate("events.map(([kind]) => kind)") == ["success", "update"]
    assert page.evaluate("element.state") == "ready"
    page.run("""part(element, "button").click(); await nextState(element, "queued")""")
    assert page.evaluate("element.backgroundFetch.calls.map(([call]) => call)") == ["fetch"]


def test_deleting_gives_the_room_back_and_offers_the_download_again(page: Tab) -> None:
    """Delete asks the manager for it, and what comes next is the first state again."""
    page.run(
        """window.element = await show("ready"); part(element, "other").click(); await nextState(element, "idle")"""
    )
    assert page.evaluate("element.backgroundFetch.calls") == [["delete", "fake"]]
    assert page.evaluate("texts(element).button") == "Download"


def test_without_script_a_link_is_left(page: Tab, strict_site: str) -> None:
    """A browser without the script shows the link inside; with it, only where models cannot be kept."""
    seen = page.run(
        """const found = {}
        for (const state of ["idle", "unsupported"]) {
            const element = await show(state)
            const link = Object.assign(document.createElement("a"), {href: "/a", download: "", textContent: "Get it"})
            element.append(link)
            found[state] = link.checkVisibility?.() ?? link.getClientRects().length > 0
        }
        return found"""
    )
    assert seen == {"idle": False, "unsupported": True}
    page.goto(f"{strict_site}/plain.html")
    assert page.evaluate("document.querySelector('a').getClientRects().length > 0") is True


def test_it_can_leave_the_page_and_come_back(page: Tab) -> None:
    """An element that is moved looks again, and one that has left says nothing more."""
    seen = page.run(
        """const element = await show("downloading")
        const {registration} = element
        element.remove()
        registration.set({downloaded: 2e6})
        const after = events.length
        document.querySelector("#place").append(element)
        await nextState(element, "downloading")
        return [after, element.registration === registration]"""
    )
    assert seen == [1, True]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_in_any_state(page: Tab, scheme: str) -> None:
    """Contrast, names, roles and the rest of axe-core's rules, for all states at once, light and dark."""
    if not (NPM / "axe-core").is_dir():
        pytest.skip("AXE-CORE IS NOT INSTALLED: npm could not be reached (make web-models)")
    found = page.run(
        """document.documentElement.style.colorScheme = scheme
        for (const state of Object.keys(STATES)) await show(state, {label: `MiniLM ${state}`})
        const script = document.createElement("script")
        const policy = self.trustedTypes?.createPolicy("axe", {createScriptURL: (url) => url})
        script.src = policy?.createScriptURL("/npm/axe-core/axe.min.js") ?? "/npm/axe-core/axe.min.js"
        await new Promise((resolve, reject) => { script.onload = resolve; script.onerror = reject; document.head.append(script) })
        const {violations, passes} = await axe.run("#place", {resultTypes: ["violations"]})
        return {rules: passes.length, violations: violations.map(({id, nodes}) => [id, nodes.map(({html, failureSummary}) => html + failureSummary)])}""",
        scheme=scheme,
    )
    assert found["violations"] == []
    assert found["rules"] > 10
