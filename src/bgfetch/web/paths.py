"""Names below a folder, as URLs spell them: which of them can mean a file at all.

The rule: a part that any platform could take for something else than a plain name is no name. What is not served
cannot be asked for, and is not listed.
"""

from __future__ import annotations

from urllib.parse import quote

from bgfetch.core.names import safe_name

__all__ = ["Parts", "is_servable", "parts_of", "url_path"]

Parts = tuple[str, ...]
"""Names of folders and, last, of a file, outermost first; each passes `is_servable`."""

_LONGEST = 1 << 12  # characters: PATH_MAX
_DEEPEST = 64


def is_servable(name: str) -> bool:
    """Whether this is one plain name everywhere: no separator, drive, dotfile, device, control or trailing dot.

    Source: core.names.safe_name, which changes whatever is not.
    """
    return safe_name(name) == name


def parts_of(path: str) -> Parts | None:
    """The parts of a path below the mount, or None where one of them is no name; a slash at either end means nothing.

    Args:
        path: Percent-decoded once, as ASGI servers hand it over: an encoded slash is one, an encoded percent sign is not.
    """
    if len(path) > _LONGEST:
        return None
    inner = path.removeprefix("/").removesuffix("/")
    parts = tuple(inner.split("/")) if inner else ()
    if len(parts) > _DEEPEST or not all(map(is_servable, parts)):
        return None
    return parts


def url_path(parts: Parts) -> str:
    """The parts as the path of a relative URL."""
    return "/".join(quote(part, safe="") for part in parts)
