"""What a body is, told by its first bytes, and whether that can be what was asked for.

The rule: content decides, not a name; a kind is named only when it is certain; work is bounded by 1 KiB.
"""

from __future__ import annotations

import re
from typing import Final

from bgfetch.core.model import Fault
from bgfetch.core.names import printable

__all__ = ["refusal", "sniff"]

_LOOKED_AT: Final = 1024  # bytes; a page's doctype and an ONNX producer's name come well before
_LONGEST_SAFETENSORS_HEADER: Final = 100_000_000  # bytes; the limit of the safetensors library itself

_MAGIC: Final = (
    (0, b"GGUF", "gguf"),
    (4, b"TFL3", "tflite"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"PK\x07\x08", "zip"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (512, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"\x1f\x8b\x08", "gzip"),
)
# Never a page. Not gzip: that may be a page under a Content-Encoding nobody asked for.
_BINARY: Final = frozenset({"gguf", "safetensors", "onnx", "zip", "tflite", "pickle", "hdf5"})

_PICKLE: Final = re.compile(rb"\x80[\x02-\x05]")  # PROTO 2 to 5; older ones have no mark
_PROLOGUE: Final = re.compile(rb"\s*(?:<!--.*?-->|<\?xml.*?\?>)", re.DOTALL)
_HTML: Final = re.compile(  # the tags of WHATWG MIME Sniffing 7.1, and <meta
    rb"\s*<(?:(?:!doctype\s+html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|meta)[\s>/]|!--)",
    re.IGNORECASE,
)
_JSON: Final = re.compile(rb'\s*(?:\{\s*["}]|\[\s*(?:[\[{"\]\d-]|true|false|null))')

_PAGE_TYPES: Final = ("text/html", "application/xhtml+xml")
_PAGE_SUFFIXES: Final = frozenset({"html", "htm", "xhtml"})
# Text that rightly starts with a tag (a README with <p align=center>) or that careless servers call text/html.
_TEXT_SUFFIXES: Final = frozenset(
    {
        "",
        "cfg",
        "css",
        "csv",
        "jinja",
        "jinja2",
        "js",
        "json",
        "jsonl",
        "md",
        "markdown",
        "mjs",
        "py",
        "rst",
        "svg",
    }
    | {"tex", "toml", "tsv", "txt", "vue", "xml", "yaml", "yml"}
)
_SUFFIX: Final = re.compile(r"[^/]\.([a-z0-9_]*[a-z][a-z0-9_]*)\Z")  # the "1" of "llama-3.1" is none


def sniff(first_bytes: bytes) -> str:
    """The kind of a body: "gguf", "safetensors", "onnx", "zip", "tflite", "pickle", "hdf5", "gzip", "html", "xml",
    "json", or "" when the bytes do not tell.

    Args:
        first_bytes: From offset 0; only the first 1024 are looked at.

    Source: GGUF specification; safetensors README, "Format"; onnx.proto, ModelProto; WHATWG MIME Sniffing 7.1.
    """
    head = first_bytes[:_LOOKED_AT]
    for offset, magic, kind in _MAGIC:
        if head.startswith(magic, offset):
            return kind
    if _is_safetensors(head):  # before pickle: a header of 640 bytes starts with 80 02
        return "safetensors"
    if _PICKLE.match(head):
        return "pickle"
    return "onnx" if _is_onnx(head) else _text_kind(head)


def refusal(first_bytes: bytes, content_type: str, *, asked: str) -> Fault | None:
    """Why this body cannot be what was asked for, or None: a web page in place of a file.

    A page is refused where a binary was asked when either the type or the bytes say page; where the URL's path has no
    suffix, or that of a text, only when both do. Bytes that are a known binary are never a page, whatever a careless
    server calls them. Who asks for .html gets it. Trying again may help: a portal goes away after the login.

    Args:
        first_bytes: From offset 0 of the body; perhaps none yet.
        content_type: The field's value, or "".
        asked: The path of the URL that was asked first, or the URL.
    """
    path = re.split(r"[?#]", asked, maxsplit=1)[0]
    match = _SUFFIX.search(path.lower())
    suffix = match[1] if match else ""
    kind = sniff(first_bytes)
    if suffix in _PAGE_SUFFIXES or kind in _BINARY:
        return None
    signs = (content_type.partition(";")[0].strip().lower() in _PAGE_TYPES, kind == "html")
    if not (all(signs) if suffix in _TEXT_SUFFIXES else any(signs)):
        return None
    name = printable(path.rpartition("/")[2])[:100] or "the file"
    return Fault(
        "not-the-file", f"HTML page instead of {name}: a captive portal or login page?", transient=True
    )


def _is_safetensors(head: bytes) -> bool:
    """A sane little-endian length of the header, then a JSON object."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _LONGEST_SAFETENSORS_HEADER


def _text_kind(head: bytes) -> str:
    """The kind of a text, or "" when it is none of "html", "xml" and "json"."""
    text = head.removeprefix(b"\xef\xbb\xbf")
    declared = text.lstrip().startswith(b"<?xml")
    position = 0
    while prologue := _PROLOGUE.match(text, position):
        position = prologue.end()
    if _HTML.match(text, position):
        return "html"
    if declared:
        return "xml"
    return "json" if _JSON.match(text) else ""


def _is_onnx(head: bytes) -> bool:
    """Whether this is a protobuf that reads as ModelProto up to its graph; certain or False.

    Expects ir_version, then only text fields (producer, domain, documentation) and integers in rising order of field
    numbers, as every serializer writes them, then a graph whose first field is one that GraphProto has.
    """
    if head[:1] != b"\x08" or not head[1:2] or not 1 <= head[1] <= 32:
        return False
    position, last = 2, 1
    while position < len(head):
        field, wire = head[position] >> 3, head[position] & 7
        length, start = _varint(head, position + 1)
        if not last < field <= 7 or start < 0:
            return False
        if (field, wire) == (7, 2):
            return length > 0 and head[start : start + 1] in (
                b"\x0a",
                b"\x12",
                b"\x2a",
                b"\x52",
                b"\x5a",
                b"\x62",
            )
        if field == 5 and wire == 0:  # model_version
            position = start
        elif wire == 2 and field != 5 and _is_text(head[start : start + length]):
            position = start + length
        else:
            return False
        last = field
    return False


def _is_text(text: bytes) -> bool:
    """Whether these bytes hold no control characters; UTF-8 is not checked, for it may be cut."""
    return all(byte >= 0x20 or byte in b"\t\n\r" for byte in text)


def _varint(head: bytes, position: int) -> tuple[int, int]:
    """A protobuf varint and where it ends, or (0, -1) when it does not end in time."""
    value = 0
    for index, byte in enumerate(head[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    return 0, -1
