"""Applications and a daemon that they started: what they see of it, and what of it outlives them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import DaemonProcess, stop
from tests.waiting import has_ended, reached

import bgfetch
import bgfetch.blocking
from bgfetch.api import App
from bgfetch.config import load
from bgfetch.testing import OriginServer
from bgfetch.wiring import Wiring

SIZE = 3 << 20
_SCRIPT = """
import bgfetch.blocking
with bgfetch.blocking.connect() as wait:
    wait(wait.app.background_fetch.fetch("m", bgfetch.Request({url!r}, integrity="sha256:{sha256}")))
"""


@pytest.fixture
def home(idle: DaemonProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[DaemonProcess]:
    """A home in which whoever needs a daemon starts it; it is ended with the test."""
    monkeypatch.delenv("BGFETCH_IN_PROCESS")
    for name, value in idle.settings.items():
        monkeypatch.setenv(name, value)
    yield idle
    wiring = Wiring(load())
    stop(wiring)
    wiring.close()


def pid_of(home: DaemonProcess) -> int:
    """The process of the daemon."""
    return home.connection.hello().pid


def kill(home: DaemonProcess) -> None:
    """End the daemon as the power does."""
    pid = pid_of(home)
    os.kill(pid, signal.SIGKILL)
    assert has_ended(pid)


def holds(home: DaemonProcess, count: int) -> bool:
    """Whether the store knows of more than so many bytes."""
    with home.store() as store:
        return store.listing()[0].downloaded > count


def test_get_is_answered_by_a_daemon_that_goes_on(home: DaemonProcess, server: OriginServer) -> None:
    """The blocking call gives the file; who fetched it is another process, which stays."""
    assert bgfetch.get(server.url).read_bytes() == server.content.read()
    assert pid_of(home) != os.getpid()
    asked = len(server.requests)
    bgfetch.get(server.url)
    assert len(server.requests) == asked, "it was fetched twice"


@pytest.mark.usefixtures("home")
def test_the_same_registration_is_one_object_and_its_attributes_follow(server: OriginServer) -> None:
    """Within a connection `get` gives the object that `fetch` gave, and that says how it stands now."""
    server.rate = 1.5e6

    async def story() -> None:
        async with bgfetch.connect("app") as app:
            made = await app.background_fetch.fetch("m", server.url, title="Model")
            assert await app.background_fetch.get("m") is made
            assert await app.background_fetch.get_ids() == ["m"]
            seen = [progress async for progress in made]
            assert any(0 < progress.downloaded < progress.download_total for progress in seen)
            assert any(progress.rate > 0 for progress in seen)
            assert seen[-1].result is bgfetch.Result.SUCCESS
            assert made.state is bgfetch.State.SETTLED
            assert (made.downloaded, made.failure_reason) == (SIZE, "")
            found = await app.caches.match(server.url)
            assert found is not None

    asyncio.run(story())


def test_no_progress_is_missed_between_get_and_listening(home: DaemonProcess, server: OriginServer) -> None:
    """Whoever begins to listen after it has settled is told that it has, and how."""

    async def story() -> None:
        async with bgfetch.connect("app") as app:
            made = await app.background_fetch.fetch("m", server.url)
            await asyncio.to_thread(home.settled, made.uid)
            (last,) = [progress async for progress in made]
            assert last.result is bgfetch.Result.SUCCESS

    asyncio.run(story())


def test_listening_goes_on_when_the_daemon_is_killed(home: DaemonProcess, server: OriginServer) -> None:
    """An application notices nothing but that it took longer, and its secret header is said again."""
    server.rate = 1e6

    async def story() -> None:
        async with bgfetch.connect("app") as app:
            request = bgfetch.Request(
                server.url, headers=bgfetch.Headers([("Authorization", "Bearer canary")])
            )
            made = await app.background_fetch.fetch("m", request)
            killed = False
            async for progress in made:
                if progress.downloaded > 1 << 20 and not killed:
                    killed = True
                    await asyncio.to_thread(kill, home)
            assert killed
            assert made.result is bgfetch.Result.SUCCESS

    asyncio.run(story())
    assert {request.headers.get("authorization") for request in server.requests} == {"Bearer canary"}


@pytest.mark.usefixtures("home")
def test_pause_resume_abort_and_options_reach_the_daemon(server: OriginServer) -> None:
    """What an application asks for is obeyed by the process that fetches."""
    server.rate = 500_000

    async def story(app: App) -> None:
        made = await app.background_fetch.fetch("m", server.url)
        await reached(made, lambda progress: progress.downloaded)
        assert await made.pause()
        await reached(made, lambda progress: progress.state is bgfetch.State.PAUSED)
        assert made.state is bgfetch.State.PAUSED
        await made.set_priority(7)
        await made.set_limit_rate(100_000)
        assert await made.resume()
        await reached(made, lambda progress: progress.state is bgfetch.State.RUNNING)
        assert await made.abort()
        assert await made.wait() is bgfetch.Result.FAILURE
        assert made.failure_reason is bgfetch.FailureReason.ABORTED

    async def connected() -> None:
        async with bgfetch.connect("app") as app:
            await story(app)

    asyncio.run(connected())


@pytest.mark.usefixtures("home")
def test_without_async(server: OriginServer) -> None:
    """The same objects for a program without an event loop: one that waits for each of their promises."""
    server.rate = 2e6
    with bgfetch.blocking.connect("app") as wait:
        made = wait(wait.app.background_fetch.fetch("m", server.url))
        seen = list(wait.each(made))
        assert seen[-1].result is bgfetch.Result.SUCCESS
        with pytest.raises(bgfetch.InvalidRequest):
            wait(wait.app.background_fetch.get(""))


def test_messages_reach_the_application_that_is_there(home: DaemonProcess) -> None:
    """What is posted to a client arrives once, in order."""
    home.leave_message("app", "you are connected")

    async def story() -> None:
        async with bgfetch.connect("app") as app:
            messages = app.messages()
            assert await anext(messages) == "you are connected"
            for number in range(3):
                home.call("POST", f"/v1/clients/{app.id}/messages", {"data": {"n": number}, "from": "test"})
            assert [await anext(messages) for _ in range(3)] == [{"n": 0}, {"n": 1}, {"n": 2}]

    asyncio.run(story())


_WORKER = """
from bgfetch.worker import on

