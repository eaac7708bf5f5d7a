"""What is told to the system, so that it starts the daemon: texts only, made from where things are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

__all__ = ["LABEL", "launchd_agent", "systemd_unit", "windows_task"]

LABEL = "org.bgfetch.daemon"
_BAD = ("\n", "\r", "\0")


def systemd_unit(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """A user unit.

    Source: systemd.service(5), systemd.exec(5); quoting by systemd.syntax(7).
    """
    variables = "".join(
        f"Environment={_systemd_word(f'{name}={value}')}\n" for name, value in environment.items()
    )
    return (
        "[Unit]\n"
        "Description=bgfetch: downloads that outlive what asked for them\n"
        "After=network-online.target\n"
        "\n"
        "[Service]\n"
        f"ExecStart={' '.join(map(_systemd_word, command))}\n"
        f"{variables}"
        "ExecReload=/bin/kill -HUP $MAINPID\n"
        "Restart=on-failure\n"
        "RestartSec=1\n"
        "KillMode=mixed\n"
        "TimeoutStopSec=10\n"
        "NoNewPrivileges=yes\n"
        "LimitNOFILE=65536\n"
        "\n"
        "[Install]\n"
        "WantedBy=default.target\n"
    )


def _systemd_word(text: str) -> str:
    """One word: `%` begins a specifier, `$` a variable, and quotes and backslashes are what they are in C."""
    _refuse_breaks(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def launchd_agent(command: Sequence[str], environment: Mapping[str, str], log: str) -> str:
    """A property list for ~/Library/LaunchAgents.

    Source: launchd.plist(5).
    """
    words = "".join(f"    <string>{_xml(word)}</string>\n" for word in command)
    pairs = "".join(f"    <key>{_xml(k)}</key><string>{_xml(v)}</string>\n" for k, v in environment.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'
        '<plist version="1.0"><dict>\n'
        f"  <key>Label</key><string>{LABEL}</string>\n"
        f"  <key>ProgramArguments</key><array>\n{words}  </array>\n"
        f"  <key>EnvironmentVariables</key><dict>\n{pairs}  </dict>\n"
        "  <key>RunAtLoad</key><true/>\n"
        "  <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>\n"
        "  <key>ProcessType</key><string>Background</string>\n"
        f"  <key>StandardErrorPath</key><string>{_xml(log)}</string>\n"
        "</dict></plist>\n"
    )


def windows_task(command: Sequence[str]) -> str:
    """A task for the Task Scheduler that begins at logon.

    Source: Task Scheduler schema 1.2; quoting by CommandLineToArgvW.
    """
    program, *arguments = command
    return (
        '<?xml version="1.0" encoding="UTF-16"?>\n'
        '<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">\n'
        "  <RegistrationInfo><Description>bgfetch: downloads that outlive what asked for them</Description>"
        "</RegistrationInfo>\n"
        "  <Triggers><LogonTrigger><Enabled>true</Enabled></LogonTrigger></Triggers>\n"
        '  <Principals><Principal id="Author"><LogonType>InteractiveToken</LogonType>'
        "<RunLevel>LeastPrivilege</RunLevel></Principal></Principals>\n"
        "  <Settings><MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>"
        "<DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>"
        "<StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>"
        "<ExecutionTimeLimit>PT0S</ExecutionTimeLimit>"
        "<RestartOnFailure><Interval>PT1M</Interval><Count>3</Count></RestartOnFailure></Settings>\n"
        f'  <Actions Context="Author"><Exec><Command>{_xml(program)}</Command>'
        f"<Arguments>{_xml(' '.join(map(_windows_word, arguments)))}</Arguments></Exec></Actions>\n"
        "</Task>\n"
    )


def _windows_word(text: str) -> str:
    """Backslashes count double before a quote, and only there."""
    quoted, slashes = "", 0
    for character in text:
        if character == "\\":
            slashes += 1
            continue
        quoted += "\\" * (slashes * 2 + 1 if character == '"' else slashes) + character
        slashes = 0
    return f'"{quoted}{chr(92) * slashes * 2}"'


def _xml(text: str) -> str:
    _refuse_breaks(text)
    return escape(text)


def _refuse_breaks(text: str) -> None:
    if any(each in text for each in _BAD):
        raise ValueError(f"a line break in {text!r} would end the entry it stands in")
