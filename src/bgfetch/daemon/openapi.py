"""The OpenAPI 3.1 document of the local API, made from the table of routes."""

from __future__ import annotations

from functools import cache
from typing import Final

from bgfetch.daemon.routes import ROUTES, Route, parameters
from bgfetch.version import __version__
from bgfetch.wire import Json
from bgfetch.worker.workers import Kind

__all__ = ["document"]

_ANY: Final[Json] = {}
_TEXT: Final[Json] = {"type": "string"}
_WHOLE: Final[Json] = {"type": "integer", "minimum": 0}
_TEXTS: Final[Json] = {"type": "object", "additionalProperties": {"type": "string"}}

# What the fields of bodies are; the details are `bgfetch.wire`'s, which refuses what is wrong by name.
_FIELDS: Final[dict[str, Json]] = {
    "scope": _TEXT,
    "id": {"type": "string", "minLength": 1},
    "title": _TEXT,
    "icons": {"type": "array", "items": {"$ref": "#/components/schemas/Icon"}},
    "requests": {"type": ["array", "null"], "items": {"$ref": "#/components/schemas/Request"}},
    "download_total": _WHOLE,
    "options": {"type": "object"},
    "environment": {**_TEXTS, "type": ["object", "null"]},
    "wish": {"enum": ["run", "pause", "abort"]},
    "data": _ANY,
    "from": _TEXT,
    "limit_rate": _WHOLE,
    "schedule": _TEXT,
    "paused": {"type": "boolean"},
    "version": _TEXT,
    "kind": {"enum": [str(kind) for kind in Kind]},
    "target": {"type": "array", "items": _TEXT, "minItems": 1},
    "python": _TEXT,
    "path": {"type": "array", "items": _TEXT},
    "directory": _TEXT,
    "time_limit": {"type": "number", "exclusiveMinimum": 0},
    "mailbox": {"type": "boolean"},
}
_SCHEMAS: Final[Json] = {
    "Icon": {
        "type": "object",
        "properties": dict.fromkeys(("src", "sizes", "type", "label"), _TEXT),
        "required": ["src"],
    },
    "Request": {
        "type": "object",
        "properties": {
            "url": _TEXT,
            "method": _TEXT,
            "headers": {
                "type": "array",
                "items": {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2},
            },
            "body": {"type": "string", "contentEncoding": "base64"},
            "integrity": _TEXT,
            "expected_size": _WHOLE,
        },
        "required": ["url"],
    },
    "Error": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": dict.fromkeys(("class", "name", "message"), _TEXT),
                "required": ["class", "name", "message"],
            }
        },
        "required": ["error"],
    },
}


@cache
def document() -> Json:
    """The document."""
    paths: Json = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "bgfetch", "summary": "The local API of the daemon", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(route: Route) -> Json:
    error = {"description": "An error", "content": _json({"$ref": "#/components/schemas/Error"})}
    operation: Json = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}_{route.path.strip('/').replace('/', '_').replace('.', '_')}",
        "responses": {
            str(route.status): {"description": "Done", "content": _content(route)},
            "default": error,
        },
    }
    places = [_parameter(name, "path") for name in parameters(route.path)]
    places += [_parameter(name, "query") for name in route.query]
    if places:
        operation["parameters"] = places
    if route.takes:
        body = {"type": "object", "properties": {name: _FIELDS[name] for name in route.takes}}
        operation["requestBody"] = {"content": _json({**body, "additionalProperties": False})}
    return operation


def _content(route: Route) -> Json:
    if route.handler is not None or route.path.endswith(".json"):
        return _json({"type": "object"})
    return {"text/event-stream" if route.path == "/v1/events" else "text/plain": {"schema": _TEXT}}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _parameter(name: str, place: str) -> Json:
    return {"name": name, "in": place, "required": place == "path", "schema": _TEXT}
