"""The producer's settings: environment variables or `.env`. Which feed is sent is a command's option."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import SettingsConfigDict

from producer.connection import ConnectionSettings
from producer.faults import Shares

_DURATION = re.compile(r"([1-9]\d{0,5}) (second|minute|hour|day)s?")
# Further back are times that Kafka, or who reads its records, may not take.
_LONGEST = timedelta(days=366)
# Where Docker and Kubernetes put secrets: a file for each, named as the setting.
_SECRETS = Path("/run/secrets")
_TOPIC = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}")

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class SettingsError(Exception):
    """A setting refuses the start; the message is one line that names it, without secrets. Exit code 2."""


def _span(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if value == "0":
        return timedelta()
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        problem = 'expected 0 or a duration such as "15 minutes"'
        raise ValueError(problem)
    span = timedelta(**{f"{match[2]}s": int(match[1])})
    if span > _LONGEST:
        problem = f"expected at most {_LONGEST.days} days"
        raise ValueError(problem)
    return span


def _topic(value: str) -> str:
    if value and not _TOPIC.fullmatch(value):
        problem = "expected a topic name: at most 249 letters, digits, dots, underscores and hyphens"
        raise ValueError(problem)
    return value


class Settings(ConnectionSettings):
    """Each field is the environment variable of its name in capitals; an empty variable counts as unset."""

    # `.env` is shared with the app, so it may hold settings that are not ours.
    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        secrets_dir=_SECRETS if _SECRETS.is_dir() else None,
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    kafka_topic: Annotated[str, AfterValidator(_topic)] = Field(
        default="", description="the topic; unset: the feed's own"
    )
    msgs_per_sec: float = Field(
        default=5, ge=0, le=10_000_000, allow_inf_nan=False, description="messages a second; 0: as fast as it can"
    )
    count: int = Field(default=0, ge=0, description="stop after this many, BACKFILL included; 0: never")
    seed: int | None = Field(
        default=None, ge=0, description="same seed, same records; unset: another one each run, logged"
    )
    backfill: Annotated[timedelta, BeforeValidator(_span)] = Field(
        default=timedelta(minutes=15),
        description="first the history of this span, at most 366 days, at MSGS_PER_SEC (at 5 where that is 0); 0: none",
    )
    bad_share: Share = Field(default=0.003, description="share of records that break the feed's contract; 0: none")
    late_share: Share | None = Field(
        default=None, description="share of records dated too long before their Kafka timestamp; unset: the feed's own"
    )
    future_share: Share = Field(default=0.001, description="share of records dated too far after their Kafka timestamp")
    repeat_share: Share = Field(default=0.003, description="share of records that were sent before, byte for byte")
    kafka_compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="gzip", description="codec of batches"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="text, or json: one object a line")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.bad_share + (self.late_share or 0) + self.future_share + self.repeat_share > 1:
            problem = "BAD_SHARE, LATE_SHARE, FUTURE_SHARE, REPEAT_SHARE: together more than 1"
            raise ValueError(problem)
        return self

    def shares(self, late: float) -> Shares:
        """Return the shares of all faults.

        `late` is the feed's own share, for want of LATE_SHARE. It yields to the other shares.
        """
        room = 1 - self.bad_share - self.future_share - self.repeat_share
        late = min(late, room) if self.late_share is None else self.late_share
        return Shares(self.bad_share, late, self.future_share, self.repeat_share)


_SECRET = frozenset(name.upper() for name, field in Settings.model_fields.items() if field.annotation is SecretStr)


def load_settings(**given: Any) -> Settings:
    """Read the environment and `.env`; what is given takes precedence.

    Raises SettingsError, one line naming the wrong settings, no secret.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError("; ".join(_mistake(one) for one in error.errors(include_url=False))) from None
    except (OSError, UnicodeDecodeError) as error:
        problem = f".env: cannot be read: {error}"
        raise SettingsError(problem) from None


def _mistake(mistake: Any) -> str:
    problem = str(mistake["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if not mistake["loc"]:
        return problem
    name = str(mistake["loc"][0]).upper()
    return f"{name}: {problem}" + ("" if name in _SECRET else f", not {str(mistake['input'])!r}")


def describe_settings() -> str:
    """List the settings with their defaults, a line each, for --help."""
    shown = {name: name.upper() + ("_*" if name == "kafka_client" else "") for name in Settings.model_fields}
    width = max(map(len, shown.values()))
    return "\n".join(
        f"  {shown[name]:{width}}  {field.description}{_default(field.default)}"
        for name, field in Settings.model_fields.items()
    )


def _default(value: object) -> str:
    if isinstance(value, timedelta):
        return f" [{value.total_seconds() / 60:g} minutes]"
    return f" [{value}]" if isinstance(value, str | float | int) and value != "" else ""
