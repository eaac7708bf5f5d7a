"""The JSON of the local API, both ways: what a client sends and what the daemon tells.

Plain dataclasses and the standard library: a client that is started for one question pays for no schema library.
Reading is strict. A field of another type, a field too many or a field missing is `InvalidRequest` and names itself, so
that a client and a daemon of different versions never half understand each other: what one of them may not know yet is
announced by `PROTOCOL`.

Requests here carry their secrets, since this is how a client hands them to the daemon. They travel over a socket that
only its owner may open, live in the daemon's memory and are never stored.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeVar

from bgfetch import errors
from bgfetch.core.model import (
    FailureReason,
    Headers,
    Icon,
    Progress,
    ReplyHead,
    Request,
    Result,
    State,
)
from bgfetch.core.urls import redacted
from bgfetch.errors import BgfetchError, DaemonError, FetchError, InvalidRequest
from bgfetch.registrations.port import LoggedEvent, RecordRow, RegistrationOptions, RegistrationRow, Wish
from bgfetch.running import Look

__all__ = [
    "PROTOCOL",
    "Amendment",
    "Asked",
    "Fields",
    "Hello",
    "Json",
    "Run",
    "ToldProgress",
    "dump",
    "load",
    "pack_error",
    "pack_icons",
    "pack_line",
    "pack_look",
    "pack_options",
    "pack_progress",
    "pack_record",
    "pack_registration",
    "pack_reply",
    "pack_request",
    "unpack_error",
    "unpack_icons",
    "unpack_line",
    "unpack_look",
    "unpack_options",
    "unpack_progress",
    "unpack_reply",
    "unpack_request",
]

PROTOCOL: Final = 1
"""Raised when an older client would misunderstand the daemon, or an older daemon a client."""

Json = dict[str, Any]
_MOST_NUMBER: Final = 1 << 63  # the store holds none beyond it, and far beyond it no float does
_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


def dump(value: object) -> bytes:
    """JSON as it is sent; what is not ASCII is escaped, so that it stays one line wherever it is printed."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def load(data: bytes | str, what: str) -> Json:
    """The JSON object in these bytes.

    Raises:
        InvalidRequest: They are none; `what` says of what.
    """
    try:
        value = json.loads(data, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what}: this is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what}: a JSON object is wanted, this is {_kind(value)}")
    return value


def _finite(text: str) -> float:
    """A number; NaN and what is too large for one are no JSON, and could not be told again."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is no number of JSON")
    return value


class Fields:
    """A JSON object that is taken apart field by field; `end` refuses what nobody asked for.

    Args:
        value: What came.
        what: Names it in errors.
    """

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise InvalidRequest(f"{what}: a JSON object is wanted, this is {_kind(value)}")
        self._left: Json = dict(value)
        self._what = what

    def take(self, name: str, kind: type[_T], default: _T | None = None) -> _T:
        """The field, which must be of this type; without a default it must be there."""
        value = self._left.pop(name, default)
        if type(value) is int and abs(value) >= _MOST_NUMBER:
            raise self._wrong(name, "a number that can count something is wanted", value)
        if kind is float and type(value) is int:
            value = float(value)
        if value is None or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(name, f"{_NAMES.get(kind, kind.__name__)} is wanted", value)
        return value

    def there(self, name: str) -> bool:
        """Whether the field is there and not null; a null one counts as taken."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return False
        return True

    def maybe(self, name: str, kind: type[_T]) -> _T | None:
        """The field, or None where it is null or not there."""
        return self.take(name, kind) if self.there(name) else None

    def one_of(self, name: str, words: type[_E], default: _E | None = None) -> _E:
        """The field, which must be one of these words."""
        text = self.take(name, str, None if default is None else default.value)
        try:
            return words(text)
        except ValueError:
            raise self._wrong(
                name, f"one of {', '.join(repr(str(it)) for it in words)} is wanted", text
            ) from None

    def texts(self, name: str) -> dict[str, str]:
        """An object of texts, {} where it is null or not there."""
        value: Json = self.maybe(name, dict) or {}
        if not all(isinstance(each, str) for each in value.values()):
            raise self._wrong(name, "an object of texts is wanted", value)
        return value

    def each(
        self, name: str, unpack: Callable[[object], _T], default: list[object] | None = None
    ) -> list[_T]:
        """The items of a list."""
        items: list[object] = self.take(name, list, default)
        return [unpack(item) for item in items]

    def anything(self, name: str) -> Any:
        """The field, whatever it is; null where it is not there."""
        return self._left.pop(name, None)

    def rest(self) -> Json:
        """Whatever has not been taken."""
        left, self._left = self._left, {}
        return left

    def end(self) -> None:
        """Refuse what is left: nobody here knows what it means."""
        if self._left:
            raise InvalidRequest(f"{self._what}: there is no field {next(iter(self._left))!r}")

    def _wrong(self, name: str, wanted: str, value: object) -> InvalidRequest:
        got = "it is missing" if value is None else f"this is {_kind(value)}"
        return InvalidRequest(f"{self._what}: {name}: {wanted}, {got}")


