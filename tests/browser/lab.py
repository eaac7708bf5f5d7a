"""Which browsers there are, and how to get one that runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.browser import chromium, firefox, webkit
from tests.browser.browsers import Browser

__all__ = ["made", "running"]

_PACKAGES = {
    "chromium": "chromium",
    "firefox": "firefox-esr",
    "webkit": "webkit2gtk-driver xvfb",
}
_PROGRAMS = {"chromium": chromium.program, "firefox": firefox.program, "webkit": webkit.program}


def made(kind: str, profile: Path, *, preferences: Mapping[str, bool | int | str] | None = None) -> Browser:
    """A running browser of a kind: "chromium", "bare" (Chromium without Background Fetch), "firefox" or "webkit".

    `preferences` are Firefox's. Where it is missing the test that asks is skipped with the reason, or fails in CI, where nothing may be missing.
    """
    name = "chromium" if kind == "bare" else kind
    if _PROGRAMS[name]() is None:
        reason = f"there is no {name}; on Debian: apt-get install {_PACKAGES[name]}"
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    if name == "firefox":
        return firefox.Firefox(profile, preferences=preferences)
    if name == "webkit":
        return webkit.WebKit(profile)
    return chromium.Chromium(profile, native=kind == "chromium")


@contextmanager
def running(
    kind: str, profile: Path, *, preferences: Mapping[str, bool | int | str] | None = None
) -> Iterator[Browser]:
    """A browser of a test's own, such as one that will be killed; ended afterwards."""
    browser = made(kind, profile, preferences=preferences)
    try:
        yield browser
    finally:
        browser.kill()
