"""What a person changes while it runs holds at once: timetable, networks, priorities, pause."""

from __future__ import annotations

import queue
import random
from pathlib import Path

import pytest
from tests.lab import Lab, asking

from bgfetch.config import Settings
from bgfetch.core.model import Result, State
from bgfetch.core.networks import Network
from bgfetch.core.timetable import Timetable
from bgfetch.errors import InvalidRequest
from bgfetch.registrations.port import RegistrationOptions, Wish
from bgfetch.testing import OriginServer
from bgfetch.wiring import Wiring

BODY = random.Random(8).randbytes(300_000)
PHONE = Network(metered=True, names=frozenset({"phone"}))


class Shown:
    """What registrations show, change by change."""

    def __init__(self, lab: Lab) -> None:
        self._told: queue.Queue[tuple[int, State]] = queue.Queue()
        lab.driver.bulletin.follow(lambda uid, progress: self._told.put((uid, progress.state)))

    def wait(self, uid: int, state: State) -> None:
        """Until it shows this; queue.Empty when it does not in time."""
        while self._told.get(timeout=10) != (uid, state):
            pass


def test_a_timetable_that_says_pause_holds_everything(tmp_path: Path) -> None:
    """Nothing is asked for meanwhile, the state says until when, and it goes on when the table changes."""
    with OriginServer(BODY) as server, Lab(tmp_path) as lab:
        shown = Shown(lab)
        lab.driver.set_schedule(Timetable.parse("00:00,pause"))
        uid = lab.begin(asking(server.url))
        shown.wait(uid, State.PAUSED_SCHEDULE)
        assert not server.requests
        lab.driver.set_schedule(Timetable())
        assert lab.wait().row.result is Result.SUCCESS
        assert "paused: paused-schedule: the timetable says pause" in lab.lines()


def test_its_own_timetable_holds_one(tmp_path: Path) -> None:
    """Others go on; changing the option lets it go."""
    with OriginServer(BODY) as server, Lab(tmp_path) as lab:
        shown = Shown(lab)
        held = lab.begin(asking(server.url), id="held", options=RegistrationOptions(schedule="pause"))
        free = lab.begin(asking(f"{server.url}?2"), id="free")
        assert lab.wait().row.uid == free
        shown.wait(held, State.PAUSED_SCHEDULE)
        lab.driver.amend(held, RegistrationOptions())
        assert lab.wait().row.result is Result.SUCCESS


def test_a_metered_network_holds_what_is_not_to_use_it(tmp_path: Path) -> None:
    """`paused-metered` until the network is another one; what may use any network goes on."""
    with OriginServer(BODY) as server, Lab(tmp_path) as lab:
        shown = Shown(lab)
        uid = lab.begin(asking(server.url), options=RegistrationOptions(networks="unmetered"))
        lab.driver.network_is(PHONE)
        shown.wait(uid, State.PAUSED_METERED)
        lab.begin(asking(f"{server.url}?2"), id="any")
        assert lab.wait().row.id == "any"
        last = lab.driver.bulletin.last(uid)
        assert last is not None
        assert last.state is State.PAUSED_METERED
        lab.driver.network_is(Network(metered=False))
        assert lab.wait().row.result is Result.SUCCESS


@pytest.mark.parametrize("wish", [Wish.ABORT, Wish.PAUSE])
def test_a_persons_wish_goes_before_what_holds_it(tmp_path: Path, wish: Wish) -> None:
    """What is held may be aborted; what a person paused stays so when the timetable would let it go."""
    with OriginServer(BODY) as server, Lab(tmp_path) as lab:
        shown = Shown(lab)
        lab.driver.set_schedule(Timetable.parse("pause"))
        uid = lab.begin(asking(server.url))
        shown.wait(uid, State.PAUSED_SCHEDULE)
        lab.store.set_wish(uid, wish)
        lab.driver.wish(uid, wish)
        if wish is Wish.PAUSE:
            shown.wait(uid, State.PAUSED)
            lab.driver.set_schedule(Timetable())
            lab.store.set_wish(uid, Wish.ABORT)
            lab.driver.wish(uid, Wish.ABORT)
        assert lab.wait().row.failure_reason == "aborted"
        assert not server.requests


def test_everything_paused_and_resumed(tmp_path: Path) -> None:
    """One switch for all, which leaves each registration's own wish as it was."""
    with OriginServer(BODY) as server, Lab(tmp_path) as lab:
        shown = Shown(lab)
        lab.driver.set_paused(True)
        uid = lab.begin(asking(server.url))
        shown.wait(uid, State.PAUSED)
        row = lab.store.get(uid)
        assert row is not None
        assert row.wish is Wish.RUN
        lab.driver.set_paused(False)
        assert lab.wait().row.result is Result.SUCCESS


def test_an_environment_of_its_own_decides_about_the_proxy(tmp_path: Path) -> None:
    """Two registrations at once, one through the proxy of its client's shell, the other straight."""
    with OriginServer(BODY) as server, OriginServer(BODY) as proxy, Lab(tmp_path) as lab:
        host = proxy.url.split("/")[2]
        row = lab.store.add("default", "x", [(asking(server.url), "a" * 64)], now=lab.clock.now())
        epoch = lab.store.claim(row.uid, "lab")
        lab.driver.start(row, epoch, [asking(server.url)], {"http_proxy": f"http://{host}"})
        assert lab.wait().row.result is Result.SUCCESS
        assert (len(proxy.requests) > 0, len(server.requests)) == (True, 0)
        lab.begin(asking(f"{server.url}?2"), id="straight")
        assert lab.wait().row.result is Result.SUCCESS
        assert len(server.requests) > 0


def test_of_an_environment_only_what_is_no_secret_is_stored(tmp_path: Path) -> None:
    """The proxy's address outlives the process, its password and tokens do not."""
    canary = "s3cr3t-canary"
    asked = {
        "HF_TOKEN": canary,
        "http_proxy": f"http://me:{canary}@127.0.0.1:9",
        "HF_ENDPOINT": "https://mirror",
    }
    wiring = Wiring(Settings(home=tmp_path, in_process=True))
    row = wiring.registrations.add("default", "x", [(asking("http://127.0.0.1:9/x"), "a" * 64)], now=1.0)
    assert wiring.runner.run(row.uid, None, asked)
    wiring.runner.wish(row.uid, Wish.PAUSE)
    stored = wiring.registrations.get(row.uid)
    wiring.close()
    assert stored is not None
    assert stored.options.environment == {"http_proxy": "http://127.0.0.1:9", "HF_ENDPOINT": "https://mirror"}
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or canary.encode() not in file.read_bytes(), file


def test_a_timetable_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Before anything is changed."""
    wiring = Wiring(Settings(home=tmp_path, in_process=True))
    row = wiring.registrations.add("default", "x", [(asking("http://127.0.0.1:9/x"), "a" * 64)], now=1.0)
    with pytest.raises(InvalidRequest, match="nonsense"):
        wiring.runner.amend(row.uid, RegistrationOptions(schedule="nonsense"))
    stored = wiring.registrations.get(row.uid)
    wiring.close()
    assert stored is not None
    assert stored.options.schedule == ""
