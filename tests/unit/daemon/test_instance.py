"""Exactly one daemon of a home, also where locks are given to everybody."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bgfetch.address import Address
from bgfetch.daemon import instance as module
from bgfetch.daemon.identity import ProcessIdentity
from bgfetch.daemon.instance import Instance
from bgfetch.errors import InvalidState
from bgfetch.vfs import Vfs

_FIFTY = 50


def _try(home: Path, said: Connection, *, lying: bool) -> None:
    """Try to be the daemon, say whether it worked, and stay until told to go."""
    if lying:
        module._locked = lambda fd: True  # noqa: ARG005 - as the one it replaces
    said.recv()
    try:
        Instance(Address(home), Vfs()).take()
    except InvalidState:
        said.send(0)
    else:
        said.send(os.getpid())
    said.recv()


def race(home: Path, count: int, *, lying: bool) -> list[int]:
    """Processes that became the daemon when so many tried at once; they are killed, and leave everything behind."""
    context = multiprocessing.get_context("fork")
    ends = [context.Pipe() for _ in range(count)]
    processes = [
        context.Process(target=_try, args=(home, theirs), kwargs={"lying": lying}) for _, theirs in ends
    ]
    for process in processes:
        process.start()
    try:
        for ours, _ in ends:
            ours.send(None)
        return [pid for ours, _ in ends if (pid := ours.recv())]
    finally:
        for process in processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()


@pytest.mark.parametrize("lying", [False, True], ids=["locks hold", "locks lie"])
def test_one_of_fifty_wins(tmp_path: Path, *, lying: bool) -> None:
    """Of fifty exactly one becomes the daemon, and again of the next fifty when that one was killed."""
    # They are forks of a small process: to fork this one, with all that a whole run has brought in, takes far longer.
    ran = subprocess.run(
        [sys.executable, __file__, str(tmp_path), *(["lying"] if lying else [])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("[1, 1, 1]\n", "")


def test_the_loser_names_the_winner(tmp_path: Path) -> None:
    """Who comes second learns which process is the daemon."""
    first, second = (Instance(Address(tmp_path), Vfs()) for _ in range(2))
    first.take()
    with pytest.raises(InvalidState, match=f"process {os.getpid()}"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_a_successor_that_died_is_succeeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was killed between being chosen and saying so keeps nobody out."""
    monkeypatch.setattr(module, "_locked", lambda _fd: True)
    folder = tmp_path / "daemon"
    folder.mkdir(mode=0o700)
    dead = ProcessIdentity(1 << 22, "1", "another boot", "first")
    next_ = ProcessIdentity(1 << 22, "2", "another boot", "second")
    (folder / "owner").write_bytes(dead.pack())
    (folder / "owner.first").write_bytes(next_.pack())
    one = Instance(Address(tmp_path), Vfs())
    one.take()
    assert [each.name for each in folder.iterdir() if each.name.startswith("owner.")] == []
    with pytest.raises(InvalidState):
        Instance(Address(tmp_path), Vfs()).take()
    one.release()


def test_a_torn_owner_keeps_nobody_out(tmp_path: Path) -> None:
    """A file that a power cut emptied names nobody."""
    (tmp_path / "daemon").mkdir(mode=0o700)
    (tmp_path / "daemon" / "owner").write_bytes(b"")
    one = Instance(Address(tmp_path), Vfs())
    one.take()
    assert ProcessIdentity.read(tmp_path / "daemon" / "owner") is not None
    one.release()


def test_a_number_that_is_used_again() -> None:
    """A process that has the number of a daemon that ended is not taken for it."""
    own = ProcessIdentity.own()
    assert own.lives
    assert not ProcessIdentity(own.pid, "1", own.boot, own.nonce).lives
    assert not ProcessIdentity(own.pid, own.began, "another boot", own.nonce).lives


def test_a_socket_that_answers_stays(tmp_path: Path) -> None:
    """Whatever the files say, nobody takes away a socket at which somebody answers."""
    first = Instance(Address(tmp_path), Vfs())
    first.take()
    listener = first.listen({})
    second = Instance(Address(tmp_path), Vfs())
    with pytest.raises(InvalidState, match="answers"):
        second.listen({})
    listener.close()
    first.release()


def test_nothing_is_left_where_the_socket_of_a_long_home_was(tmp_path: Path) -> None:
    """It lies in a folder of its own outside the home, which goes with the daemon."""
    home = tmp_path / ("long" * 30)
    instance = Instance(Address(home), Vfs())
    instance.take()
    with tempfile.TemporaryDirectory() as runtime:  # that of a test has too long a path for a socket
        with instance.listen({"XDG_RUNTIME_DIR": runtime}) as listener:
            assert Path(listener.getsockname()).parent.parent == Path(runtime)
        instance.release()
        assert not list(Path(runtime).iterdir())
    assert home.is_dir()


if __name__ == "__main__":
    print([len(race(Path(sys.argv[1]), _FIFTY, lying="lying" in sys.argv)) for _generation in range(3)])
