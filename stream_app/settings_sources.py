"""Where settings come from: environment variables, `.env` and files of secrets; and how a mistake in one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from stream_app.errors import ConfigError

# Where Docker and Kubernetes put secrets: a file for each, named as the setting.
_SECRETS = Path("/run/secrets")

# .env is shared with the producer, the containers and make
SOURCES = SettingsConfigDict(
    env_file=".env",
    secrets_dir=_SECRETS if _SECRETS.is_dir() else None,
    extra="ignore",
    frozen=True,
    env_ignore_empty=True,
    use_attribute_docstrings=True,
)
"""Where settings come from, and what they are."""

_Kind = TypeVar("_Kind", bound=BaseSettings)


def secrets_of(kind: type[BaseSettings]) -> frozenset[str]:
    """Return the settings whose values are never shown."""
    return frozenset(name for name, field in kind.model_fields.items() if field.annotation is SecretStr)


def read(kind: type[_Kind], **overrides: Any) -> _Kind:
    """Read settings of that kind. Raises ConfigError, one line that names each wrong setting and no secret."""
    try:
        return kind(**overrides)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        raise ConfigError("; ".join(_mistake(one, secrets_of(kind)) for one in mistakes)) from None


def _mistake(mistake: Any, secret: frozenset[str]) -> str:
    cause = str(mistake.get("ctx", {}).get("error") or mistake["msg"])
    if not mistake["loc"]:
        return cause
    name = str(mistake["loc"][0])
    shown = name not in secret and not cause.startswith('"')
    return f"{name.upper()}: {cause}" + (f", not {mistake['input']!r}" if shown else "")
