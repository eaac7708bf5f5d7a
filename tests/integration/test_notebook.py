"""Progress below a cell, in a real kernel: replaced in its place, or a widget where somebody installed ipywidgets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bgfetch.testing import OriginServer

pytestmark = [
    pytest.mark.slow,  # a kernel takes seconds to begin
    pytest.mark.filterwarnings("ignore"),  # of the kernel's own packages
    pytest.mark.skipif(
        not all(map(find_spec, ("ipykernel", "jupyter_client"))),
        reason="a kernel is installed with the group `notebook` only",
    ),
]

_SIZE = 3 << 20
_WITHOUT_WIDGETS = "import sys; sys.modules['ipywidgets'] = None"


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Any]:
    """A client of a kernel that has begun; fetches run in the kernel's own process."""
    from jupyter_client.manager import (  # type: ignore[import-not-found,unused-ignore]
        start_new_kernel,
    )

    root = Path(__file__).resolve().parents[2]
    environ = {
        **os.environ,
        "PYTHONPATH": str(root / "src"),
        "BGFETCH_HOME": str(tmp_path),
        "BGFETCH_IN_PROCESS": "1",
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    manager, client = start_new_kernel(kernel_name="python3", env=environ)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def told(client: Any, code: str) -> list[dict[str, Any]]:
    """The messages a page would draw while this cell runs."""
    messages: list[dict[str, Any]] = []
    reply = client.execute_interactive(code, timeout=30.0, output_hook=messages.append)
    assert reply["content"]["status"] == "ok", reply["content"]
    return messages


def test_text_is_replaced_in_its_place(kernel: Any) -> None:
    """One line below the cell, whatever happens: it is displayed once and then changed, to its end."""
    with OriginServer({"/model.gguf": b"x" * _SIZE}, rate=2e6) as server:
        messages = told(
            kernel, f"{_WITHOUT_WIDGETS}\nimport bgfetch\nbgfetch.get({server.url!r}).stat().st_size"
        )
    displayed = [it["content"] for it in messages if it["msg_type"] == "display_data"]
    changed = [it["content"] for it in messages if it["msg_type"] == "update_display_data"]
    assert len(displayed) == 1
    place = displayed[0]["transient"]["display_id"]
    assert {it["transient"]["display_id"] for it in changed} == {place}
    texts = [it["data"]["text/plain"] for it in changed]
    assert len(texts) > 3
    assert all(text.startswith("model.gguf: ") for text in texts)
    assert "100%" in texts[-1]
    assert not [it for it in messages if it["msg_type"] in ("stream", "error")]
    (result,) = [it["content"] for it in messages if it["msg_type"] == "execute_result"]
    assert result["data"]["text/plain"] == str(_SIZE)


@pytest.mark.skipif(find_spec("ipywidgets") is None, reason="ipywidgets is not installed")
def test_a_widget_where_there_are_widgets(kernel: Any) -> None:
    """A bar is shown once, moves, and ends full."""
    with OriginServer({"/model.gguf": b"x" * _SIZE}, rate=2e6) as server:
        messages = told(kernel, f"import bgfetch\nbgfetch.get({server.url!r})")
    (displayed,) = [it["content"] for it in messages if it["msg_type"] == "display_data"]
    assert "application/vnd.jupyter.widget-view+json" in displayed["data"]
    states = [it["content"]["data"].get("state", {}) for it in messages if it["msg_type"] == "comm_msg"]
    shares = [state["value"] for state in states if isinstance(state.get("value"), float)]
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