_NAMES: Final[dict[object, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def _kind(value: object) -> str:
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


# What is asked for.


@dataclass(frozen=True, slots=True)
class Asked:
    """`POST /v1/registrations`: what `BackgroundFetchManager.fetch` takes, and whose environment counts.

    Args:
        environment: Variables of the client that decide about proxies, certificates and credentials.
    """

    scope: str
    id: str
    requests: Sequence[Request]
    title: str = ""
    icons: Sequence[Icon] = ()
    download_total: int = 0
    options: RegistrationOptions = field(default_factory=RegistrationOptions)
    environment: Mapping[str, str] = field(default_factory=dict)

    def pack(self) -> Json:
        """As JSON."""
        return {
            "scope": self.scope,
            "id": self.id,
            "requests": [pack_request(each) for each in self.requests],
            "title": self.title,
            "icons": pack_icons(self.icons),
            "download_total": self.download_total,
            "options": pack_options(self.options),
            "environment": dict(self.environment),
        }

    @classmethod
    def unpack(cls, value: object) -> Asked:
        """From JSON; InvalidRequest."""
        it = Fields(value, "registration")
        asked = cls(
            scope=it.take("scope", str, "default"),
            id=it.take("id", str),
            requests=it.each("requests", unpack_request),
            title=it.take("title", str, ""),
            icons=unpack_icons(it.take("icons", list, [])),
            download_total=it.take("download_total", int, 0),
            options=unpack_options(it.take("options", dict, {}), RegistrationOptions()),
            environment=it.texts("environment"),
        )
        it.end()
        return asked


@dataclass(frozen=True, slots=True)
class Run:
    """`POST /v1/registrations/{uid}/run`: go on with it, with what the store does not keep.

    Args:
        requests: In the order of its records, secrets included; a body may be left out, since it is stored. None where
            there is nothing to add.
        environment: As in `Asked`; None leaves what was said before.
    """

    requests: Sequence[Request] | None = None
    environment: Mapping[str, str] | None = None

    def pack(self) -> Json:
        """As JSON."""
        requests = None if self.requests is None else [pack_request(each) for each in self.requests]
        environment = None if self.environment is None else dict(self.environment)
        return {"requests": requests, "environment": environment}

    @classmethod
    def unpack(cls, value: object) -> Run:
        """From JSON; InvalidRequest."""
        it = Fields(value, "run")
        requests = it.each("requests", unpack_request) if it.there("requests") else None
        environment = it.texts("environment") if it.there("environment") else None
        it.end()
        return cls(requests, environment)


@dataclass(frozen=True, slots=True)
class Amendment:
    """`PATCH /v1/registrations/{uid}`: what is to change; None leaves a thing as it is.

    Args:
        options: Only the options to change, by name.
    """

    wish: Wish | None = None
    title: str | None = None
    icons: Sequence[Icon] | None = None
    options: Mapping[str, Any] | None = None

    def pack(self) -> Json:
        """As JSON."""
        packed: Json = {"wish": self.wish, "title": self.title, "options": self.options}
        packed["icons"] = None if self.icons is None else pack_icons(self.icons)
        return {name: value for name, value in packed.items() if value is not None}

    @classmethod
    def unpack(cls, value: object) -> Amendment:
        """From JSON; InvalidRequest."""
        it = Fields(value, "amendment")
        wish = it.one_of("wish", Wish) if it.there("wish") else None
        icons = it.maybe("icons", list)
        options: Json | None = it.maybe("options", dict)
        if options is not None:
            unpack_options(options, RegistrationOptions())
        amendment = cls(wish, it.maybe("title", str), None if icons is None else unpack_icons(icons), options)
        it.end()
        return amendment


# What is told.


@dataclass(frozen=True, slots=True)
class Hello:
    """`GET /v1/`: who answers.

    Args:
        protocol: See `PROTOCOL`.
        started_at: Seconds since the epoch.
        unfinished: Registrations that have not settled.
        restart_loses: What would be lost if it ended now and another one began, each in words; nothing else would.
    """

    version: str
    protocol: int
    pid: int
    home: str
    started_at: float
    unfinished: int
    restart_loses: Sequence[str] = ()

    @property
    def restartable(self) -> bool:
        """Whether another one may take its place at any time."""
        return not self.restart_loses

    def pack(self) -> Json:
        """As JSON."""
        packed: Json = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**packed, "restartable": self.restartable, "restart_loses": list(self.restart_loses)}

    @classmethod
    def unpack(cls, value: object) -> Hello:
        """From JSON of any version: only what never changes must be there; InvalidRequest."""
        it = Fields(value, "handshake")
        return cls(
            version=it.take("version", str),
            protocol=it.take("protocol", int),
            pid=it.take("pid", int),
            home=it.take("home", str, ""),
            started_at=it.take("started_at", float, 0.0),
            unfinished=it.take("unfinished", int, 0),
            restart_loses=[str(each) for each in it.take("restart_loses", list, [])],
        )


@dataclass(frozen=True, slots=True)
class ToldProgress:
    """An event `progress`: how a registration stands, and which one it is."""

    uid: int
    scope: str
    id: str
    progress: Progress

    def pack(self) -> Json:
        """As JSON."""
        return {"uid": self.uid, "scope": self.scope, "id": self.id, **pack_progress(self.progress)}

    @classmethod
    def unpack(cls, value: object) -> ToldProgress:
        """From JSON; InvalidRequest."""
        it = Fields(value, "progress")
        uid, scope, id_ = it.take("uid", int), it.take("scope", str), it.take("id", str)
        return cls(uid, scope, id_, unpack_progress(it.rest()))


# The nouns.


def pack_request(request: Request) -> Json:
    """A request, secrets included; what is default is left out."""
    packed: Json = {"url": request.url, "method": request.method}
    if request.headers:
        packed["headers"] = [list(pair) for pair in request.headers.pairs]
    if request.body is not None:
        packed["body"] = base64.b64encode(request.body).decode("ascii")
    if request.integrity:
        packed["integrity"] = request.integrity
    if request.expected_size is not None:
        packed["expected_size"] = request.expected_size
    return packed


def unpack_request(value: object) -> Request:
    """What `pack_request` packed, or a URL alone; whether it can work is not looked at. InvalidRequest."""
    it = Fields({"url": value} if isinstance(value, str) else value, "request")
    body = it.maybe("body", str)
    request = Request(
        it.take("url", str),
        it.take("method", str, "GET"),
        Headers(it.each("headers", _pair, [])),
        None if body is None else _decoded(body),
        it.take("integrity", str, ""),
        it.maybe("expected_size", int),
    )
    it.end()
    return request


def _pair(value: object) -> tuple[str, str]:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value):
        return value[0], value[1]
    raise InvalidRequest("request: headers: each is a list of a name and a value")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"request: body: this is not base64 ({error})") from error


