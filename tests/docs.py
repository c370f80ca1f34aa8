"""Write what docs/ has of the code, of settings, places and the schema of feed files: python -m tests.docs."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from local.agent import BrokerSettings
from producer.settings import Settings as ProducerSettings
from stream_app.api.settings import ApiSettings
from stream_app.cli import main
from stream_app.observe.lineage_settings import LineageSettings
from stream_app.settings import PROJECT, Settings
from stream_app.storage.layout import PLACES, Layout
from tests import feed_schema, proofs

PAGE = PROJECT / "docs" / "settings.md"
OPERATIONS = PROJECT / "docs" / "operations.md"
STORAGE = PROJECT / "docs" / "storage.md"
GUARANTEES = PROJECT / "docs" / "guarantees.md"
# A table of the page, from the mark of its subject to the empty line behind it.
_TABLE = re.compile(
    r"(<!-- Made by `python -m tests\.docs` from stream_app/storage/layout\.py: (\w+) -->\n\n).*?\n\n", re.DOTALL
)

# All that comes after it.
_EXITS = re.compile(r"(<!-- Made by `python -m tests\.docs` from stream_app/cli/commands -->\n\n)(?:\|.*\n)*")
_PROOFS = "<!-- Made by `python -m tests.docs` from the marks of the tests (tests/proofs.py) -->\n"

_HEAD = """\
<!-- Made by `python -m tests.docs` from .env.example, local/agent.py and each settings.py. -->

# Settings

Settings are environment variables, lines in `.env`, or files in `/run/secrets`. An environment variable takes
precedence over `.env`, and `.env` over a file. Copy [.env.example](../.env.example) to `.env`, which make, the service,
the producer and Docker Compose all read. It names every setting.

- An empty value counts as unset.
- A file in `/run/secrets` has the name of its setting. Docker and Kubernetes put secrets there.
- A wrong setting is one line that names it. The exit code is 2. A secret is never shown.
- `make run FEEDS=a,b` and `FEEDS=a,b make run` both work. On make's command line, other names are refused.
"""

_API = """
## The API and the page

`make api` serves them beside a running service or without one. See [the API](api.md).

"""

_STACK = """
## The local stack

"""

_LINEAGE = """
## Lineage events

The service sends them to a receiver of [OpenLineage](operations.md#openlineage).

"""

_RUN = """\
| SECONDS_TO_RUN | | `make run` stops by itself, that many seconds after the app is up. |
| SPARK_SUBMIT_OPTS | | Options of the JVM, not read from `.env`: [faster starts](operations.md#faster-starts). |
"""

_COMPOSE = """
## Docker Compose

Ports are on 127.0.0.1. Two checkouts run side by side with other ports and another COMPOSE_PROJECT_NAME.
"""


def page() -> str:
    """Return what docs/settings.md has to say."""
    service = _table(Settings, set())
    producer = _table(ProducerSettings, {*Settings.model_fields})
    api = _table(ApiSettings, set())
    shared = """
The producer sends made-up records of a feed: `make produce FEED=user_activity`. It shares the settings of Kafka and
LOG_FORMAT with the service. `.venv/bin/python -m producer --help` lists all. A feed's own LATE_SHARE is 0.002 for
transactions and 0.05 for user_activity.

"""
    return "".join(
        (
            _HEAD,
            "\n## The service\n\n",
            *service,
            _API,
            *api,
            _LINEAGE,
            *_table(LineageSettings, set()),
            "\n## The producer\n",
            shared,
            *producer,
            _STACK,
            *_table(BrokerSettings, set()),
            _RUN,
            _COMPOSE,
            *_compose(),
        )
    )


def _table(settings: type[BaseSettings], without: set[str]) -> Iterator[str]:
    yield "| setting | default | meaning |\n| --- | --- | --- |\n"
    for name, field in settings.model_fields.items():
        if name not in without:
            meaning = " ".join((field.description or "").split())
            if values := _values(field.annotation):
                meaning = f"{', '.join(values)}. {meaning}"
            shown = f"{name.upper()}_\\*" if get_origin(field.annotation) is dict else name.upper()
            yield f"| {shown} | {_default(field.default)} | {meaning[:1].upper()}{meaning[1:].rstrip('.')}. |\n"


def _values(annotation: Any) -> list[str]:
    """Return the only values that a setting takes, if it lists them."""
    if get_origin(annotation) is Literal:
        return [f"`{value}`" for value in get_args(annotation) if value]
    if get_origin(annotation) is types.UnionType:
        return [value for part in get_args(annotation) for value in _values(part)]
    return []


def _default(value: Any) -> str:
    match value:
        case SecretStr() | None | "" | {}:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
        case Path():
            return str(value.relative_to(PROJECT) if value.is_absolute() else value)
        case timedelta():
            return f"{value.total_seconds() / 60:g} minutes"
        case _:
            return str(value)


def _compose() -> Iterator[str]:
    """Yield the last section of .env.example, whose values test_env_example.py compares with compose.yaml."""
    section = (PROJECT / ".env.example").read_text().partition("# ---- Docker Compose")[2].partition("\n")[2]
    yield "\n| setting | default | meaning |\n| --- | --- | --- |\n"
    for meaning, name, default in re.findall(r"^# (.*)\n#([A-Z_]+)=(.*)$", section, re.MULTILINE):
        yield f"| {name} | {default.strip(chr(34))} | {meaning[:1].upper()}{meaning[1:]}. |\n"


def storage_page() -> str:
    """Return what docs/storage.md has to say: its own text, with the tables that the layout makes."""
    return _TABLE.sub(lambda found: f"{found[1]}{''.join(_places(found[2]))}\n", STORAGE.read_text())


def _places(subject: str) -> Iterator[str]:
    """Yield the rows of the checkpoint, or of all that is outside of it."""
    yield f"| path | what it is | written by | when | flushed | if it is missing |\n|{' --- |' * 6}\n"
    inside = Layout.checkpoint.path
    for place in PLACES:
        is_inside = place.path.startswith(inside) and place is not Layout.checkpoint
        if is_inside == (subject == "checkpoint"):
            path = place.path.removeprefix(inside) if is_inside else place.path
            row = (f"`{path}`", place.what, place.writer, place.when, place.flushed, place.missing)
            yield f"| {' | '.join(row)} |\n"


def guarantees_page() -> str:
    """Return docs/guarantees.md with the table of promises as the tests' marks have it now."""
    text, mark, _ = GUARANTEES.read_text().partition(_PROOFS)
    return f"{text}{mark}\n{proofs.section()}"


def operations_page() -> str:
    """Return docs/operations.md with the exit codes that the commands have now."""
    rows = ["| command | 0 | 1 | 3 |", "| --- | --- | --- | --- |"]
    for name in main.names():
        exits = main.command(name).exits
        rows.append(f"| {name} | {' | '.join(exits.get(code, '') or '-' for code in (0, 1, 3))} |")
    return _EXITS.sub(lambda found: f"{found[1]}{chr(10).join(rows)}\n", OPERATIONS.read_text())


if __name__ == "__main__":
    PAGE.write_text(page())
    STORAGE.write_text(storage_page())
    GUARANTEES.write_text(guarantees_page())
    OPERATIONS.write_text(operations_page())
    feed_schema.PAGE.write_text(feed_schema.page())
