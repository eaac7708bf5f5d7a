"""Desktop notifications: a person sees that a fetch is over, and a click on that is the click event.

Shown where there is a desktop and the extra `desktop` is installed, nowhere else, and nothing depends on it. The title is the
app's and may come from anywhere: it goes where no notification service reads markup. The text is one of a few words of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bgfetch.core.model import FailureReason
from bgfetch.core.names import printable
from bgfetch.registrations.port import EventType, RegistrationRow

if TYPE_CHECKING:
    from desktop_notifier import DesktopNotifier

__all__ = ["Notices", "has_desktop"]

_LOG: Final = logging.getLogger(__name__)
_PATIENCE: Final = 5.0  # seconds for a service that does not answer
_LONGEST: Final = 120
_WORDS: Final[Mapping[FailureReason, str]] = {
    FailureReason.NONE: "Download complete",
    FailureReason.BAD_STATUS: "Download failed: the server does not have it, or refuses",
    FailureReason.FETCH_ERROR: "Download failed",
    FailureReason.QUOTA_EXCEEDED: "Download failed: there is no room for it",
    FailureReason.DOWNLOAD_TOTAL_EXCEEDED: "Download failed: it is larger than was promised",
}


def has_desktop(environ: Mapping[str, str]) -> bool:
    """Whether there is somebody to show something to, and something to show it with."""
    there = sys.platform in ("darwin", "win32") or bool(environ.get("DBUS_SESSION_BUS_ADDRESS"))
    return there and find_spec("desktop_notifier") is not None


class Notices:
    """Shows what is over. Every method may be called from any thread, and none blocks for long.

    Args:
        clicked: Is given the uid of a registration whose notification a person clicked on.
    """

    def __init__(self, clicked: Callable[[int], object]) -> None:
        self._clicked = clicked
        self._notifier: DesktopNotifier | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="bgfetch-notices", daemon=True)
        self._thread.start()

    def told(self, row: RegistrationRow, event: EventType) -> None:
        """An event has been handled; of success and failure people are told. Who aborts knows it."""
        if event in (EventType.SUCCESS, EventType.FAIL):
            with contextlib.suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._show(row)))

    def close(self) -> None:
        """Show nothing any more; what is shown stays."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._leave())
        self._loop.close()

    async def _leave(self) -> None:
        # The library has no way to say that it is over; its connection is this one where there is a bus.
        bus = getattr(getattr(self._notifier, "_backend", None), "bus", None)
        if bus is not None:
            bus.disconnect()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _show(self, row: RegistrationRow) -> None:
        from desktop_notifier import DesktopNotifier, Icon  # noqa: PLC0415 - only where there is a desktop

        path = _icon(row)
        try:
            if self._notifier is None:
                self._notifier = DesktopNotifier(app_name="bgfetch", app_icon=None)
            sending = self._notifier.send(
                title=printable(row.title or row.id)[:_LONGEST],
                message=_WORDS.get(row.failure_reason, "Download failed"),
                icon=None if path is None else Icon(path=path),
                on_clicked=lambda: self._click(row.uid),
            )
            await asyncio.wait_for(sending, _PATIENCE)
        except Exception as error:  # noqa: BLE001 - whatever a desktop does, a download does not depend on it
            self._notifier = None
            _LOG.warning("no notification could be shown: %s", type(error).__name__)

    def _click(self, uid: int) -> None:
        threading.Thread(target=self._clicked, args=(uid,), name="bgfetch-click", daemon=True).start()


def _icon(row: RegistrationRow) -> Path | None:
    """The first icon that is a file here: nothing is fetched for a picture."""
    for icon in row.icons:
        path = Path(icon.src.removeprefix("file://"))
        if os.path.isabs(icon.src.removeprefix("file://")) and path.is_file():  # noqa: PTH117 - as text
            return path
    return None
