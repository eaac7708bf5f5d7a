"""The document of the local API and the application say the same."""

from __future__ import annotations

from typing import Any, cast

from starlette.applications import Starlette
from starlette.routing import Route

from bgfetch.daemon.app import application
from bgfetch.daemon.openapi import document
from bgfetch.daemon.routes import ROUTES


def test_document_has_every_route() -> None:
    """Each route that is served is described, and none besides."""
    guard = application(cast("Any", None))
    app = cast("Starlette", guard._inner)
    served = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(method.upper(), path) for path, each in document()["paths"].items() for method in each}
    assert served == described == {(route.method, route.path) for route in ROUTES}


def test_operations_are_whole() -> None:
    """Each has an id of its own, its parameters, its body and its errors; each reference leads somewhere."""
    operations = [each for path in document()["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    for path, methods in document()["paths"].items():
        for each in methods.values():
            named = {it["name"] for it in each.get("parameters", []) if it["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}
            assert "default" in each["responses"]
    schemas = document()["components"]["schemas"]
    for name in ("Error", "Icon", "Request"):
        assert name in schemas
