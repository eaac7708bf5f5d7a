"""Bodies are known by their first bytes, and a web page is not taken for a model."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.model import FailureReason
from bgfetch.core.sniff import refusal, sniff


def safetensors(header: bytes) -> bytes:
    """A safetensors file's first bytes."""
    return struct.pack("<Q", len(header)) + header


def zipped() -> bytes:
    """A small zip archive, which is what torch.save writes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", "x")
    return out.getvalue()


ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0\x3a\xad\x02\x0a\x20\x0a\x05input"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"


@pytest.mark.parametrize(
    ("first_bytes", "kind"),
    [
        (b"GGUF\x03\x00\x00\x00", "gguf"),
        (safetensors(b'{"__metadata__":{}}'), "safetensors"),
        (safetensors(b"{" + b" " * 639), "safetensors"),  # begins 80 02, as a pickle does
        (safetensors(b"{}"), "safetensors"),
        (struct.pack("<Q", 1) + b"{", ""),
        (struct.pack("<Q", 100_000_001) + b"{", ""),
        (struct.pack("<Q", 100) + b"[", ""),
        (struct.pack("<Q", 100), ""),
        (b"\x1c\x00\x00\x00TFL3\x14\x00", "tflite"),
        (zipped(), "zip"),
        (b"PK\x05\x06" + bytes(18), "zip"),
        (b"PK\x07\x08", "zip"),
        (b"PK", ""),
        (b"\x89HDF\r\n\x1a\n", "hdf5"),
        (bytes(512) + b"\x89HDF\r\n\x1a\n", "hdf5"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        *[(pickle.dumps({"a": 1}, protocol=protocol), "pickle") for protocol in (2, 3, 4, 5)],
        (pickle.dumps({"a": 1}, protocol=0), ""),
        (b"\x80\x06", ""),
        (b"\x80", ""),
        (ONNX, "onnx"),
        (b"\x08\x03\x3a\x05\x0a\x03\x0a\x01x", "onnx"),  # no producer, straight to the graph
        (b"\x08\x07\x12\x00\x28\x01\x32\x02ok\x3a\x10\x12\x04main", "onnx"),  # model_version, doc_string
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", ""),  # the graph is out of sight
        (b"\x08\x08\x12\x07pytorch\x42\x02\x10\x11", ""),  # no graph before opset_import
        (b"\x08\x08\x12\x07py\x00orch\x3a\x05\x0a\x03", ""),  # a name is text
        (b"\x08\x01\x12\xc8\x01\x0a\x10\x0a\x06\x12\x05", ""),  # a TensorFlow SavedModel: messages, not text
        (b"\x08\x08\x3a\x05\x08\x01", ""),  # GraphProto has no integer first
        (b"\x08\x08\x3a\x00", ""),
        (b"\x08\x08\x1a\x01a\x12\x01b\x3a\x05\x0a", ""),  # falling field numbers
        (b"\x08\x08\x12" + b"\xff" * 12, ""),  # a length without an end
        (b"\x08\x08\x2a\x01a\x3a\x05\x0a", ""),  # model_version is an integer
        (b"\x08\x08\x10\x01\x3a\x05\x0a", ""),  # producer_name is none
        (b"\x08\x00\x3a\x05\x0a", ""),
        (b"\x08\x21\x3a\x05\x0a", ""),
        (b"\x08\x08", ""),
        (b"\x08", ""),
        (PAGE, "html"),
        (b"\xef\xbb\xbf\r\n  <HTML lang=en>", "html"),
        (b"<!-- saved --><html>", "html"),
        (b"<!-- a --> <!-- b -->\n<body>", "html"),
        (b"<!-- a comment that never ends", "html"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">', "html"),
        (b"<script>location='/login'</script>", "html"),
        (b"<p align=center>", "html"),
        (b"<!-- note -->\n# A README", ""),
        (b"<pre>", ""),
        (b"<html", ""),  # cut short: not certain
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "xml"),
        (b"<svg>", ""),
        (b'{"error": "not found"}', "json"),
        (b" \n{}", "json"),
        (b"[1, 2]", "json"),
        (b'[{"a":1}]', "json"),
        (b"[null]", "json"),
        (b"[section]", ""),
        (b"{braces}", ""),
        (b"# A README", ""),
        (b"version https://git-lfs.github.com/spec/v1\n", ""),
        (b"\x00" * 64, ""),
        (b"", ""),
    ],
)
def test_a_kind_is_named_when_it_is_certain(first_bytes: bytes, kind: str) -> None:
    """Each known kind by its mark, nothing by a likeness."""
    assert sniff(first_bytes) == kind


@given(
    st.binary(max_size=80),
    st.sampled_from([b"", b"\x08\x08", b"\x08\x08\x12\x07pytorch", b"<!--", b"<?xml", b"{"]),
)
def test_any_bytes_have_a_kind(tail: bytes, start: bytes) -> None:
    """Nothing raises, and what lies beyond 1 KiB changes nothing."""
    head = start + tail
    kind = sniff(head)
    assert kind in {
        "gguf",
        "safetensors",
        "onnx",
        "zip",
        "tflite",
        "pickle",
        "hdf5",
        "gzip",
        "html",
        "xml",
        "json",
        "",
    }
    padded = head.ljust(1024, b"\x00")
    assert sniff(padded + tail) == sniff(padded)


def test_many_comments_cost_little() -> None:
    """A kilobyte of comments is read once, not in every way it could be cut."""
    assert sniff(b"<!---->" * 10_000) == ""
    assert sniff(b"<!--->" * 10_000) in {"", "html"}


@pytest.mark.parametrize(
    ("asked", "content_type", "first_bytes", "refused"),
    [
        ("/m/model.gguf", "text/html", PAGE, True),
        ("/m/model.gguf", "text/html; charset=utf-8", b"", True),
        ("/m/model.gguf", "TEXT/HTML", b"\x00\x01", True),
        ("/m/model.gguf", "application/xhtml+xml", b"", True),
        ("/m/model.gguf", "application/octet-stream", PAGE, True),
        ("/m/model.gguf", "", PAGE, True),
        ("/m/model.gguf", "text/html", b"GGUF\x03\x00\x00\x00", False),
        ("/m/model.pt", "text/html", zipped(), False),
        ("/m/model.gguf", "text/html", b"\x1f\x8b\x08\x00", True),
        ("/m/model.gguf", "application/octet-stream", b"GGUF\x03", False),
        ("/m/model.gguf", "application/octet-stream", b"", False),
        ("/m/model.gguf", "text/plain", b"{}", False),
        ("https://host/m/model.bin?x=/y.html#z.html", "text/html", PAGE, True),
        ("/a.html", "text/html", PAGE, False),
        ("/A.HTM", "text/html", PAGE, False),
        ("/a.xhtml?x", "application/xhtml+xml", PAGE, False),
        # no suffix: both must say page
        ("/api/download", "text/html", PAGE, True),
        ("/api/download", "text/html", b"\x00\x01", False),
        ("/api/download", "application/octet-stream", PAGE, False),
        ("/llama-3.1", "application/octet-stream", PAGE, False),
        ("/.hidden", "text/html", b"", False),
        ("/", "text/html", PAGE, True),
        ("", "text/html", PAGE, True),
        # texts may start with a tag
        ("/README.md", "text/plain; charset=utf-8", b"<p align=center>", False),
        ("/README.md", "text/html", PAGE, True),
        ("/config.json", "text/html", b'{"a": 1}', False),
        ("/config.json", "text/html", PAGE, True),
        ("/chat_template.jinja", "", b"<!-- x", False),
    ],
)
def test_a_page_is_not_a_model(asked: str, content_type: str, first_bytes: bytes, *, refused: bool) -> None:
    """A portal's page is refused, the page somebody asked for is not, nor a model under a careless type."""
    fault = refusal(first_bytes, content_type, asked=asked)
    assert (fault is not None) is refused


def test_the_refusal_says_what_to_think_of() -> None:
    """It names the file, not the query, guesses the cause, and may be tried again."""
    fault = refusal(PAGE, "text/html", asked="/m/mo\x1bdel.gguf?token=hunter2")
    assert fault is not None
    assert fault.kind == "not-the-file"
    assert fault.detail == "HTML page instead of mo\\x1bdel.gguf: a captive portal or login page?"
    assert fault.transient
    assert fault.reason is FailureReason.FETCH_ERROR
    nameless = refusal(PAGE, "text/html", asked="/")
    assert nameless is not None
    assert "instead of the file:" in nameless.detail
