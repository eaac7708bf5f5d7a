"""Figures as Prometheus reads them."""

from __future__ import annotations

import re

from bgfetch.daemon.metrics import Figures, text_of

_SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')


def parsed(text: str) -> dict[tuple[str, str], float]:
    """(name, labels) to value; every sample belongs to the family whose head stands above it."""
    found: dict[tuple[str, str], float] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert kind in ("gauge", "counter")
            assert kind != "counter" or family.endswith("_total")
        elif not line.startswith("#"):
            match = _SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match[1] == family
            found[match[1], match[2] or ""] = float(match[3])
    assert text.endswith("\n")
    return found


def test_text_is_read_back() -> None:
    """Every figure is there under its name, large ones exactly."""
    figures = Figures(
        'v"1\\\n',
        3.5,
        {"running": 2, "success": 7},
        received=(1 << 53) - 1,
        rate=12.5,
        connections=3,
        pending=4,
        parked=5,
    )
    found = parsed(text_of(figures))
    assert found["bgfetch_registrations", 'state="running"'] == 2
    assert found["bgfetch_registrations", 'state="success"'] == 7
    assert found["bgfetch_received_bytes_total", ""] == (1 << 53) - 1
    assert found["bgfetch_info", r'version="v\"1\\\n"'] == 1
    assert (found["bgfetch_events_pending", ""], found["bgfetch_events_parked", ""]) == (4, 5)


def test_nothing_is_nothing() -> None:
    """A daemon without registrations has no line for a state that it has not."""
    assert [name for name, _ in parsed(text_of(Figures("1", 0.0))) if name == "bgfetch_registrations"] == []
