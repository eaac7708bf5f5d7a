"""Which process a number means: numbers are used again, and mean nothing after a restart of the machine."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["ProcessIdentity"]


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, as others may look for it.

    Args:
        pid: Its number.
        began: When it began, in the words of the system; "" where the system does not say.
        boot: Which start of the machine it belongs to; "" where the system does not say.
        nonce: Never used twice.
    """

    pid: int
    began: str
    boot: str
    nonce: str

    @classmethod
    def own(cls) -> ProcessIdentity:
        """This process."""
        return cls(os.getpid(), _began(os.getpid()), _boot(), secrets.token_hex(16))

    @classmethod
    def read(cls, path: Path) -> ProcessIdentity | None:
        """The one that a file names, or None where it names none."""
        try:
            said = json.loads(path.read_bytes())
            return cls(int(said["pid"]), str(said["began"]), str(said["boot"]), str(said["nonce"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def pack(self) -> bytes:
        """As it lies in a file."""
        return json.dumps(asdict(self)).encode()

    @property
    def lives(self) -> bool:
        """Whether it still runs; True where that cannot be known, and for a zombie's number False."""
        if self.boot != _boot():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # of another user, or a system that does not say
            pass
        return _began(self.pid) == self.began


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Field 22 of proc(5)'s stat, clock ticks since the machine started; "" for a process that has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("latin-1")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return "" if fields[0] in "ZX" else fields[19]
