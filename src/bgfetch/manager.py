"""The standard's BackgroundFetchManager, in Python: `fetch`, `get` and `get_ids` of a scope.

The per-request `integrity` and `expected_size` and the `options` are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakValueDictionary

from bgfetch.core.identity import request_key
from bgfetch.core.model import Icon, Request
from bgfetch.core.timetable import Timetable
from bgfetch.errors import InvalidRequest, QuotaExceeded
from bgfetch.registration import BackgroundFetchRegistration, Home, checked
from bgfetch.registrations.port import RegistrationOptions, RegistrationRow
from bgfetch.response import off_loop

__all__ = ["BackgroundFetchManager"]


class BackgroundFetchManager:
    """`ServiceWorkerRegistration.backgroundFetch` of a scope.

    Args:
        scope: Namespace of ids.
        home: Where things are.
    """

    def __init__(self, scope: str, home: Home) -> None:
        self._scope = scope
        self._home = home
        self._objects: WeakValueDictionary[int, BackgroundFetchRegistration] = WeakValueDictionary()

    async def fetch(
        self,
        id: str,  # noqa: A002 - the standard's word
        requests: str | Request | Sequence[str | Request],
        *,
        title: str = "",
        icons: Iterable[Icon] = (),
        download_total: int = 0,
        options: RegistrationOptions | None = None,
    ) -> BackgroundFetchRegistration:
        """Register requests under an id and begin to fetch them.

        Args:
            id: Any text but ""; free again as soon as the fetch has settled.
            requests: One or more absolute URLs or `Request`s.
            title: Shown to people.
            icons: Shown to people.
            download_total: Bytes all bodies have together at most; more ends it with
                "download-total-exceeded". 0 = unknown.
            options: Ours: priority, limits.

        Raises:
            InvalidRequest: No requests, or one that can never work; nothing was registered.
            DuplicateId: The id is active.
            QuotaExceeded: This machine has no room for `download_total`.
            DaemonError: It is registered, and nobody is there to run it; whoever starts the daemon starts it, too.

        Source: Background Fetch, fetch(), steps 1 to 9.
        """
        wanted = [checked(each) for each in ([requests] if isinstance(requests, str | Request) else requests)]
        registration = self.add(
            id, wanted, title=title, icons=icons, download_total=download_total, options=options
        )
        await off_loop(self._home.runner.run, registration.uid, wanted)
        return registration

    def add(
        self,
        id: str,  # noqa: A002 - the standard's word
        wanted: Sequence[Request],
        *,
        title: str = "",
        icons: Iterable[Icon] = (),
        download_total: int = 0,
        options: RegistrationOptions | None = None,
    ) -> BackgroundFetchRegistration:
        """The part of `fetch` that registers, of requests that were checked; nobody runs it yet (ours)."""
        if not id:
            raise InvalidRequest("a registration needs an id that is not empty")
        if not wanted:
            raise InvalidRequest("there is nothing to fetch: the list of requests is empty")
        self._check_room(download_total)
        Timetable.parse("" if options is None else options.schedule)
        keyed = [(request, _key(request, place)) for place, request in enumerate(wanted)]
        row = self._home.registrations.add(
            self._scope,
            id,
            keyed,
            title=title,
            icons=list(icons),
            download_total=download_total,
            options=options,
            now=self._home.clock.now(),
        )
        return self.of(row)

    def _check_room(self, download_total: int) -> None:
        if download_total < 0:
            raise InvalidRequest(f"download_total is {download_total}; it cannot be negative")
        full = self._home.room.shortage(download_total)
        if full:
            raise QuotaExceeded(
                f"{full}, below {self._home.root}; nothing was registered. Make room, or move BGFETCH_HOME"
            )

    async def get(self, id: str) -> BackgroundFetchRegistration | None:  # noqa: A002 - the standard's word
        """The active registration with this id, or None.

        Raises:
            InvalidRequest: The id is empty.
        """
        if not id:
            raise InvalidRequest("a registration's id is not empty")
        row = self._home.registrations.active(self._scope, id)
        return None if row is None else self.of(row)

    async def get_ids(self) -> list[str]:
        """Ids of active registrations, in the order they were made."""
        return self._home.registrations.ids(self._scope)

    def of(self, row: RegistrationRow) -> BackgroundFetchRegistration:
        """The one object of a stored registration of this scope, active or not (ours)."""
        found = self._objects.get(row.uid)
        if found is None:
            found = self._objects[row.uid] = BackgroundFetchRegistration(row, self._home)
        return found


def _key(request: Request, place: int) -> str:
    return request_key(request, nonce="" if request.resumable else str(place))
