"""Whether a registration may use the network there is, by what its person allowed."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Network", "objection"]


@dataclass(frozen=True, slots=True)
class Network:
    """What is known of the network in use.

    Args:
        metered: Whether its bytes cost money; None when nobody can tell.
        names: What people call it: the connection's name, the SSID; none when nobody can tell.
    """

    metered: bool | None = None
    names: frozenset[str] = field(default_factory=frozenset)


def objection(rule: str, network: Network) -> str:
    """Why bytes may not come over this network, in words, or "" when they may.

    Args:
        rule: "any" (or ""), "unmetered", or names with commas between, any of which will do; "unmetered" may be one.
        network: What is in use. Where nobody can tell whether it is metered it counts as unmetered: most machines
            without a NetworkManager are servers. Where nobody can tell its name it is none of those allowed.
    """
    allowed = [name.strip() for name in rule.split(",") if name.strip()]
    if not allowed or "any" in allowed:
        return ""
    if "unmetered" in allowed and not network.metered:
        return ""
    names = [name for name in allowed if name != "unmetered"]
    if network.names.intersection(names):
        return ""
    here = " / ".join(sorted(network.names)) or "unknown"
    if not names:
        return f"the network {here} is metered"
    return f"the network is {here}; allowed: {', '.join(allowed)}"
