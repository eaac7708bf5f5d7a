"""docs/states.md is drawn from the machine's own table and is never out of date."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from bgfetch.core.model import State
from bgfetch.core.transitions import TRANSITIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def drawing() -> ModuleType:
    """tools/draw_states.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("draw_states", ROOT / "tools" / "draw_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_the_table(drawing: ModuleType) -> None:
    """Whoever changes a transition draws it again: `python tools/draw_states.py`."""
    assert (ROOT / "docs" / "states.md").read_text(encoding="utf-8") == drawing.document()


def test_every_way_is_drawn(drawing: ModuleType) -> None:
    """And every state that a record can be in is explained."""
    picture = drawing.picture()
    for (state, event), targets in TRANSITIONS.items():
        for target in targets:
            (line,) = [
                line
                for line in picture.splitlines()
                if f"{drawing.name(state)} --> {drawing.name(target)} " in line
            ]
            assert event.__name__ in line
    assert set(drawing.AWAITS) == set(State) - {State.PAUSED_SCHEDULE, State.PAUSED_METERED}
