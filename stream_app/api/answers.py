"""Answers with an ETag: by the newest batches where these decide on the answer, else by what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from http import HTTPStatus

from fastapi import Request
from starlette.responses import Response

from stream_app.api.cache import Answer, Cache
from stream_app.api.context import Context
from stream_app.api.formats import LARGEST_BYTES, Numbers, encode
from stream_app.api.problems import Problem
from stream_app.api.questions import Asked, Question
from stream_app.api.versions import Source

JSON = "application/json"


def cached(
    request: Request, context: Context, sources: Sequence[Source], media: str, make: Callable[[], Answer]
) -> Response:
    """Return the answer that was made of those sources for this question, or make it; 304 for a client that has it."""
    asked, flows = Asked.of(request), context.declared.held()
    key = _key(asked, media, [context.versions.of(source) for source in sources])
    response = _held(request, key, context.cache.get)
    if response is None:
        with context.cache.making(key):
            response = _whole(key, context.cache.get(key) or _made(context.cache, key, make))
    context.questions.note(asked, Question(flows, tuple(sources), media, request.scope.get("route")))
    return response


def known(request: Request, context: Context, question: Question) -> Response | None:
    """Return the answer to what was asked before, if nothing has changed and it is in this process: nobody waits."""
    if question.flows is not context.declared.held():
        return None
    versions = [version for source in question.sources if (version := context.versions.held(source))]
    if len(versions) < len(question.sources):
        return None
    return _held(request, _key(Asked.of(request), question.media, versions), context.cache.held)


def _key(asked: Asked, media: str, versions: Sequence[str]) -> str:
    text = f"{asked.path}?{asked.query.decode('latin-1')} {media} {' '.join(versions)}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _held(request: Request, key: str, find: Callable[[str], Answer | None]) -> Response | None:
    if _has(request, key):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_headers(key))
    return _whole(key, answer) if (answer := find(key)) else None


def _whole(key: str, answer: Answer) -> Response:
    return Response(answer.body, headers={**_headers(key), **answer.headers}, media_type=answer.media)


def _made(cache: Cache, key: str, make: Callable[[], Answer]) -> Answer:
    answer = make()
    if len(answer.body) > LARGEST_BYTES:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "limit: the answer is larger than 16 MiB; ask for fewer rows"
        )
    cache.put(key, answer)
    return answer


def told(request: Request, value: object, numbers: Numbers = "string") -> Response:
    """Return a value as JSON; 304 for a client that has the same."""
    body = encode(value, numbers)
    answer = Answer(body, JSON, {})
    key = blake2b(body, digest_size=16).hexdigest()
    return _held(request, key, lambda _: answer) or _whole(key, answer)


def _has(request: Request, tag: str) -> bool:
    """Return whether the client holds that answer; a proxy that compresses makes a weak tag of a strong one."""
    held = request.headers.get("if-none-match", "")
    return held.strip() == "*" or tag in {one.strip().removeprefix("W/").strip('"') for one in held.split(",")}


def _headers(tag: str) -> Mapping[str, str]:
    return {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
