"""Progress in a notebook: a widget where ipywidgets is there, else a line that is replaced in its place."""

from __future__ import annotations

import sys
from typing import Any

from bgfetch.core.names import printable

__all__ = ["Notebook", "in_notebook"]


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; nothing is imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


class Notebook:
    """What is shown below the cell that began it."""

    def __init__(self) -> None:
        self._shown: dict[str, _Widget | _Text] = {}

    def show(self, name: str, fraction: float | None, words: str) -> None:
        """Show how far this is.

        Args:
            name: What it is called.
            fraction: How much is there, from 0 to 1; None where that cannot be said.
            words: The rest, for a person.
        """
        if name not in self._shown:
            self._shown[name] = _widget(printable(name)) or _Text(printable(name))
        self._shown[name].show(fraction, printable(words))


def _widget(name: str) -> _Widget | None:
    try:
        import ipywidgets  # noqa: PLC0415 - only where somebody installed it
    except ImportError:
        return None
    return _Widget(ipywidgets, name)


class _Widget:
    """A bar."""

    def __init__(self, widgets: Any, name: str) -> None:
        from IPython.display import display  # noqa: PLC0415 - a kernel has it

        self._bar = widgets.FloatProgress(min=0.0, max=1.0)
        self._words = widgets.Label()
        display(widgets.HBox([widgets.Label(name), self._bar, self._words]))

    def show(self, fraction: float | None, words: str) -> None:
        """Draw it so."""
        self._bar.value = fraction or 0.0
        self._bar.bar_style = "success" if fraction == 1.0 else ""
        self._words.value = words


class _Text:
    """A line."""

    def __init__(self, name: str) -> None:
        from IPython.display import display  # noqa: PLC0415 - a kernel has it

        self._name = name
        self._handle: Any = display(self._mime(name), raw=True, display_id=True)

    def show(self, fraction: float | None, words: str) -> None:
        """Replace it."""
        share = "" if fraction is None else f"{fraction:4.0%} "
        self._handle.update(self._mime(f"{self._name}: {share}{words}"), raw=True)

    @staticmethod
    def _mime(text: str) -> dict[str, str]:
        return {"text/plain": text}
