"""How many connections one address may have, counted where they are accepted."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from bgfetch.web.connections import Listener, Network

PROXY = ipaddress.ip_network("10.0.0.0/8")
Arrive = Callable[[str], socket.socket]


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Arrive]]:
    """Makes a listener for at most 2 connections of an address; and then connections, from anywhere."""
    peers: list[str] = []
    with ExitStack() as stack:

        def accept(_self: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
            ours, theirs = socket.socketpair()
            stack.callback(theirs.close)
            return ours, (peers.pop(), 1)

        monkeypatch.setattr(socket.socket, "accept", accept)

        def make(*proxies: Network) -> Arrive:
            listener = stack.enter_context(Listener(socket.create_server(("127.0.0.1", 0)), proxies, most=2))

            def arrive(address: str) -> socket.socket:
                peers.append(address)
                return stack.enter_context(listener.accept()[0])

            return arrive

        yield make


def admitted(arrive: Arrive, *addresses: str) -> int:
    """How many of these connections there are places for."""
    count = 0
    for address in addresses:
        with suppress(ConnectionAbortedError):
            arrive(address)
            count += 1
    return count


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["192.0.2.1"] * 3, 2),
        (["192.0.2.1", "192.0.2.2", "192.0.2.3"], 3),
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:3"], 2),
        (["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"], 3),
        (["fe80::1%lo", "fe80::2%lo", "fe80::3%lo"], 2),
        (["::ffff:192.0.2.1", "::ffff:192.0.2.2", "::ffff:192.0.2.3"], 3),
        (["10.0.0.1"] * 9, 9),
        (["::ffff:10.0.0.1"] * 3, 3),
    ],
)
def test_places(listening: Callable[..., Arrive], addresses: list[str], expected: int) -> None:
    """IPv4 by address, also where it is written as IPv6, and IPv6 by /64; a proxy has any number."""
    assert admitted(listening(PROXY), *addresses) == expected


def test_a_place_is_given_back_once(listening: Callable[..., Arrive]) -> None:
    """When the connection is closed, and not for a second descriptor of it."""
    arrive = listening()
    first, _second = arrive("192.0.2.1"), arrive("192.0.2.1")
    first.dup().close()
    assert admitted(arrive, "192.0.2.1") == 0
    first.close()
    first.close()
    assert admitted(arrive, "192.0.2.1", "192.0.2.1") == 1
