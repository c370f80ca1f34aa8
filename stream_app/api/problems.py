"""What went wrong, as RFC 9457 has it: application/problem+json, and nothing of our insides."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import duckdb
import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

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


class Problem(HTTPException):
    """A refusal with a sentence that says why."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer for a problem."""
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": plain(detail)}
    return Response(msgspec.json.encode(body), status, headers, MEDIA)


def install(app: FastAPI) -> None:
    """Have every error of the application answered as a problem."""

    @app.exception_handler(HTTPException)
    def _http(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: RequestValidationError) -> Response:
        found = (
            f"{'.'.join(str(part) for part in one['loc'][1:]) or one['loc'][0]}: {one['msg']}" for one in error.errors()
        )
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(found))

    @app.exception_handler(SelectionError)
    def _selection(_: Request, error: SelectionError) -> Response:
        return problem(HTTPStatus.BAD_REQUEST, str(error))

    @app.exception_handler(StreamAppError)
    def _expected(_: Request, error: StreamAppError) -> Response:
        refused = isinstance(error, ConfigError)  # the state of things is against it, and the line says what to do
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
