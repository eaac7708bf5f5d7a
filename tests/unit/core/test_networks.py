"""Which networks a registration may use."""

from __future__ import annotations

import pytest

from bgfetch.core.networks import Network, objection

HOME = Network(metered=False, names=frozenset({"Wired 1"}))
PHONE = Network(metered=True, names=frozenset({"Hotspot", "my phone"}))
UNKNOWN = Network()


@pytest.mark.parametrize(
    ("rule", "network", "words"),
    [
        ("any", PHONE, ""),
        ("", PHONE, ""),
        (" any ", UNKNOWN, ""),
        ("unmetered", HOME, ""),
        ("unmetered", UNKNOWN, ""),
        ("unmetered", PHONE, "the network Hotspot / my phone is metered"),
        ("unmetered", Network(metered=True), "the network unknown is metered"),
        ("Hotspot", PHONE, ""),
        ("Lab, Wired 1", HOME, ""),
        ("Lab", HOME, "the network is Wired 1; allowed: Lab"),
        ("Lab", UNKNOWN, "the network is unknown; allowed: Lab"),
        ("Lab,unmetered", HOME, ""),
        ("Lab,unmetered", PHONE, "the network is Hotspot / my phone; allowed: Lab, unmetered"),
        ("my phone,unmetered", PHONE, ""),
    ],
)
def test_what_may_be_used(rule: str, network: Network, words: str) -> None:
    """What a person allowed, and otherwise the reason, for people to read."""
    assert objection(rule, network) == words
