"""Answers with an ETag: by the newest batches where these decide on the answer, else by what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from http import HTTPStatus

from fastapi import Request
from starlette.responses import Response

from stream_app.api.cache import Answer, Cache
from stream_app.api.formats import LARGEST_BYTES, Numbers, encode
from stream_app.api.problems import Problem

JSON = "application/json"


def cached(request: Request, cache: Cache, versions: Sequence[str], media: str, make: Callable[[], Answer]) -> Response:
    """Return the answer that was made of those versions for this question, or make it; 304 for a client that has it."""
    asked = f"{request.url.path}?{request.url.query} {media} {' '.join(versions)}"
    key = blake2b(asked.encode(), digest_size=16).hexdigest()
    if _has(request, key):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_headers(key))
    answer = cache.get(key)
    if answer is None:
        with cache.making(key):
            answer = cache.get(key) or _made(cache, key, make)
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
    tag = blake2b(body, digest_size=16).hexdigest()
    if _has(request, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_headers(tag))
    return Response(body, headers=_headers(tag), media_type=JSON)


def _has(request: Request, tag: str) -> bool:
    """Return whether the client holds that answer; a proxy that compresses makes a weak tag of a strong one."""
    held = request.headers.get("if-none-match", "")
    return tag in {one.strip().removeprefix("W/").strip('"') for one in held.split(",")}


def _headers(tag: str) -> Mapping[str, str]:
    return {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
