"""Each page of examples/web/pages/integrations: a real runtime runs a real model out of what bgfetch stored and verified."""

from __future__ import annotations

import re

import pytest
from tests.browser.browsers import Browser, Tab
from tests.browser.test_demo import Demo, demo, need_models, press, state, tab, until

__all__ = ["demo", "tab"]

pytestmark = pytest.mark.timeout(240)  # Gemma is 253 MB, and its first words take their time


def numbers(text: str) -> list[float]:
    """Those in a sentence."""
    return [float(each) for each in re.findall(r"-?\d+\.\d+", text)]


def run(tab: Tab, browser: Browser, url: str, model: str) -> str:
    """Open a page, press its download, and what it says in the end."""
    tab.goto(url)
    state(tab, model, "idle")
    press(tab, browser, model)
    return str(until(tab, "document.querySelector('.result').textContent"))


def test_onnxruntime_web_runs_the_bytes(tab: Tab, browser: Browser, demo: Demo) -> None:
    """`InferenceSession.create(await registration.bytes(name))`: silence is silence, a voice a voice."""
    quiet, spoken = numbers(run(tab, browser, f"{demo.url}/integrations/onnxruntime.html", "vad"))
    assert quiet == pytest.approx(0.0443, abs=0.005)
    assert spoken > 0.9


def test_transformers_js_runs_out_of_the_cache_it_is_given(tab: Tab, browser: Browser, demo: Demo) -> None:
    """`env.customCache = bf.asCache(id)`: a cat is near a kitten and far from shares."""
    need_models("@huggingface/transformers")
    near, far = numbers(run(tab, browser, f"{demo.url}/integrations/transformers.html", "minilm"))
    assert near > 0.5
    assert far < 0.2


def test_wllama_writes_on_out_of_four_blobs(tab: Tab, browser: Browser, demo: Demo) -> None:
    """`loadModel([new Blob(parts)])`: Gemma goes on with a sentence."""
    need_models("@wllama/wllama", "gemma")
    tab.goto(f"{demo.url}/integrations/wllama.html")
    state(tab, "gemma", "idle")
    press(tab, browser, "gemma")
    until(tab, "!document.querySelector('form').hidden")
    tab.run("document.querySelector('form button').click()")
    until(
        tab,
        "document.querySelector('.result').textContent && !document.querySelector('form button').disabled",
    )
    said = tab.evaluate("document.querySelector('.result').textContent")
    assert said.startswith("Once upon a time, a small computer")
    assert len(said.split()) > 12
