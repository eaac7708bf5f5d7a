"""Notices when this machine's network changes: at once where the kernel tells (Linux), else by looking every few seconds.

Source: rtnetlink(7). A message is only a hint: whoever hears of a change tries, and finds out.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Final, Protocol

__all__ = ["KernelLinks", "Links", "SeenLinks", "links"]

_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100  # RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR
_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE = 16, 17, 20, 21, 24, 25
_WORKS: Final = 0x1 | 0x40  # IFF_UP, IFF_RUNNING
_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")  # family, type, index, flags, which of them changed
_ADDRESS: Final = struct.Struct("=BBBBI")  # family, length of prefix, flags, scope, index
_LOOK: Final = 3.0  # s between looks where nobody tells
_FAR: Final = (
    (socket.AF_INET, "192.0.2.1"),
    (socket.AF_INET6, "2001:db8::1"),
)  # RFC 5737, RFC 3849: never reached


class Links(Protocol):
    """Tells of changes."""

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; whether something changed meanwhile."""

    def close(self) -> None:
        """Watch no longer."""


class KernelLinks:
    """`Links` on Linux, from the kernel's own messages. OSError where there are none."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _GROUPS))
        self._socket.setblocking(False)
        self._flags: dict[int, int] = {}
        self._addresses: set[bytes] = set()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; whether a link, an address or a route came or went."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left < 0 or not select.select([self._socket], [], [], left)[0]:
                return False
            if self._read():
                return True

    def close(self) -> None:
        """Watch no longer."""
        self._socket.close()

    def _read(self) -> bool:
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError:  # ENOBUFS: more came than it could keep
            return True
        told = [self._means_change(kind, body) for kind, body in _messages(data)]  # each is to be remembered
        return any(told)

    def _means_change(self, kind: int, body: bytes) -> bool:
        """Radio links tell of their reception, routers of their addresses' lives: only what differs is a change."""
        if kind == _NEWLINK and len(body) >= _LINK.size:
            _family, _type, index, flags, _change = _LINK.unpack_from(body)
            before = self._flags.get(index)
            self._flags[index] = int(flags) & _WORKS
            return before is None or before != self._flags[index]
        if kind in (_NEWADDR, _DELADDR) and len(body) >= _ADDRESS.size:
            family, prefix, _flags, scope, index = _ADDRESS.unpack_from(body)
            address = _ADDRESS.pack(family, prefix, 0, scope, index) + _first_attribute(body[_ADDRESS.size :])
            known = address in self._addresses
            (self._addresses.add if kind == _NEWADDR else self._addresses.discard)(address)
            return kind == _DELADDR or not known
        return kind in (_DELLINK, _NEWROUTE, _DELROUTE)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each netlink message: its type and what follows its header."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += -(-length // 4) * 4


def _first_attribute(data: bytes) -> bytes:
    """IFA_ADDRESS, which comes first."""
    length = struct.unpack_from("=H", data)[0] if len(data) >= 4 else 0
    return data[:length]


class SeenLinks:
    """`Links` anywhere: which addresses this machine would speak from. No packet is sent for it."""

    def __init__(self) -> None:
        self._seen = _own_addresses()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; whether it would speak from another address now."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK))
            before, self._seen = self._seen, _own_addresses()
            if before != self._seen:
                return True
        return False

    def close(self) -> None:
        """Nothing was opened."""


def _own_addresses() -> list[str]:
    found = []
    for family, far in _FAR:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            found.append(probe.getsockname()[0])
    return found


def links() -> Links:
    """The best there is here."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            return KernelLinks()
    return SeenLinks()
