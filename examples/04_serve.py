"""Models for browsers from an application of your own: `python examples/04_serve.py FOLDER [PORT]`.

In FastAPI the two `mount` lines are the same. `bgfetch serve FOLDER` does all of this from the shell.
"""

import asyncio
import html
import socket
import sys
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse

import bgfetch.web

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Models</title>
<script type="module" src="/bgfetch/element.js"></script><h1>Models</h1>
"""


async def index(_request: Request) -> HTMLResponse:
    """One button for each model: the browser downloads it in the background, resumes it and verifies it."""
    folders = ["/".join(parts) for parts in await asyncio.to_thread(models.folders)]
    buttons = [
        f'<model-download name="{html.escape(folder or "models")}" '
        f'manifest="/models/{quote(f"{folder}/" if folder else "")}manifest.json"></model-download>'
        for folder in folders
    ]
    return HTMLResponse(PAGE + "\n".join(buttons))


models = bgfetch.web.ModelServer(sys.argv[1])
app = Starlette()
app.mount("/models", models)
app.mount("/bgfetch", bgfetch.web.Kit())
app.add_route("/", index)

if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", int((*sys.argv[2:], "8000")[0])))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