def pack_icons(icons: Iterable[Icon]) -> list[Json]:
    """Icons; what is empty is left out."""
    return [
        {"src": icon.src, **{name: text for name, text in asdict(icon).items() if text}} for icon in icons
    ]


def unpack_icons(values: Iterable[object]) -> list[Icon]:
    """What `pack_icons` packed; InvalidRequest."""
    return [_icon(value) for value in values]


def _icon(value: object) -> Icon:
    it = Fields(value, "icon")
    names = ("sizes", "type", "label")
    icon = Icon(it.take("src", str), **{name: it.take(name, str, "") for name in names})
    it.end()
    return icon


_PLAIN: Final = RegistrationOptions()


def pack_options(options: RegistrationOptions) -> Json:
    """The options that are not the default ones."""
    packed: Json = {}
    for each in fields(options):
        value = getattr(options, each.name)
        if value != getattr(_PLAIN, each.name):
            packed[each.name] = dict(value) if isinstance(value, Mapping) else value
    return packed


def unpack_options(value: Mapping[str, Any], before: RegistrationOptions) -> RegistrationOptions:
    """These options as they are after some of them changed; InvalidRequest."""
    it = Fields(dict(value), "options")
    changed: Json = {each.name: getattr(before, each.name) for each in fields(before)}
    for each in fields(before):
        if it.there(each.name):
            plain = getattr(_PLAIN, each.name)
            changed[each.name] = (
                it.texts(each.name) if isinstance(plain, Mapping) else it.take(each.name, type(plain))
            )
    it.end()
    return RegistrationOptions(**changed)


