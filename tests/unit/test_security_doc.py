"""What docs/security.md promises has a test, and it is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")


def test_every_named_test_is_there() -> None:
    """No line refers to a test that was renamed or removed."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 20
    for file, name in named:
        text = (ROOT / file).read_text("utf-8")
        assert not name or f"def {name}(" in text, (file, name)


def test_every_defence_names_a_test() -> None:
    """A row of a table without a test would be a wish."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "| test |" not in line]
    assert all("`tests/" in row for row in rows), [row for row in rows if "`tests/" not in row]
