"""`bgfetch serve`: a process of its own, asked with curl."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.asgi import curl
from tests.command import Command

from bgfetch.testing import OriginServer

BODY = random.Random(3).randbytes(60 << 20)  # more than what is always copied at the end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models, one of them with a name that would be markup."""
    root = tmp_path / "models"
    for name in ("minilm/model.onnx", "a&'b/config.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"{}")
    return root


@contextmanager
def serve(home: Path, *arguments: str | Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its URL and process; it is ended as by Ctrl-C, and must end well."""
    with Command(home).start("serve", "-p", "0", *arguments) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=10)
    assert process.returncode == 0, said


def test_models_kit_and_no_list(tmp_path: Path, folder: Path) -> None:
    """Models and kit are where the kit's contract says; nothing lists the models unless asked."""
    with serve(tmp_path / "home", folder) as (url, _):
        assert url.startswith("http://127.0.0.1:")
        assert curl(f"{url}models/minilm/model.onnx").body == b"{}"
        root = curl(url)
        assert (root.status, b"minilm" in root.body) == (200, False)


def test_the_page_offers_each_model(tmp_path: Path, folder: Path) -> None:
    """With --index there is one element a folder, isolated and under a strict policy; names are never markup."""
    with serve(tmp_path / "home", folder, "--index") as (url, _):
        page = curl(url)
    text = page.body.decode()
    assert '<model-download name="minilm" manifest="/models/minilm/manifest.json">' in text
    assert 'name="a&amp;&#x27;b" manifest="/models/a%26%27b/manifest.json"' in text
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    assert page.headers["cross-origin-embedder-policy"] == "require-corp"
    assert "unsafe" not in page.headers["content-security-policy"]


def test_only_for_this_machine(tmp_path: Path, folder: Path) -> None:
    """A page elsewhere whose name was made to lead to loopback gets nothing."""
    with serve(tmp_path / "home", folder) as (url, _):
        for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:8080", ""):
            got = curl(f"{url}models/minilm/model.onnx", "-H", f"Host: {host}" if host else "Host;")
            assert got.status in (400, 421), host
        port = url.rstrip("/").rpartition(":")[2]
        assert curl(f"{url}models/minilm/model.onnx", "-H", f"Host: localhost:{port}").status == 200


def test_whole_and_in_parts(tmp_path: Path, folder: Path) -> None:
    """What goes past the transport is the file, whole and in parts, and the connection goes on after it."""
    (folder / "big.bin").write_bytes(BODY)
    with serve(tmp_path / "home", folder) as (url, _):
        got = curl(f"{url}models/big.bin", "-o", "/dev/null", f"{url}models/big.bin", "-r", "1000-59000000")
        assert got.code == 0
        target = tmp_path / "out"
        command = ["curl", "-s", "--noproxy", "*", f"{url}models/big.bin", "-o", str(target), "-w", "%{num_connects}",
                   "--next", "-s", "-r", "7-", f"{url}models/big.bin", "-o", f"{target}2", "-w", "%{num_connects}"]  # fmt: skip
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"10"
    assert target.read_bytes() == BODY
    assert Path(f"{target}2").read_bytes() == BODY[7:]


def test_json_tells_url_and_hashing(tmp_path: Path, folder: Path) -> None:
    """A program reads where it is, and when all is hashed; what is hashed is remembered."""
    for _ in range(2):
        with serve(tmp_path / "home", folder, "--json") as (line, process):
            told: dict[str, Any] = json.loads(line)
            assert curl(f"{told['models']}minilm/model.onnx").status == 200
            assert process.stdout is not None
            while not json.loads(process.stdout.readline()).get("hashed"):
                pass
            got = curl(f"{told['models']}minilm/manifest.json")
            assert got.status == 200
    assert (tmp_path / "home" / "state" / "web.sqlite3").exists()
    assert not [path for path in folder.rglob("*") if path.suffix == ".sqlite3"]


def test_the_cache(tmp_path: Path) -> None:
    """--cache gives out what `get` has stored, under a path made of its URL, with the digest known since then."""
    home, body = tmp_path / "home", BODY[:100_000]
    with OriginServer({"/m/llm.gguf": body}) as origin:
        assert Command(home)("get", "-q", origin.url, "--sha256", _sha256(body)).code == 0
        host = origin.url.split("/")[2].replace(":", "_")
    with serve(home, "--cache") as (url, _):
        got = curl(f"{url}models/{host}/m/llm.gguf")
        assert (got.status, got.body) == (200, body)
        assert got.headers["etag"] == f'"{_sha256(body)}"'
        assert curl(f"{url}models/{host}/m/other.gguf").status == 404


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what to serve"),
        ((".", "--cache"), "say what to serve"),
        ((".", "--host", "192.0.2.1"), "cannot listen on 192.0.2.1"),
        ((".", "--tls-key", sys.executable), "needs both"),
    ],
)
def test_what_cannot_work(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """Said in words, with the code for a usage that can never work."""
    said = Command(tmp_path)("serve", *arguments)
    assert said.code == 2
    assert words in said.err


def test_tls(tmp_path: Path, folder: Path) -> None:
    """With a certificate and its key it speaks https, and gives the same bytes."""
    certificates = Path(__file__).resolve().parents[1] / "bench" / "certificate.py"
    subprocess.run([sys.executable, str(certificates), str(tmp_path)], check=True)
    (folder / "big.bin").write_bytes(BODY[: 3 << 20])
    keys = ("--tls-cert", tmp_path / "server.pem", "--tls-key", tmp_path / "server.key")
    with serve(tmp_path / "home", folder, *keys) as (url, _):
        assert url.startswith("https://127.0.0.1:")
        got = curl(f"{url}models/big.bin", "--cacert", str(tmp_path / "ca.pem"))
        assert (got.code, got.status, got.body) == (0, 200, BODY[: 3 << 20])


def test_a_warning_without_tls(tmp_path: Path, folder: Path) -> None:
    """Who lets other machines in without TLS is told what that means."""
    with Command(tmp_path).start("serve", "-p", "0", "--host", "0.0.0.0", folder) as process:  # noqa: S104 - the point
        assert process.stderr is not None
        assert "without TLS" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
