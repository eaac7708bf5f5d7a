"""What is told to the system is what was meant, whatever the paths are called."""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET

import pytest

from bgfetch.daemon.units import LABEL, launchd_agent, systemd_unit, windows_task

COMMAND = [
    "/opt/my python/bin/python",
    "-P",
    "-m",
    "bgfetch",
    "--home",
    '/home/a"b/50%/$x\\y',
    "daemon",
    "run",
]


def test_systemd_unit() -> None:
    """The command and the variable come out as they went in, specifiers and variables unexpanded."""
    lines = systemd_unit(COMMAND, {"BGFETCH_HOME": COMMAND[5]}).splitlines()
    (start,) = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    assert [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(start)] == COMMAND
    (variable,) = [line.removeprefix("Environment=") for line in lines if line.startswith("Environment=")]
    assert "50%%" in variable
    assert "Restart=on-failure" in lines
    assert "WantedBy=default.target" in lines


def test_launchd_agent() -> None:
    """The property list is XML that holds the command word by word."""
    text = launchd_agent([*COMMAND, "<&>"], {"BGFETCH_HOME": "/h&m"}, "/log").partition("?>")[2]
    root = ET.fromstring(text)  # noqa: S314 - ours
    assert [each.text for each in root.iter("string")][1 : len(COMMAND) + 2] == [*COMMAND, "<&>"]
    assert next(iter(root.iter("string"))).text == LABEL


def test_windows_task() -> None:
    """Words with blanks, quotes and backslashes stay words."""
    words = ["C:\\Program Files\\python.exe", "--home", 'C:\\a "b\\', "run"]
    text = windows_task(words).partition("?>")[2]
    root = ET.fromstring(text)  # noqa: S314 - ours
    space = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
    assert root.findtext(f".//{space}Command") == words[0]
    assert root.findtext(f".//{space}Arguments") == '"--home" "C:\\a \\"b\\\\" "run"'


@pytest.mark.parametrize("text", ["a\nExecStart=/bin/evil", "a\0b", "a\rb"])
def test_a_break_is_refused(text: str) -> None:
    """A path cannot add lines of its own."""
    with pytest.raises(ValueError, match="line break"):
        systemd_unit([text], {})
    with pytest.raises(ValueError, match="line break"):
        launchd_agent([text], {}, "")
    with pytest.raises(ValueError, match="line break"):
        windows_task(["x", text])
