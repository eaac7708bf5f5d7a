"""Which proxy a URL goes through, decided here and not by libcurl: what stands between us and the server must be known
before its address is judged.

Source: curl(1), "ENVIRONMENT", whose rules most tools share. `HTTP_PROXY` in capitals is ignored as there: in a CGI
process a request header could set it (CVE-2016-5385).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Self

from bgfetch.core.urls import origin

__all__ = ["Proxies"]


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies to use.

    Args:
        by_scheme: For "http" and "https", a proxy's URL; no entry for none. May hold a password: never shown.
        direct: Hosts reached without one: a domain with all below it, an address, a network ("10.0.0.0/8"), each with
            ":port" if only that is meant; "*" for all.
    """

    by_scheme: Mapping[str, str] = field(default_factory=dict)
    direct: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """What `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say."""

        def value(*names: str) -> str:
            return next((environment[name] for name in names if environment.get(name)), "")

        every = value("all_proxy", "ALL_PROXY")
        found = {
            "http": value("http_proxy") or every,
            "https": value("https_proxy", "HTTPS_PROXY") or every,
        }
        listed = value("no_proxy", "NO_PROXY").replace(",", " ").split()
        return cls({scheme: url for scheme, url in found.items() if url}, tuple(listed))

    def choose(self, url: str) -> str:
        """The proxy for a URL, or "" for none."""
        if not self.by_scheme:
            return ""
        scheme, host, port = origin(url)
        proxy = self.by_scheme.get(scheme, "")
        if not proxy or any(_names(entry, host.strip("[]").rstrip("."), port) for entry in self.direct):
            return ""
        return proxy


def _names(entry: str, host: str, port: int) -> bool:
    """Whether an entry of `no_proxy` means this host."""
    if entry == "*":
        return True
    name, number = _without_port(entry.lower())
    if number not in ("", str(port)):
        return False
    try:
        return ip_address(host) in ip_network(name, strict=False)
    except ValueError:
        name = name.strip(".")
        return host == name or (bool(name) and host.endswith(f".{name}"))


def _without_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        return name, port.removeprefix(":")
    name, colon, port = entry.rpartition(":")
    return (name, port) if colon and ":" not in name else (entry, "")
