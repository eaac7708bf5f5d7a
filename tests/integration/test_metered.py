"""What NetworkManager says is read as it is meant: a stand-in speaks for it on a system bus of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgfetch.core.networks import Network
from bgfetch.network.metered import NetworkManager

pytest.importorskip("jeepney", reason="the stand-in for NetworkManager speaks D-Bus through jeepney")
pytestmark = pytest.mark.skipif(
    not (shutil.which("dbus-daemon") and shutil.which("busctl")), reason="wants dbus-daemon and busctl"
)

CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/></policy></busconfig>
"""

# Answers GetAll from a table that it reads anew each time: {path: {property: [signature, value]}}.
STAND_IN = """
import json, sys
from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_call, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

connection = open_dbus_connection("SYSTEM")
connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.NetworkManager"))
print("ready", flush=True)
while True:
    message = connection.receive()
    if message.header.message_type is not MessageType.method_call:
        continue
    table = json.load(open(sys.argv[1])).get(message.header.fields[HeaderFields.path])
    if table is None:
        connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownObject"))
        continue
    values = {name: (kind, bytes(value) if kind == "ay" else value) for name, (kind, value) in table.items()}
    connection.send(new_method_return(message, "a{sv}", (values,)))
"""

ROOT = "/org/freedesktop/NetworkManager"
ACTIVE, POINT = f"{ROOT}/ActiveConnection/7", f"{ROOT}/AccessPoint/3"


class Manager:
    """The stand-in: what it is told to say."""

    def __init__(self, table: Path) -> None:
        self._table = table
        self.says({})

    def says(self, table: dict[str, dict[str, list[object]]]) -> None:
        """The properties of each object from now on."""
        self._table.write_text(json.dumps(table))


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A system bus with a NetworkManager on it."""
    bus, table = tmp_path / "bus", tmp_path / "table"
    (tmp_path / "config").write_text(CONFIG.format(socket=bus))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={bus}")
    said = Manager(table)
    command = ["dbus-daemon", f"--config-file={tmp_path / 'config'}", "--nofork", "--print-address"]
    stand_in = [sys.executable, "-c", textwrap.dedent(STAND_IN), str(table)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        with subprocess.Popen(stand_in, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield said
            process.kill()
        daemon.kill()


def table(metered: int, kind: str = "802-3-ethernet") -> dict[str, dict[str, list[object]]]:
    """A NetworkManager with one connection."""
    ssid: list[object] = ["ay", list("Café".encode())]
    return {
        ROOT: {"Metered": ["u", metered], "PrimaryConnection": ["o", ACTIVE]},
        ACTIVE: {"Id": ["s", "my network"], "Type": ["s", kind], "SpecificObject": ["o", POINT]},
        POINT: {"Ssid": ssid},
    }


@pytest.mark.parametrize(
    ("metered", "expected"), [(0, None), (1, True), (2, False), (3, True), (4, False), (9, None)]
)
def test_metered(manager: Manager, metered: int, expected: bool | None) -> None:  # noqa: FBT001 - a table
    """Its guesses count; what it does not know nobody does."""
    manager.says(table(metered))
    assert NetworkManager().look() == Network(expected, frozenset({"my network"}))


def test_a_radio_network_has_two_names(manager: Manager) -> None:
    """That of the connection and the SSID; people know either."""
    manager.says(table(1, "802-11-wireless"))
    assert NetworkManager().look() == Network(metered=True, names=frozenset({"my network", "Café"}))


def test_no_connection_and_no_manager(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is known then, and nothing is raised."""
    manager.says({ROOT: {"Metered": ["u", 0], "PrimaryConnection": ["o", "/"]}})
    assert NetworkManager().look() == Network()
    manager.says({})
    assert NetworkManager().look() == Network()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'nothing'}")
    assert NetworkManager().look() == Network()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert NetworkManager().look() == Network()


def test_what_is_metered_now_is_seen_now(manager: Manager) -> None:
    """Each look asks again."""
    manager.says(table(2))
    looks = NetworkManager()
    assert looks.look().metered is False
    manager.says(table(1))
    assert looks.look().metered is True
