"""File names from strangers: what a URL, a header or a title proposes, made safe for every platform.

The rule: POSIX and Windows rules hold everywhere, so that a folder moves between machines. Nothing here makes a
proposed name a path: callers still open the result relative to a directory of their own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from urllib.parse import unquote

__all__ = ["distinct", "folded", "name_from_content_disposition", "name_from_url", "printable", "safe_name"]

_LONGEST = 255  # bytes of UTF-8: NAME_MAX on ext4, APFS, XFS; NTFS allows 255 UTF-16 units, never fewer bytes
_READ = 2048  # characters from either end of a proposed name
_LONGEST_SUFFIX = 32  # bytes; ".safetensors" is 12, and a "suffix" longer than this is prose

# Characters that act instead of showing: C0, DEL, C1, bidi controls, zero width, line and paragraph separators,
# lone surrogates, interlinear annotation, tags. ZWJ and ZWNJ stay: Persian, Indic scripts and emoji are spelt with them.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_BLANKS = (
    ".\x20\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')  # separators everywhere; ":" also names drives and NTFS streams
_RESERVED = re.compile(  # Windows devices, whatever their suffix: CON, NUL.txt, COM1, COM¹, "AUX .bin"
    r"(?:con|prn|aux|nul|clock\$|conin\$|conout\$|(?:com|lpt)[0-9¹²³])\s*(?:\.|$)", re.IGNORECASE
)
_PARAMETER = re.compile(r';\s*([\w!#$%&+.^`|~*-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;"]*)', re.DOTALL)


def safe_name(proposed: str, *, fallback: str = "download") -> str:
    """One path component that any file system keeps as it is and no shell or terminal trips over.

    Args:
        proposed: A name from anywhere; not yet percent-decoded text stays as it is.
        fallback: What to use when nothing is left of `proposed`; made safe too.

    Returns:
        1 to 255 bytes of UTF-8 in NFC: no separator, drive, control or bidi character, no reserved Windows name, no
        trailing dot or space; a leading dot, dash or tilde gets "_" before it. Long names lose the end of their stem
        and keep their suffix. The result passes through unchanged.

    Source: Microsoft, "Naming Files, Paths, and Namespaces"; POSIX.1-2024 3.170 and 3.265.
    """
    return _clean(proposed) or _clean(fallback) or "download"


def name_from_url(url: str) -> str:
    """The safe name of the last path segment, percent-decoded once; "download" when the URL ends in a slash."""
    before_query = re.split(r"[?#]", url, maxsplit=1)[0]
    path = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/]*", "", before_query)
    return safe_name(unquote(path.rpartition("/")[2], errors="replace"))


def name_from_content_disposition(value: str) -> str | None:
    """The safe name a Content-Disposition field proposes, or None when it proposes none.

    `filename*` wins over `filename`; of a path only the last component counts, with either slash.

    Source: RFC 6266 sections 4.1 and 4.3; RFC 8187 for `filename*`.
    """
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(f";{value}"):
        found.setdefault(match[1].lower(), _unquoted(match[2].strip()))
    for proposed in (_extended(found.get("filename*", "")), found.get("filename", "")):
        name = _clean(re.split(r"[/\\]", proposed)[-1])
        if name:
            return name
    return None


def printable(text: str) -> str:
    r"""The text for a terminal or a log line: line breaks and tabs become spaces, other controls visible escapes.

    An escape sequence, a bidi override or a lone surrogate shows as `\x1b`, `\u202e`, `\udc80` and acts no more.
    """
    return text if text.isprintable() else _UNSEEN.sub(_escaped, text)  # none of these is printable


def distinct(name: str, taken: Container[str]) -> str:
    """The name, or "stem-2.suffix", "stem-3.suffix" ... when a file system might take it for one of `taken`.

    Args:
        name: A result of `safe_name`.
        taken: Names in use, `folded`: letter case and normalisation do not tell two names apart (NTFS, APFS).

    Returns:
        A name that `safe_name` would not change and that is none of `taken`.
    """
    candidate, number = name, 2
    while folded(candidate) in taken:
        candidate = _fitted(name, ending=f"-{number}")
        number += 1
    return candidate


def folded(name: str) -> str:
    """A key that is equal for names which some file system holds to be equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).upper().casefold())


def _clean(text: str) -> str:
    """What is left of a proposed name under the rules of `safe_name`, perhaps ""."""
    # both ends of a long text, for normalising a run of combining marks takes the square of its length
    seen = _UNSEEN.sub("", text[:_READ] + text[_READ:][-_READ:])
    name = _trimmed(_fitted(unicodedata.normalize("NFC", _FORBIDDEN.sub("_", seen)).lstrip()))
    if name[:1] in (".", "-", "~") or _RESERVED.match(name):
        name = _trimmed(_fitted(f"_{name}"))
    return name


def _trimmed(name: str) -> str:
    """The name without the dots and spaces at its end, which Windows would drop silently."""
    return name.rstrip(_BLANKS)


def _fitted(name: str, *, ending: str = "") -> str:
    """The name with `ending` after its stem, the stem cut so that all of it is at most `_LONGEST` bytes."""
    stem, dot, suffix = _trimmed(name).rpartition(".")
    if not stem or len(suffix.encode()) >= _LONGEST_SUFFIX:
        stem, dot, suffix = name, "", ""
    tail = f"{ending}{dot}{suffix}"
    return stem.encode()[: _LONGEST - len(tail.encode())].decode(errors="ignore") + tail


def _unquoted(value: str) -> str:
    """The value of a parameter: a quoted-string without its quotes and backslashes, or the token itself."""
    return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL) if value.startswith('"') else value


def _extended(value: str) -> str:
    """The text of an RFC 8187 ext-value such as "UTF-8''%e2%82%ac.bin", or "" when it is not one."""
    charset, _, rest = value.partition("'")
    _, quote, encoded = rest.partition("'")
    if not quote or charset.lower() not in ("utf-8", "iso-8859-1"):
        return ""
    return unquote(encoded, encoding=charset, errors="replace")


def _escaped(match: re.Match[str]) -> str:
    """A control character as a space or as a visible escape."""
    code = ord(match[0])
    if match[0] in "\t\n\r":
        return " "
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
