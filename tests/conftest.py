"""What every test begins with: fetches run in the test's own process, unless the test is one of the daemon's."""

from __future__ import annotations

import os
import signal

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

os.environ.setdefault("BGFETCH_IN_PROCESS", "1")  # read by each process that a test starts, too

# A shell has what it starts in the background ignore Ctrl-C, and nohup the end of its terminal; tests send both to what they start.
for _name, _usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    _number = getattr(signal, _name, None)  # Windows has no SIGHUP
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)


class Halves(LoadScopeScheduling):  # type: ignore[misc]
    """One worker has all that needs no browser, in its order; what is in browsers goes to whoever is free.

    Browsers mostly wait, so that two beside each other take little more than the time of one.
    """

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith("tests/browser/") else "no browser"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Halves:
    """Where two workers share the tests."""
    return Halves(config, log)
