"""Each page of examples/web/pages/integrations: a real runtime runs a real model out of what bgfetch stored and verified."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from tests.browser.browsers import Browser, Tab
from tests.browser.test_demo import Demo, demo, need_models, press, state, tab, until

__all__ = ["demo", "tab"]

BEGINNING = "Once upon a time, a small computer"


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


def parts(model: bytes, folder: Path) -> None:
    """Lay a model out in four files of one size."""
    folder.mkdir()
    size = -(-len(model) // 4)
    for part in range(4):
        (folder / f"model.gguf.part{part:02}").write_bytes(model[part * size : (part + 1) * size])


def written(tab: Tab, browser: Browser, url: str) -> str:
    """What the wllama page has written when it ends."""
    tab.goto(url)
    state(tab, "gemma", "idle")
    press(tab, browser, "gemma")
    until(tab, "!document.querySelector('form').hidden")
    tab.run("document.querySelector('form button').click()")
    ended = "document.querySelector('.result').textContent && !document.querySelector('form button').disabled"
    # WebKit runs wllama's slower build: 30 s on two cores until Gemma's first word.
    until(tab, ended, within=150)
    return str(tab.evaluate("document.querySelector('.result').textContent"))


def test_wllama_writes_on_out_of_four_blobs(tab: Tab, browser: Browser, demo: Demo) -> None:
    """`loadModel([new Blob(parts)])`: a model in the parts of Gemma's, but of 100 KB, says what it knows."""
    need_models("@wllama/wllama")
    tiny_gguf = pytest.importorskip("tests.browser.tiny_gguf", reason="NOT INSTALLED: gguf (make web-models)")
    shutil.rmtree(demo.folder / "gemma", ignore_errors=True)
    parts(tiny_gguf.write(), demo.folder / "gemma")
    said = written(tab, browser, f"{demo.url}/integrations/wllama.html")
    assert said == BEGINNING + tiny_gguf.SENTENCE


def test_wllama_writes_with_gemma(tab: Tab, browser: Browser, demo: Demo) -> None:
    """Gemma 3 270M goes on with a sentence; what it says is left to chance, and may soon end."""
    need_models("@wllama/wllama", "gemma")
    said = written(tab, browser, f"{demo.url}/integrations/wllama.html")
    assert said.startswith(BEGINNING)
    assert len(said) > len(BEGINNING) + 10
