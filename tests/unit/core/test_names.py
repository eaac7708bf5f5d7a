"""Names from strangers become names that every file system keeps as they are."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bgfetch.core.names import (
    distinct,
    folded,
    name_from_content_disposition,
    name_from_url,
    printable,
    safe_name,
)

# Text dense in what names stumble over, beside any text at all.
HOSTILE = st.text(
    st.sampled_from(
        '/\\:*?"<>| .-_~aAoO0123nNuUlLcCpPrRmMtTxXß¹²³\x00\x1b\x7f\x85\n\u00e9e\u0301\u0338\u202e\u200b\u2028\ufeff\udc80\u3000'
    ),
    max_size=40,
)
PIECES = st.lists(
    st.sampled_from(
        ["CON", "nul", "COM1", "LPT¹", "..", ".", "/", "\\", "C:", " ", ".git", "-rf", "a" * 300, "é" * 130]
    )
).map("".join)
ANY = st.one_of(st.text(), HOSTILE, PIECES)


@pytest.mark.parametrize(
    ("proposed", "expected"),
    [
        ("model.gguf", "model.gguf"),
        ("Modèle 7B (Q4_K_M).gguf", "Modèle 7B (Q4_K_M).gguf"),
        ("模型.safetensors", "模型.safetensors"),
        ("re\u0301sume\u0301.bin", "r\u00e9sum\u00e9.bin"),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("..\\..\\boot.ini", "_.._.._boot.ini"),
        ("C:\\Windows\\win.ini", "C__Windows_win.ini"),
        ("\\\\server\\share\\x", "__server_share_x"),
        ("file.bin:stream", "file.bin_stream"),
        ('a*b?c"d<e>f|g', "a_b_c_d_e_f_g"),
        ("nul\x00byte.bin", "nulbyte.bin"),
        ("red\x1b[31m.bin", "red[31m.bin"),
        ("one\r\ntwo\ttab\x7f\x9b", "onetwotab"),
        ("gpj.\u202eexe", "gpj.exe"),
        ("in\u200bvis\ufeffible\u2066\U000e0041", "invisible"),
        ("lone\udc80.bin", "lone.bin"),
        ("line\u2028sep", "linesep"),
        (" padded .bin ", "padded .bin"),
        ("trailing. . .", "trailing"),
        ("wide\u3000\u00a0", "wide"),
        (".git", "_.git"),
        (".g\u200bit", "_.git"),
        ("-rf", "_-rf"),
        ("~root", "_~root"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("Aux .bin", "_Aux .bin"),
        ("com1", "_com1"),
        ("COM¹.bin", "_COM¹.bin"),
        ("lpt9.tar.gz", "_lpt9.tar.gz"),
        ("CONIN$", "_CONIN$"),
        ("cloc\u212a$", "_clocK$"),
        ("COM10", "COM10"),
        ("console", "console"),
        ("con-fig", "con-fig"),
        ("CON:", "CON_"),
        ("", "download"),
        (".", "download"),
        ("..", "download"),
        ("...", "download"),
        (" \t\n", "download"),
        ("\u202e\u200b", "download"),
        ("a" * 300, "a" * 255),
        ("a" * 300 + ".safetensors", "a" * 243 + ".safetensors"),
        ("é" * 200 + ".bin", "é" * 125 + ".bin"),
        ("😀" * 100 + ".bin", "😀" * 62 + ".bin"),
        ("a." + "b" * 300, "a." + "b" * 253),
        ("." * 10 + "x" * 300, "_" + "." * 10 + "x" * 244),
        ("CON" + " " * 300 + "x", "_CON"),
        ("a" * 251 + ". . . .bin", "a" * 251 + ".bin"),
    ],
)
def test_a_proposed_name_becomes_safe(proposed: str, expected: str) -> None:
    """POSIX and Windows rules hold on every platform, and good names stay as they are."""
    assert safe_name(proposed) == expected


@pytest.mark.parametrize(
    ("fallback", "expected"), [("model.bin", "model.bin"), ("../x", "_.._x"), ("..", "download")]
)
def test_the_fallback_is_made_safe_too(fallback: str, expected: str) -> None:
    """Where nothing is left of a name the fallback stands in, and it is trusted no more than the name."""
    assert safe_name("..", fallback=fallback) == expected


def check_safe(name: str) -> None:
    """Every promise of `safe_name` about its result."""
    assert name not in ("", ".", "..")
    assert not set(name) & set('/\\:*?"<>|')
    assert name.isprintable() or any(unicodedata.category(char) in ("Cn", "Co", "Zs", "Cf") for char in name)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name)
    assert not set(name) & set(
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u200b\ufeff"
    )
    assert len(name.encode()) <= 255
    assert unicodedata.is_normalized("NFC", name)
    assert name[0] not in ".-~ "
    assert name[-1] not in ". "
    assert name == name.strip()
    stem = name.partition(".")[0].rstrip().casefold()
    assert stem not in {
        "con",
        "prn",
        "aux",
        "nul",
        "com1",
        "com¹",
        "lpt1",
        "lpt³",
        "conin$",
        "conout$",
        "clock$",
    }
    assert safe_name(name) == name


@given(ANY)
@example("CON" + " " * 254)
@example("a" * 254 + "é")
@example(";\u0338")
@example("a\u200b\u0301")
def test_a_safe_name_keeps_every_promise(proposed: str) -> None:
    """Never empty, never a path, never reserved, never too long, and safe names pass unchanged."""
    check_safe(safe_name(proposed))


@given(st.text(min_size=1, max_size=400), st.from_regex(r"[a-z0-9]{1,30}", fullmatch=True))
def test_the_suffix_is_kept(stem: str, suffix: str) -> None:
    """However long the stem, the suffix tells what the file is."""
    assert safe_name(f"x{stem}.{suffix}").endswith(f".{suffix}")


def test_a_huge_name_costs_little() -> None:
    """A name of a million combining marks is cut before it is normalised, and keeps its suffix."""
    name = safe_name("a" + "\u0301\u0327" * 500_000 + ".gguf")
    assert name.endswith(".gguf")
    check_safe(name)
    check_safe(safe_name("a" + "." * 1_000_000 + "a"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host/a/model.gguf", "model.gguf"),
        ("https://host/a/model.gguf?download=true&x=/y.bin#/z.bin", "model.gguf"),
        ("https://host/a/my%20model.gguf", "my model.gguf"),
        ("https://host/a/m%25C3%25A9.bin", "m%C3%A9.bin"),
        ("https://host/a/%E6%A8%A1.bin", "模.bin"),
        ("https://host/a/%ff.bin", "\ufffd.bin"),
        ("https://host/..%2f..%2fetc%2fpasswd", "_.._.._etc_passwd"),
        ("https://host/%00%2e%2e", "download"),
        ("https://host/a/", "download"),
        ("https://host/", "download"),
        ("https://host.example", "download"),
        ("https://host.example?x=/y.bin", "download"),
        ("/path/file.bin", "file.bin"),
        ("file.bin", "file.bin"),
        ("https://host/a?b/c.bin", "a"),
    ],
)
def test_a_url_proposes_its_last_segment(url: str, expected: str) -> None:
    """Decoded once; neither host, query nor fragment is a name."""
    assert name_from_url(url) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('attachment; filename="model.gguf"', "model.gguf"),
        ("attachment; filename=model.gguf", "model.gguf"),
        ("inline;filename=model.gguf;size=3", "model.gguf"),
        ("filename=model.gguf", "model.gguf"),
        ('attachment; FileName = "a b.bin" ; x=y', "a b.bin"),
        ("attachment; filename=plain.bin; filename*=UTF-8''%e2%82%ac%20rates.bin", "€ rates.bin"),
        ("attachment; filename*=UTF-8''%e2%82%ac.bin; filename=plain.bin", "€.bin"),
        ("attachment; filename*=iso-8859-1'en'%A3.bin", "£.bin"),
        ("attachment; filename*=\"utf-8''x.bin\"", "x.bin"),
        ("attachment; filename*=koi8-r''%A3; filename=plain.bin", "plain.bin"),
        ("attachment; filename*=broken; filename=plain.bin", "plain.bin"),
        ("attachment; filename*=UTF-8''; filename=plain.bin", "plain.bin"),
        ("attachment; filename*=UTF-8''..%2F..%2Fx.bin", "x.bin"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\dir\\\\x.bin"', "x.bin"),
        ('attachment; filename="a\\"b.bin"', "a_b.bin"),
        ('attachment; filename="a;b=c.bin"', "a;b=c.bin"),
        ('attachment; x="; filename=evil"; filename=good.bin', "good.bin"),
        ("attachment; filename=first.bin; filename=second.bin", "first.bin"),
        ('attachment; filename=".bashrc"', "_.bashrc"),
        ("attachment", None),
        ("", None),
        ('attachment; filename=""', None),
        ('attachment; filename=".."', None),
        ('attachment; filename="dir/"', None),
        ('attachment; filename="unfinished', None),
    ],
)
def test_content_disposition_proposes_a_name(value: str, expected: str | None) -> None:
    """The extended form wins, a path counts by its last component only, nothing usable is None."""
    assert name_from_content_disposition(value) == expected


@given(
    st.text(),
    st.sampled_from(["", "attachment; filename=", "attachment; filename*=UTF-8''", 'a; filename="']),
)
def test_any_content_disposition_is_safe(value: str, start: str) -> None:
    """No field raises, and what comes out is None or safe."""
    name = name_from_content_disposition(start + value)
    if name is not None:
        check_safe(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Gemma 2B, modèle 模型 😀", "Gemma 2B, modèle 模型 😀"),
        ("two\r\nlines\tand tab", "two  lines and tab"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("\udc80", "\\udc80"),
        ("\U000e0041", "\\ue0041"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
    ],
)
def test_shown_text_does_not_act(text: str, expected: str) -> None:
    """Controls are seen, not obeyed; ordinary text stays."""
    assert printable(text) == expected


@given(ANY)
def test_shown_text_is_one_harmless_line(text: str) -> None:
    """No control, no bidi override, no surrogate is left, and doing it twice changes nothing."""
    shown = printable(text)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in shown)
    assert shown.encode().decode() == shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("name", "taken", "expected"),
    [
        ("model.bin", [], "model.bin"),
        ("model.bin", ["other.bin"], "model.bin"),
        ("model.bin", ["model.bin"], "model-2.bin"),
        ("Model.bin", ["mODEL.BIN", "model-2.bin"], "Model-3.bin"),
        ("stra\u00dfe", ["STRASSE"], "stra\u00dfe-2"),
        ("caf\u00e9", ["cafe\u0301"], "caf\u00e9-2"),
        ("k", ["\u212a"], "k-2"),
        ("README", ["readme"], "README-2"),
        ("a.tar.gz", ["A.TAR.GZ"], "a.tar-2.gz"),
        ("a" * 251 + ".bin", ["a" * 251 + ".bin"], "a" * 249 + "-2.bin"),
        ("é" * 127, ["é" * 127], "é" * 126 + "-2"),
    ],
)
def test_equal_names_are_told_apart(name: str, taken: list[str], expected: str) -> None:
    """Letter case and normalisation do not make two names different; a number before the suffix does."""
    assert distinct(name, {folded(other) for other in taken}) == expected


@given(st.lists(ANY, max_size=12))
def test_no_two_files_overwrite_each_other(proposals: list[str]) -> None:
    """Whatever is proposed, all names are safe and differ after case-folding."""
    taken: list[str] = []
    for proposed in proposals:
        name = distinct(safe_name(proposed), {folded(other) for other in taken})
        check_safe(name)
        taken.append(name)
    assert len({unicodedata.normalize("NFC", name.casefold()) for name in taken}) == len(taken)
    assert len({name.upper() for name in taken}) == len(taken)
