"""Names from URLs: an attack table, and what is left must be a plain name below the folder."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.web.paths import parts_of, url_path

ATTACKS = [
    "/..", "/../x", "/a/../b", "/a/..", "/./a", "/a/./b", "/a//b", "//etc/passwd", "/a/...", "/.git/config", "/a/.env", "/.",
    "/..\\x", "/a\\b", "/\\\\host\\share", "/C:/x", "/C:", "/a:stream", "/a\x00b", "/a\x00", "/\x00", "/a\nb", "/a\x7fb",
    "/a\u202eb", "/a\u200bb", "/NUL", "/nul.txt", "/CON", "/com1.bin", "/COM¹", "/aux .bin", "/lpt9", "/CONIN$",
    "/a.", "/a ", "/a. ", "/ a", "/~root", "/-rf", "/a?b", "/a*b", "/a|b", '/a"b', "/a<b", "/\ud800",
    "/" + "a" * 256, "/" + "a/" * 100, "/" + "ab/" * 3000, "/e\u0301",
]  # fmt: skip


@pytest.mark.parametrize("path", ATTACKS, ids=range(len(ATTACKS)))
def test_attacks_are_no_names(path: str) -> None:
    """None of these means a file: parents, dotfiles, drives, streams, devices, controls, what is no NFC, what is too long."""
    assert parts_of(path) is None


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("", ()),
        ("/", ()),
        ("/a", ("a",)),
        ("a/b", ("a", "b")),
        ("/onnx/model.onnx", ("onnx", "model.onnx")),
        ("/folder/", ("folder",)),
        ("/a b/ü-模型.gguf", ("a b", "ü-模型.gguf")),
        ("/100%2e%2e", ("100%2e%2e",)),  # decoded once already: what is left of an escape is a name
    ],
)
def test_names(path: str, parts: tuple[str, ...]) -> None:
    """Ordinary names pass, those with blanks and of every script too."""
    assert parts_of(path) == parts


@given(st.text(max_size=60))
def test_whatever_passes_stays_below_on_every_platform(path: str) -> None:
    """No text becomes parts that lead up, are absolute or name a drive, on POSIX or on Windows."""
    parts = parts_of(path)
    if not parts:
        return
    assert PurePosixPath("/r").joinpath(*parts).parts == ("/", "r", *parts)
    windows = PureWindowsPath("R:/r").joinpath(*parts)
    assert windows.parts == ("R:\\", "r", *parts)
    assert not any(PureWindowsPath(part).drive or part in (".", "..") for part in parts)


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4))
def test_urls_lead_back(names: list[str]) -> None:
    """The relative URL of a name, resolved by a browser's rules and decoded, is that name again."""
    parts = parts_of("/".join(names))
    if parts:
        url = urlsplit(urljoin("http://h/models/manifest.json", url_path(parts)))
        assert (url.netloc, url.query, url.fragment) == ("h", "", "")
        assert parts_of(unquote(url.path.removeprefix("/models"))) == parts
