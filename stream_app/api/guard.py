"""Who may ask: bearer tokens where they are switched on, else only this machine's own browser and programs."""

from __future__ import annotations

import json
import math
import re
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import KeySet, OctKey
from joserfc.jwt import JWTClaimsRegistry, Token

from stream_app import logs
from stream_app.api.problems import Problem
from stream_app.api.settings import ApiSettings, is_own

Scope = Literal["read", "operate"]
_SYMMETRIC, _ASYMMETRIC = ["HS256"], ["RS256", "ES256", "EdDSA", "Ed25519"]
_LEEWAY_SECONDS = 30
_KEYS_SECONDS, _FETCH_AGAIN_SECONDS, _FETCH_TIMEOUT = 600.0, 30.0, 5.0
_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_LARGEST_KEYS = 1 << 20
_LONGEST_TOKEN = 8192
_BEARER = HTTPBearer(auto_error=False, description="A JWT with the scope read, or operate for what changes something")
_Sent = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


@dataclass(frozen=True)
class Caller:
    """Who asks: a token's subject, or this machine."""

    name: str


def is_of_this_machine(host: str) -> bool:
    """Return whether a Host header, as it was sent, names this machine.

    For one that it cannot read, the framework takes the address of the connection.
    """
    asked = _HOST.fullmatch(host)
    return bool(asked and is_own(asked["name"].strip("[]")))


class Guard:
    """Lets callers in, by a token's signature, issuer, audience, time and scopes."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._algorithms = _ASYMMETRIC if settings.api_jwks_url else _SYMMETRIC
        self._claims = JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": settings.api_jwt_issuer},
            aud={"essential": True, "value": settings.api_jwt_audience},
            exp={"essential": True},
        )
        # Issuers choose it still. It is the older name of Ed25519, which is taken as well (RFC 9864).
        warnings.filterwarnings("ignore", "EdDSA is deprecated", SecurityWarning)
        secret = settings.api_jwt_secret.get_secret_value()
        self._secret = OctKey.import_key(secret) if secret else None
        self._keys = _Keys(settings.api_jwks_url)

    def needs(self, scope: Scope) -> Any:
        """Return what an operation depends on, so that only callers with the scope reach it."""
        return Depends(self._checker(scope))

    def _checker(self, scope: Scope) -> Callable[..., Caller]:
        def of_token(request: Request, _: _Sent) -> Caller:  # that is for the description
            return self.caller(request, scope)

        def of_this_machine(request: Request) -> Caller:
            return self.caller(request, scope)

        return of_token if self._settings.has_tokens else of_this_machine

    def caller(self, request: Request, scope: Scope, *, may_wait: bool = True) -> Caller:
        """Return who asks. Raises Problem for whom the scope is not, and where it would wait for keys but may not."""
        if not self._settings.has_tokens:
            return self._of_this_machine(request, scope)
        kind, token = get_authorization_scheme_param(request.headers.get("authorization"))
        if kind.lower() != "bearer" or not token:
            raise _unauthorized("a bearer token is needed")
        return self._of_token(token, scope, may_wait=may_wait)

    def _of_this_machine(self, request: Request, scope: Scope) -> Caller:
        """Refuse what a page of another site has a browser of this machine change; by its host nobody asks so far."""
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if scope == "operate" and origin not in {None, f"{request.url.scheme}://{host}"}:
            raise Problem(HTTPStatus.FORBIDDEN, f"a page of {origin} may not do this")
        return Caller("this machine")

    def _of_token(self, text: str, scope: Scope, *, may_wait: bool) -> Caller:
        try:
            if len(text) > _LONGEST_TOKEN:
                raise ValueError("it is too long")
            token = self._decoded(text, may_wait=may_wait)
            self._claims.validate(token.claims)
        except (JoseError, ValueError) as error:
            raise _unauthorized(f"the token is not valid: {error}") from None
        claimed = token.claims.get("scope") or token.claims.get("scp")
        scopes = claimed.split() if isinstance(claimed, str) else claimed if isinstance(claimed, list) else []
        if scope not in scopes and not (scope == "read" and "operate" in scopes):
            raise Problem(HTTPStatus.FORBIDDEN, f"the token has not the scope {scope}")
        return Caller(str(token.claims.get("sub", "a token without sub")))

    def _decoded(self, text: str, *, may_wait: bool) -> Token:
        try:
            return jwt.decode(text, self._key(may_wait=may_wait), algorithms=self._algorithms)
        except (JoseError, ValueError):
            if not may_wait or not self._keys.are_stale():
                raise
            self._keys.fetch()  # it may be signed by a key that is new
            return jwt.decode(text, self._key(may_wait=may_wait), algorithms=self._algorithms)

    def _key(self, *, may_wait: bool) -> Any:
        return self._secret or self._keys.current(may_wait=may_wait)


@dataclass
class _Keys:
    """The public keys at API_JWKS_URL, fetched when they are needed, and again at times."""

    url: str
    _found: KeySet | None = None
    _at: float = -math.inf
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def current(self, *, may_wait: bool) -> KeySet:
        """Return the keys. Raises Problem while there are none, or none of late where nobody may wait for them."""
        if self._found is None or time.monotonic() - self._at > _KEYS_SECONDS:
            if not may_wait:
                raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the keys are to be fetched")
            self.fetch()
        if self._found is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "API_JWKS_URL gives no keys; the log of the API says why")
        return self._found

    def are_stale(self) -> bool:
        """Return whether they may be fetched again for a key that is unknown: not with every forged token."""
        return bool(self.url) and time.monotonic() - self._at > _FETCH_AGAIN_SECONDS

    def fetch(self) -> None:
        """Fetch them; those of the last time stay where that fails."""
        with self._lock:
            self._at = time.monotonic()
            try:
                with urllib.request.urlopen(self.url, timeout=_FETCH_TIMEOUT) as answer:  # noqa: S310 - https, as checked
                    self._found = KeySet.import_key_set(json.loads(answer.read(_LARGEST_KEYS)))
            except (OSError, ValueError, JoseError) as error:
                logs.warning("API_JWKS_URL gives no keys", error=f"{type(error).__name__}: {error}")


def _unauthorized(detail: str) -> Problem:
    return Problem(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": "Bearer"})
