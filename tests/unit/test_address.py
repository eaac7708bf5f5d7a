"""Where a daemon's socket goes: the system bounds its path, and no folder is given up that still holds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bgfetch.address import Address

_LONG = Path("/home") / ("x" * 100)
_TAIL = len("/bgfetch-0123456789abcdef/socket")


@pytest.mark.skipif(os.name != "posix", reason="paths as POSIX writes them")
@pytest.mark.parametrize(
    ("length", "there"), [(10, True), (100 - _TAIL, True), (100 - _TAIL + 1, False), (0, False)]
)
def test_the_users_folder_of_the_session_is_used_up_to_the_last_byte(length: int, *, there: bool) -> None:
    """What does not fit, or is not told, makes room for a folder of the system's."""
    runtime = ("/" + "r" * length)[:length]
    path = Address(_LONG).preferred_socket({"XDG_RUNTIME_DIR": runtime})
    assert (path.parent.parent == Path(runtime)) == there
    assert path.name == "socket"
    assert len(os.fsencode(path)) <= 100


@pytest.mark.skipif(os.name != "posix", reason="paths as POSIX writes them")
def test_it_lies_in_the_home_where_it_fits() -> None:
    """The rest is for homes far down only."""
    assert Address(Path("/h")).preferred_socket({"XDG_RUNTIME_DIR": "/run"}) == Path("/h/daemon/socket")
