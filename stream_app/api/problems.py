"""What went wrong, as RFC 9457 has it: application/problem+json, and nothing of our insides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import duckdb
import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import Scope

from stream_app import logs
from stream_app.errors import ConfigError, StreamAppError
from stream_app.ops.selection import SelectionError
from stream_app.plain import plain

MEDIA = "application/problem+json"
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What is wrong, in a sentence",
        "content": {
            MEDIA: {
                "schema": {
                    "type": "object",
                    "required": ["title", "status", "detail"],
                    "properties": {
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                    },
                }
            }
        },
    }
}
"""What OpenAPI says of every operation's errors."""


_OPTION = "--"
_ASKED = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Problem(HTTPException):
    """A refusal with a sentence that says why."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer for a problem."""
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": plain(detail)}
    return Response(msgspec.json.encode(body), status, headers, MEDIA)


def known_only(request: Request) -> None:
    """Refuse a parameter that an operation does not have: one that is misspelt would be left out, and all be told."""
    route = request.scope["route"]
    known = {field.alias for field in route.dependant.query_params} if isinstance(route, APIRoute) else set()
    once(request, known)
    for name in request.query_params:
        if name not in known:
            there_are = f"there are {', '.join(sorted(known))}" if known else "there are none"
            raise Problem(HTTPStatus.BAD_REQUEST, f"{name}: is no parameter here; {there_are}")


def once(request: Request, names: Iterable[str]) -> None:
    """Refuse one of those parameters that is given twice: only the last one would be taken."""
    for name in sorted(names):
        if len(request.query_params.getlist(name)) > 1:
            raise Problem(HTTPStatus.BAD_REQUEST, f"{name}: is given twice")


def methods_of(routes: Sequence[BaseRoute], scope: Scope) -> str:
    """Return the methods of a path, which may be of several routes; nothing where there is no such path."""
    before_mounts = scope.get("app_root_path", scope.get("root_path", ""))
    found = set[str]()
    for method in _ASKED:
        asked = {**scope, "root_path": before_mounts, "method": method}
        if any(_takes(route, asked) for route in routes):
            found.add(method)
    return ", ".join(sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set()))) if found else ""


def _takes(route: BaseRoute, asked: Scope) -> bool:
    match, _ = route.matches(asked)
    return match is Match.FULL and (asked["method"] == "GET" or not isinstance(route, Mount))  # files have GET alone


def install(app: FastAPI) -> None:
    """Have every error of the application answered as a problem."""

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = methods_of(request.app.routes, request.scope)
            return problem(error.status_code, f"this path has {allowed}", {"Allow": allowed})
        detail = str(error.detail)
        if detail == HTTPStatus.NOT_FOUND.phrase:  # it is the framework's, which is the title already
            detail = "there is no such path; /docs describes those that there are"
        return problem(error.status_code, detail, error.headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: RequestValidationError) -> Response:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(map(_wrong, error.errors())))

    @app.exception_handler(SelectionError)
    def _selection(_: Request, error: SelectionError) -> Response:
        return problem(HTTPStatus.BAD_REQUEST, str(error))

    @app.exception_handler(StreamAppError)
    def _expected(_: Request, error: StreamAppError) -> Response:
        refused = isinstance(error, ConfigError)  # the state of things is against it, and the line says what to do
        if refused and str(error).startswith(_OPTION):  # of a command: here it is a member of the body
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error).removeprefix(_OPTION))
        return problem(HTTPStatus.CONFLICT if refused else HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    @app.exception_handler(duckdb.InterruptException)
    def _too_long(_: Request, __: duckdb.InterruptException) -> Response:
        return problem(HTTPStatus.GATEWAY_TIMEOUT, "the query took too long; ask for less, by from, to or a condition")

    @app.exception_handler(duckdb.OutOfMemoryException)
    def _too_much(_: Request, __: duckdb.OutOfMemoryException) -> Response:
        return problem(HTTPStatus.INSUFFICIENT_STORAGE, "the query needs too much memory; ask for less")

    @app.exception_handler(Exception)
    def _bug(request: Request, error: Exception) -> Response:
        logs.error(f"{request.method} {request.url.path} failed", error=f"{type(error).__name__}: {error}")
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "this is a fault of ours; the log of the API says more")


def _wrong(found: Mapping[str, Any]) -> str:
    """Return what is wrong with a parameter or the body, by its name."""
    if found["type"] == "json_invalid":
        return "body: is no JSON"
    return f"{'.'.join(str(part) for part in found['loc'][1:]) or found['loc'][0]}: {found['msg']}"