@on("backgroundfetchsuccess")
async def downloaded(event):
    cache = await event.caches.open("models")
    for record in await event.registration.match_all():
        await cache.put(record.request, await record.response_ready)
    await event.update_ui(title="here")
    for client in await event.clients.match_all():
        await client.post_message({"id": event.registration.id})
"""


def test_a_worker_that_an_application_registered_is_run_by_the_daemon(
    home: DaemonProcess, server: OriginServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found where the application found it, puts the response away, renames it and tells who is there."""
    (tmp_path / "story_worker.py").write_text(_WORKER, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    home.leave_message("app", "you are connected")

    async def story() -> str:
        async with bgfetch.connect("app") as app:
            await app.register("story_worker")
            messages = app.messages()
            assert await anext(messages) == "you are connected"
            made = await app.background_fetch.fetch("m", server.url, title="on its way")
            assert await anext(messages) == {"id": "m"}
            found = await (await app.caches.open("models")).match(server.url)
            assert found is not None
            assert made.title == "here"
            return str(found.path)

    assert Path(asyncio.run(story())).stat().st_size == SIZE
    home.logged("acknowledged")
    log = home.address.worker_log("app").read_text("utf-8")
    assert "Error" not in log


def test_an_application_outlives_a_restart_of_its_daemon(home: DaemonProcess, server: OriginServer) -> None:
    """The daemon says goodbye, the next one is found, and what was asked for with a secret is said again."""
    server.rate = 1e6

    async def story() -> None:
        async with bgfetch.connect("app") as app:
            secret = bgfetch.Headers([("Authorization", "Bearer canary")])
            made = await app.background_fetch.fetch("m", bgfetch.Request(server.url, headers=secret))
            restarted = False
            async for progress in made:
                if progress.downloaded > 1 << 20 and not restarted:
                    restarted = True
                    said = await asyncio.to_thread(home.command, "daemon", "restart")
                    assert said.returncode == 0, said.stderr
            assert restarted
            assert made.result is bgfetch.Result.SUCCESS

    asyncio.run(story())
    assert {request.headers.get("authorization") for request in server.requests} == {"Bearer canary"}


@pytest.mark.slow  # who listens gives a daemon 15 s to come back, as an upgraded one does
def test_a_daemon_that_was_told_to_end_is_not_started_again_by_who_listens(
    home: DaemonProcess, server: OriginServer
) -> None:
    """Who waits is told that it was asked to end, and that what came is kept."""
    server.rate = 300_000

    async def story() -> None:
        async with bgfetch.connect("app") as app:
            made = await app.background_fetch.fetch("m", server.url)
            await reached(made, lambda progress: progress.downloaded)
            waiting = asyncio.ensure_future(made.wait())
            said = await asyncio.to_thread(home.command, "daemon", "stop")
            assert said.returncode == 0
            with pytest.raises(bgfetch.BgfetchError, match="told to end"):
                await waiting

    asyncio.run(story())
    assert home.answers() is None
    assert holds(home, 0)


def test_a_script_ends_the_daemon_is_killed_three_times_and_the_model_arrives(
    home: DaemonProcess, server: OriginServer
) -> None:
    """Nobody waits, nobody is spared, and the file is there, verified, no byte of it stored twice."""
    server.rate = 800_000
    script = _SCRIPT.format(url=server.url, sha256=server.content.sha256)
    subprocess.run([sys.executable, "-c", script], env=home.environ, check=True, timeout=15)
    (row,) = home.call("GET", "/v1/registrations")["registrations"]
    for count in (SIZE // 5, 2 * SIZE // 5, 3 * SIZE // 5):
        home.holds(row["uid"], count)
        kill(home)
        assert home.command("daemon", "start").returncode == 0
    ended = home.command("wait", "m", "--json")
    assert ended.returncode == 0, ended.stderr
    assert '"verified": "digest"' in ended.stdout
    assert server.bytes_sent < SIZE + 4 * (2 << 20), "what was held was fetched again"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_fifty_ask_at_once(home: DaemonProcess, server: OriginServer) -> None:
    """One daemon, one download, fifty answers."""
    server.rate = 1e6
    began = time.monotonic()
    asking = [
        subprocess.Popen(
            [sys.executable, "-m", "bgfetch", "get", "-q", server.url],
            env=home.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(50)
    ]
    said = [process.communicate(timeout=100) for process in asking]
    assert {process.returncode for process in asking} == {0}, [err for _out, err in said if err][:3]
    (path,) = {out.strip() for out, _err in said}
    assert Path(path).stat().st_size == SIZE
    with home.store() as store:
        assert len(store.listing()) == 1
    assert server.bytes_sent < SIZE + (1 << 20), "it came more than once"
    print(f"fifty answers after {time.monotonic() - began:.1f} s")
