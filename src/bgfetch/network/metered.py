"""What NetworkManager says of the network in use: whether it is metered, and its names.

Asked over D-Bus through systemd's `busctl`, which every machine that runs NetworkManager has: no library, no shell. Where
either is missing nothing is known, and that is what is said.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any, Final

from bgfetch.core.networks import Network

__all__ = ["NetworkManager"]

_NAME: Final = "org.freedesktop.NetworkManager"
_PATH: Final = "/org/freedesktop/NetworkManager"
_METERED: Final = {1: True, 2: False, 3: True, 4: False}  # NMMetered: yes, no, a guess at yes, a guess at no
_SECONDS: Final = 3.0


class NetworkManager:
    """The NetworkManager of this machine, if it has one."""

    def __init__(self) -> None:
        self._busctl = shutil.which("busctl")

    def look(self) -> Network:
        """What it says now; takes milliseconds, and 3 s at most."""
        about = self._all(_PATH, _NAME)
        if not about:
            return Network()
        names: set[str] = set()
        connection = about.get("PrimaryConnection", "/")
        if connection != "/":
            active = self._all(connection, f"{_NAME}.Connection.Active")
            names.add(str(active.get("Id", "")))
            if active.get("Type") == "802-11-wireless":
                names.add(self._ssid(str(active.get("SpecificObject", "/"))))
        return Network(_METERED.get(about.get("Metered", 0)), frozenset(names - {""}))

    def _ssid(self, access_point: str) -> str:
        raw = self._all(access_point, f"{_NAME}.AccessPoint").get("Ssid", [])
        return bytes(raw).decode("utf-8", "replace")

    def _all(self, path: str, interface: str) -> dict[str, Any]:
        """All properties of an interface there; none where it cannot be asked."""
        if self._busctl is None or path == "/":
            return {}
        try:
            told = subprocess.run(  # an argument list, without a shell
                [
                    self._busctl, "--system", "--json=short", "--auto-start=no", f"--timeout={_SECONDS:g}", "call",
                    _NAME, path, "org.freedesktop.DBus.Properties", "GetAll", "s", interface,
                ],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=True,
            ).stdout  # fmt: skip
            (properties,) = json.loads(told)["data"]
            return {name: value["data"] for name, value in properties.items()}
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, AttributeError):
            return {}
