"""`make web-screenshots`: docs/demo-light.png and docs/demo-dark.png, taken of the demo while it runs a model and fetches another.

A slow line is put between server and page for the second model, so that a picture shows a download.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples/web")]

import models  # noqa: E402 - found by the line above
import server  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402
from tests.browser.asgi import serve  # noqa: E402

RATE = 3_000_000  # bytes a second for what is to be seen arriving
SLOW = "/models/minilm/onnx/"


def slow(app: Any) -> Any:
    """The site, with one model behind a slow line."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def slowly(message: Any) -> None:
            await send(message)
            await asyncio.sleep(len(message.get("body", b"")) / RATE)

        await app(scope, receive, slowly if scope.get("path", "").startswith(SLOW) else send)

    return wrapped


def main() -> None:
    """Take both pictures."""
    for missing in models.lay_out(models.MODELS):
        print(f"Left out: {missing}", file=sys.stderr)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with serve(slow(server.application())) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--headless=new", "--no-sandbox", "--disable-gpu"]
        )
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme, viewport={"width": 1180, "height": 1150})
            page.goto(url)
            tell(page)
            page.screenshot(path=ROOT / f"docs/demo-{scheme}.png")
            page.context.close()
        browser.close()


def tell(page: Page) -> None:
    """The voice detector hears a voice while MiniLM arrives."""
    page.locator("model-download[name=vad][state=idle]").wait_for()
    page.locator("model-download[name=vad] button.main").click()
    page.locator("model-download[name=vad][state=ready]").wait_for()
    page.locator("model-download[name=minilm] button.main").click()
    page.locator("[data-hear=voice]").click()
    page.get_by_text("somebody speaks").wait_for()
    page.locator("model-download[name=minilm][state=downloading]").wait_for()
    page.get_by_text("left", exact=False).first.wait_for()


if __name__ == "__main__":
    main()
