"""Where a setting comes from, and what is said when it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgfetch.config import Settings, duration, load, size
from bgfetch.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("65536", 65536), ("5M", 5 << 20), ("1.5G", 3 << 29), ("2 KiB", 2048), ("1mb/s", 1 << 20)],
)
def test_sizes(text: str, count: int) -> None:
    """K, M, G and T are powers of 1024, as in curl and aria2."""
    assert size(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30.0), ("500ms", 0.5), ("5m", 300.0), ("1.5h", 5400.0), ("2d", 172800.0)]
)
def test_durations(text: str, seconds: float) -> None:
    """A bare number is seconds."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "5X", "M", "1e9", "٣"])
def test_nonsense_is_refused(text: str) -> None:
    """What is no size or duration is named, not guessed."""
    with pytest.raises(InvalidRequest):
        size(text)
    with pytest.raises(InvalidRequest):
        duration(text)


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """The order the manual promises."""
    (tmp_path / "config.toml").write_text('connections = 3\nattempts = 4\nsilence_timeout = "1m"\n')
    environ = {"BGFETCH_HOME": str(tmp_path), "BGFETCH_CONNECTIONS": "2", "BGFETCH_ATTEMPTS": "5"}
    settings = load({"connections": 1, "attempts": None}, environ)
    assert (settings.connections, settings.attempts, settings.silence_timeout) == (1, 5, 60.0)
    assert settings.head_timeout == Settings(home=tmp_path).head_timeout


@pytest.mark.parametrize(
    ("text", "environ", "named"),
    [
        ("conections = 3", {}, "conections"),
        ("connections = ", {}, "config.toml"),
        ('connections = "many"', {}, "connections"),
        ("", {"BGFETCH_LIMIT_RATE": "fast"}, "BGFETCH_LIMIT_RATE"),
        ("", {"BGFETCH_RETRY_SCALE": "x"}, "BGFETCH_RETRY_SCALE"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, environ: dict[str, str], named: str) -> None:
    """A typing error is told with its place; nothing falls back silently."""
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(InvalidRequest, match=named):
        load(None, {"BGFETCH_HOME": str(tmp_path), **environ})
