"""The generated documents say what the code does, and every command, setting and exit code is in them."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from bgfetch.cli.exits import MEANING, Exit
from bgfetch.cli.main import COMMANDS
from bgfetch.config import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    """The tool that writes the documents."""
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "tools" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "settings.md", "api.md"])
def test_not_stale(writer: ModuleType, name: str) -> None:
    """A document that is generated is what the tool would write now: `python tools/write_docs.py`."""
    assert (ROOT / "docs" / name).read_text("utf-8") == writer.pages()[name]


def test_every_command_is_documented(writer: ModuleType) -> None:
    """Each command has a heading, and what `bgfetch --help` lists is what there is."""
    page = writer.cli_page()
    assert all(f"\n## bgfetch {name}\n" in page for name in COMMANDS)
    assert "\n## bgfetch cache prune\n" in page


def test_every_setting_is_documented(writer: ModuleType) -> None:
    """Each setting has a unit and a meaning, and stands in the document."""
    page = writer.settings_page()
    for each in fields(Settings):
        if each.name != "home":
            assert each.metadata["unit"]
            assert each.metadata["meaning"]
            assert f"`BGFETCH_{each.name.upper()}`" in page


def test_every_exit_code_has_a_meaning() -> None:
    """No number without words."""
    assert set(MEANING) == set(Exit)
