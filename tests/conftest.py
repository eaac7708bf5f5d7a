"""What every test begins with: fetches run in the test's own process, unless the test is one of the daemon's."""

from __future__ import annotations

import os

os.environ.setdefault("BGFETCH_IN_PROCESS", "1")  # read by each process that a test starts, too
