"""The browser half's server: models with digests, ranges and a manifest, and the kit that pages import.

    app.mount("/models", bgfetch.web.ModelServer("models/"))
    app.mount("/bgfetch", bgfetch.web.Kit())

Both are ASGI applications; docs/web-server.md says what they send and why.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgfetch.web.assets import Kit as Kit
    from bgfetch.web.limits import Limits as Limits
    from bgfetch.web.server import ModelServer as ModelServer

__all__ = ["Kit", "Limits", "ModelServer"]

_MODULES = {"Kit": "assets", "Limits": "limits", "ModelServer": "server"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