def pack_progress(progress: Progress) -> Json:
    """Every field of it."""
    return {each.name: getattr(progress, each.name) for each in fields(progress)}


def unpack_progress(value: object) -> Progress:
    """What `pack_progress` packed; what a newer daemon says besides is passed over. InvalidRequest."""
    it = Fields(value, "progress")
    return Progress(
        downloaded=it.take("downloaded", int),
        download_total=it.take("download_total", int),
        uploaded=it.take("uploaded", int, 0),
        upload_total=it.take("upload_total", int, 0),
        rate=it.take("rate", float, 0.0),
        eta=it.maybe("eta", float),
        state=it.one_of("state", State),
        until=it.maybe("until", float),
        connections=it.take("connections", int, 0),
        result=it.one_of("result", Result, Result.NONE),
        failure_reason=it.one_of("failure_reason", FailureReason, FailureReason.NONE),
        failure_detail=it.take("failure_detail", str, ""),
    )


def pack_reply(reply: ReplyHead | None) -> Json | None:
    """The head of a reply."""
    if reply is None:
        return None
    return {"url": reply.url, "status": reply.status, "headers": [list(pair) for pair in reply.headers.pairs]}


def unpack_reply(value: object) -> ReplyHead | None:
    """What `pack_reply` packed; InvalidRequest."""
    if value is None:
        return None
    it = Fields(value, "reply")
    return ReplyHead(it.take("url", str), it.take("status", int), Headers(it.each("headers", _pair, [])))


def pack_registration(row: RegistrationRow, progress: Progress) -> Json:
    """A registration as it is stored, and how it stands now."""
    told = ("uid", "scope", "id", "title", "created_at", "settled_at", "records_available", "wish")
    packed: Json = {name: getattr(row, name) for name in told}
    packed["icons"] = pack_icons(row.icons)
    packed["options"] = pack_options(row.options)
    packed["promised_total"] = row.download_total
    return {**packed, **pack_progress(progress)}


def pack_record(row: RecordRow) -> Json:
    """A record as it is stored; of its URL the query may be a secret, and is left out."""
    told = (
        "index", "downloaded", "uploaded", "total", "result", "failure_reason", "failure_detail", "verified", "digest",
        "blob", "restarts",
    )  # fmt: skip
    packed: Json = {name: getattr(row, name) for name in told}
    return {
        **packed,
        "url": redacted(row.request.url),
        "method": row.request.method,
        "reply": pack_reply(row.reply),
    }


def pack_look(look: Look) -> Json:
    """How a record stands at this moment."""
    return {
        "reply": pack_reply(look.reply),
        "generation": look.generation,
        "front": look.front,
        "total": look.total,
    }


def unpack_look(value: object) -> Look:
    """What `pack_look` packed; InvalidRequest."""
    it = Fields(value, "look")
    reply: Json | None = it.maybe("reply", dict)
    return Look(
        unpack_reply(reply), it.take("generation", int), it.take("front", int), it.maybe("total", int)
    )


def pack_line(line: LoggedEvent) -> Json:
    """A line of the log."""
    return {each.name: getattr(line, each.name) for each in fields(line)}


def unpack_line(value: object) -> LoggedEvent:
    """What `pack_line` packed; InvalidRequest."""
    it = Fields(value, "log")
    return LoggedEvent(
        it.take("seq", int),
        it.take("uid", int),
        it.take("scope", str),
        it.take("id", str),
        it.take("at", float),
        it.take("name", str),
        it.take("detail", str, ""),
    )


def pack_error(error: BgfetchError) -> Json:
    """An error, by the name of its public class."""
    public = next(kind for kind in type(error).__mro__ if kind.__name__ in errors.__all__)
    told: Json = {"class": public.__name__, "name": error.name, "message": str(error)}
    if isinstance(error, FetchError):
        told |= {"registration_id": error.registration_id, "url": error.url}
    return {"error": told}


def unpack_error(value: object) -> BgfetchError:
    """The error that was packed, of the same class; a `DaemonError` where this version has no such class."""
    it = Fields(Fields(value, "answer").take("error", dict), "error")
    name, message = it.take("class", str), it.take("message", str, "")
    kind = getattr(errors, name, None) if name in errors.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, BgfetchError)):
        return DaemonError(message)
    if issubclass(kind, FetchError):
        return kind(message, registration_id=it.take("registration_id", str, ""), url=it.take("url", str, ""))
    return kind(message)
