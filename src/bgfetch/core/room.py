"""How much of a disk downloads may fill.

Who fills a disk to the last byte breaks whatever else writes there, the store of registrations first. So a reserve
stays: what a person said, or a fiftieth of the disk and 1 GiB at the most. A fixed size alone would lock small disks
and memory file systems; a share alone would waste 160 GB of an 8 TB disk.
"""

from __future__ import annotations

__all__ = ["reserve_of", "shortage"]

_MOST = 1 << 30
_SHARE = 50


def reserve_of(said: int | None, disk: int) -> int:
    """Bytes of a disk that no download takes.

    Args:
        said: What a person set, bytes; None: nothing.
        disk: Size of the file system, bytes.
    """
    return min(_MOST, disk // _SHARE) if said is None else said


def shortage(needed: int, *, free: int, reserve: int) -> str:
    """Why so many more bytes have no room, as one sentence, or "" where they have.

    Args:
        needed: Bytes about to be taken, >= 0.
        free: Bytes that an ordinary user may still write.
        reserve: Bytes that must stay free afterwards.
    """
    left = max(0, free - reserve)
    if needed <= left:
        return ""
    kept = f", {reserve} more are kept in reserve" if reserve else ""
    return f"{needed} bytes are needed and {left} are free{kept}"
