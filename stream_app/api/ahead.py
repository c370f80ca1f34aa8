"""Answers what is known before the framework is asked, whose routing and threads cost ten times as much as that."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from stream_app.api.answers import known
from stream_app.api.context import Context
from stream_app.api.problems import Problem
from stream_app.api.questions import Asked


class Ahead:
    """Answers a caller who may read and asks what was asked before, while nothing has changed: all else goes on.

    It looks at a few files and waits for nothing, as it runs where all connections are served.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have it answered."""
        is_question = scope["type"] == "http" and scope["method"] == "GET"
        response = self._response(Request(scope)) if is_question else None
        await (response or self._app)(scope, receive, send)

    def _response(self, request: Request) -> Response | None:
        question = self._context.questions.get(Asked.of(request))
        if question is None:
            return None
        try:
            self._context.guard.caller(request, "read", may_wait=False)
        except Problem:  # the framework answers so, or waits for keys first
            return None
        request.scope["route"] = question.route
        return known(request, self._context, question)
