"""The settings of lineage events, which the service alone reads. Unset, there are none."""

from __future__ import annotations

import os
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings

from stream_app.settings_sources import SOURCES, read

_OWN = ("OPENLINEAGE__TRANSPORT", "OPENLINEAGE_CONFIG")
"""How the variables begin by which the client of OpenLineage is told of other transports than HTTP."""


def _url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise ValueError(f'"{value}" is no URL such as http://localhost:5000')
    return value


def _without_login(value: str) -> str:
    if "@" in urlsplit(value).netloc:
        shown = urlsplit(value).hostname
        raise ValueError(f'"…@{shown}" has a login in it, which others would see; put a key into OPENLINEAGE_API_KEY')
    return _url(value)


class LineageSettings(BaseSettings):
    """Where lineage events go. Each field is the environment variable of its name in capitals."""

    model_config = SOURCES

    openlineage_url: Annotated[str, AfterValidator(_without_login)] = ""
    """The receiver of lineage events, http://host:port, as Marquez or DataHub. Unset: none are sent, unless the
    client's own variables name another [transport](operations.md#openlineage)."""
    openlineage_api_key: SecretStr = SecretStr("")
    """A key that the receiver asks for, as a bearer token. Never logged."""
    openlineage_namespace: str = Field(default="kafka-medallion", min_length=1)
    """The namespace of the service's jobs, one a flow."""
    openlineage_minutes: float = Field(default=5, gt=0)
    """How many minutes apart the events are that say how much a flow has written."""

    @property
    def has_own_transport(self) -> bool:
        """Whether the client's own variables say where events go."""
        return any(value and name.startswith(_OWN) for name, value in os.environ.items())

    @property
    def is_on(self) -> bool:
        """Whether events are sent."""
        is_off = os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true"
        return not is_off and bool(self.openlineage_url or self.has_own_transport)


def load_lineage_settings(**overrides: object) -> LineageSettings:
    """Read the environment and `.env`. Raises ConfigError, one line that names each wrong setting and no secret."""
    return read(LineageSettings, **overrides)
