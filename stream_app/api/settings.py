"""The settings of the API, beside those of the service by which it finds the outputs."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from stream_app.paths import FromRoot
from stream_app.settings_sources import SOURCES, read

_SHORTEST_SECRET = 32


def _secret(value: SecretStr) -> SecretStr:
    if 0 < len(value.get_secret_value().encode()) < _SHORTEST_SECRET:
        raise ValueError(f"is shorter than {_SHORTEST_SECRET} bytes; make one: openssl rand -hex 32")
    return value


def _jwks(value: str) -> str:
    parts = urlsplit(value)
    if value and not (parts.scheme == "https" or (parts.scheme == "http" and is_own(parts.hostname or ""))):
        raise ValueError(f'"{value}" is no https URL')
    return value


def _redis(value: SecretStr) -> SecretStr:
    """Refuse what a client could not even begin with; what it says of it may hold the password."""
    try:
        if url := value.get_secret_value():
            import redis  # noqa: PLC0415 - a tenth of the start of each command, which few of them need

            redis.ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError):
        problem = (
            "is no URL such as redis://user:password@host:6379/0, in which a / or @ of a password is written %2F or %40"
        )
        raise ValueError(problem) from None
    return value


def is_own(host: str) -> bool:
    """Return whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ApiSettings(BaseSettings):
    """What the API has of its own. Each field is the environment variable of its name in capitals."""

    model_config = SOURCES

    api_port: int = Field(default=5000, ge=0, le=65535)
    """The port of the API and the page. 0: `make run` starts none."""
    api_host: str = "127.0.0.1"
    """The address to listen on. Another one than this machine's own asks for API_JWT_SECRET or API_JWKS_URL."""
    api_socket: FromRoot | None = None
    """A Unix socket to listen on instead of a port: for a server before it, of the same user or group."""
    api_jwt_secret: Annotated[SecretStr, AfterValidator(_secret)] = SecretStr("")
    """The secret of bearer tokens signed by HS256, of 32 bytes or more. It switches tokens on. Never logged."""
    api_jwks_url: Annotated[str, AfterValidator(_jwks)] = ""
    """The https URL of the public keys of bearer tokens signed by RS256, ES256 or EdDSA. It switches tokens on."""
    api_jwt_audience: str = "stream-app"
    """What a token's `aud` must name."""
    api_jwt_issuer: str = "stream-app"
    """What a token's `iss` must be."""
    redis_url: Annotated[SecretStr, AfterValidator(_redis)] = SecretStr("")
    """Valkey or Redis, redis://host:6379/0, as a cache that several processes of the API share. While it is away,
    each has its own. Never logged."""

    @property
    def has_tokens(self) -> bool:
        """Whether requests need a bearer token."""
        return bool(self.api_jwt_secret.get_secret_value() or self.api_jwks_url)

    @model_validator(mode="after")
    def _is_closed(self) -> ApiSettings:
        if self.api_jwt_secret.get_secret_value() and self.api_jwks_url:
            raise ValueError("API_JWT_SECRET: is set and so is API_JWKS_URL; set one of them")
        if not self.has_tokens and not is_own(self.api_host) and not self.api_socket:
            problem = f'"{self.api_host}" lets others in without a token; set API_JWT_SECRET or API_JWKS_URL'
            raise ValueError(f"API_HOST: {problem}, or leave API_HOST at 127.0.0.1")
        return self


def load_api_settings(**overrides: Any) -> ApiSettings:
    """Read the environment and `.env`. Raises ConfigError, one line that names each wrong setting and no secret."""
    return read(ApiSettings, **overrides)
