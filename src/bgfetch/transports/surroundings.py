"""What lies between whoever asked and the servers: proxies, certificates to believe, passwords by host.

Taken for each registration from the environment of the client that made it. The daemon was started from some other
shell, whose proxy would be the wrong one and whose password nobody meant to use here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from bgfetch.transports.proxies import Proxies

__all__ = ["Surroundings", "Trust"]

_FILES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe over TLS: a file of certificates, a directory of them, or "" for libcurl's own choice."""

    file: str = ""
    directory: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What to use for an exchange.

    Args:
        proxies: What stands between us and servers.
        trust: Certificates to believe; None for the transport's own choice.
        netrc: File of names and passwords by host; "" for libcurl's own choice, `~/.netrc`.
    """

    proxies: Proxies = field(default_factory=Proxies)
    trust: Trust | None = None
    netrc: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """What the variables that curl, OpenSSL and requests share say."""
        file = next((environment[name] for name in _FILES if environment.get(name)), "")
        directory = environment.get("SSL_CERT_DIR", "")
        trust = Trust(file, directory) if file or directory else None
        return cls(Proxies.from_environment(environment), trust, environment.get("NETRC", ""))
