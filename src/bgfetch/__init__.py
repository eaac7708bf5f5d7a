"""Background Fetch for AI models: downloads that outlive what asked for them, and end verified.

>>> import bgfetch
>>> path = bgfetch.get("https://host/gemma-2b.bin", sha256="…")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bgfetch.version import __version__ as __version__

if TYPE_CHECKING:
    from bgfetch.api import App as App
    from bgfetch.api import connect as connect
    from bgfetch.api import get as get
    from bgfetch.caches import Cache as Cache
    from bgfetch.caches import CacheStorage as CacheStorage
    from bgfetch.core.matching import QueryOptions as QueryOptions
    from bgfetch.core.model import FailureReason as FailureReason
    from bgfetch.core.model import Headers as Headers
    from bgfetch.core.model import Icon as Icon
    from bgfetch.core.model import Progress as Progress
    from bgfetch.core.model import Request as Request
    from bgfetch.core.model import Result as Result
    from bgfetch.core.model import State as State
    from bgfetch.core.model import Verified as Verified
    from bgfetch.errors import Aborted as Aborted
    from bgfetch.errors import AccessDenied as AccessDenied
    from bgfetch.errors import BadStatus as BadStatus
    from bgfetch.errors import BgfetchError as BgfetchError
    from bgfetch.errors import CacheError as CacheError
    from bgfetch.errors import DaemonError as DaemonError
    from bgfetch.errors import DaemonNotRunning as DaemonNotRunning
    from bgfetch.errors import DownloadTotalExceeded as DownloadTotalExceeded
    from bgfetch.errors import DuplicateId as DuplicateId
    from bgfetch.errors import FetchError as FetchError
    from bgfetch.errors import IntegrityError as IntegrityError
    from bgfetch.errors import InvalidPartialResponse as InvalidPartialResponse
    from bgfetch.errors import InvalidRequest as InvalidRequest
    from bgfetch.errors import InvalidState as InvalidState
    from bgfetch.errors import NetworkError as NetworkError
    from bgfetch.errors import NotFound as NotFound
    from bgfetch.errors import ProtocolMismatch as ProtocolMismatch
    from bgfetch.errors import QuotaExceeded as QuotaExceeded
    from bgfetch.errors import SourceError as SourceError
    from bgfetch.manager import BackgroundFetchManager as BackgroundFetchManager
    from bgfetch.registration import BackgroundFetchRecord as BackgroundFetchRecord
    from bgfetch.registration import BackgroundFetchRegistration as BackgroundFetchRegistration
    from bgfetch.response import Response as Response

# Where each public name lives; it is imported when it is first used, so that `import bgfetch` costs nothing.
_HOMES = {
    "api": ("App", "connect", "get"),
    "caches": ("Cache", "CacheStorage"),
    "core.matching": ("QueryOptions",),
    "core.model": ("FailureReason", "Headers", "Icon", "Progress", "Request", "Result", "State", "Verified"),
    "errors": (
        "Aborted", "AccessDenied", "BadStatus", "BgfetchError", "CacheError", "DaemonError", "DaemonNotRunning", "DownloadTotalExceeded", "DuplicateId",
        "FetchError", "IntegrityError", "InvalidPartialResponse", "InvalidRequest", "InvalidState", "NetworkError",
        "NotFound", "ProtocolMismatch", "QuotaExceeded", "SourceError",
    ),
    "manager": ("BackgroundFetchManager",),
    "registration": ("BackgroundFetchRecord", "BackgroundFetchRegistration"),
    "response": ("Response",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Aborted",
    "AccessDenied",
    "App",
    "BackgroundFetchManager",
    "BackgroundFetchRecord",
    "BackgroundFetchRegistration",
    "BadStatus",
    "BgfetchError",
    "Cache",
    "CacheError",
    "CacheStorage",
    "DaemonError",
    "DaemonNotRunning",
    "DownloadTotalExceeded",
    "DuplicateId",
    "FailureReason",
    "FetchError",
    "Headers",
    "Icon",
    "IntegrityError",
    "InvalidPartialResponse",
    "InvalidRequest",
    "InvalidState",
    "NetworkError",
    "NotFound",
    "Progress",
    "ProtocolMismatch",
    "QueryOptions",
    "QuotaExceeded",
    "Request",
    "Response",
    "Result",
    "SourceError",
    "State",
    "Verified",
    "connect",
    "get",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
