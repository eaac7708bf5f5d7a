"""Public fakes: an origin server on loopback, and every way in which it or a disk can misbehave.

::

    from bgfetch.testing import SCENARIOS, FaultServer, Outcome

    @pytest.mark.parametrize("name", [s.name for s in SCENARIOS.values() if s.outcome is Outcome.FINISH])
    def test_downloads(name: str) -> None:
        with FaultServer(body, name) as server:
            assert my_download(server.url) == server.body

A handler of your own is a function that is given an `Exchange`.
"""

from __future__ import annotations

from bgfetch.testing.content import Content
from bgfetch.testing.disks import FailingVfs, Fate, ForgetfulVfs, fates
from bgfetch.testing.exchange import Exchange, Fuse, Handler
from bgfetch.testing.faults import SCENARIOS, FaultServer
from bgfetch.testing.message import Reply, SeenRequest, text_reply
from bgfetch.testing.origin import OriginServer, plain
from bgfetch.testing.probe import Seen, probe
from bgfetch.testing.scenario import Outcome, Scenario

__all__ = [
    "SCENARIOS",
    "Content",
    "Exchange",
    "FailingVfs",
    "Fate",
    "FaultServer",
    "ForgetfulVfs",
    "Fuse",
    "Handler",
    "OriginServer",
    "Outcome",
    "Reply",
    "Scenario",
    "Seen",
    "SeenRequest",
    "fates",
    "plain",
    "probe",
    "text_reply",
]
