"""The model server where people put it: in FastAPI, in Flask through an adapter, and in the example's Starlette application."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from tests.asgi import curl, serving

from bgfetch.web import ModelServer

ROOT = Path(__file__).resolve().parents[2]
BODY = os.urandom(3_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One model."""
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "models" / "m" / "a.bin").write_bytes(BODY)
    return tmp_path / "models"


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def wsgi(application: Any) -> Iterator[str]:
    """A WSGI application's URL while the block lasts."""
    with make_server("127.0.0.1", 0, application, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def check(url: str) -> None:
    """The app's page and the models under it: whole, parts, conditions and the manifest come through as they are."""
    assert curl(f"{url}/").body == b"the app's own page"
    whole = curl(f"{url}/models/m/a.bin")
    assert (whole.status, whole.body) == (200, BODY)
    assert whole.headers["etag"] == f'"{SHA256}"'
    part = curl(f"{url}/models/m/a.bin", "-r", "5-9", "-H", f'If-Range: "{SHA256}"')
    assert (part.status, part.body) == (206, BODY[5:10])
    assert curl(f"{url}/models/m/a.bin", "-H", f'If-None-Match: "{SHA256}"').status == 304
    assert curl(f"{url}/models/m/a.bin", "-r", "99999999-").status == 416
    assert curl(f"{url}/models/m/manifest.json").status == 200
    assert curl(f"{url}/models/../m/a.bin").status == 404


def test_flask(folder: Path) -> None:
    """As docs/web-server.md has it, through an adapter."""
    from a2wsgi import ASGIMiddleware
    from flask import Flask
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    models = ModelServer(folder, index=None)
    assert models.wait_hashed(10)
    app = Flask(__name__)
    app.route("/")(lambda: "the app's own page")
    with wsgi(DispatcherMiddleware(app.wsgi_app, {"/models": ASGIMiddleware(models)})) as url:  # type: ignore[dict-item]
        check(url)
    models.close()


def test_fastapi(folder: Path) -> None:
    """As docs/browser.md has it for Starlette; the app's own routes and its OpenAPI document are as before."""
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    models = ModelServer(folder, index=None)
    assert models.wait_hashed(10)
    app = FastAPI()
    app.get("/", response_class=PlainTextResponse)(lambda: "the app's own page")
    app.mount("/models", models)
    with serving(app) as url:
        check(url)
        assert b"/models" not in curl(f"{url}/openapi.json").body
    models.close()


def test_the_example(folder: Path, tmp_path: Path) -> None:
    """examples/04_serve.py serves a folder and the kit from an application of one's own."""
    with subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "04_serve.py"), str(folder), "0"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "BGFETCH_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            got = curl(f"{url}/models/m/a.bin", "-r", "5-9")
            assert (got.status, got.body) == (206, BODY[5:10])
            assert curl(f"{url}/bgfetch/polyfill.js").status in (200, 404)  # 404 until the kit has it
            assert b"/models/m/manifest.json" in curl(url).body
        finally:
            process.terminate()
            process.communicate(timeout=10)
