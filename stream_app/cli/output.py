"""How commands print: tables and progress for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from typing import Any

from rich.box import SIMPLE
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from stream_app.plain import plain


def foreign(text: object) -> Text:
    """Return text that others wrote as it is: brackets in it are no markup."""
    return Text(plain(text))


def table(title: str, *texts: str, numbers: tuple[str, ...] = ()) -> Table:
    """Return an empty table of columns of text, then columns of numbers."""
    made = Table(title=foreign(title), title_justify="left", box=SIMPLE)
    for column in texts:
        made.add_column(column, overflow="fold")
    for column in numbers:
        made.add_column(column, justify="right")
    return made


def print_json(value: object) -> None:
    """Print dataclasses, mappings and sequences of plain values as JSON."""
    print(json.dumps(as_json(value), indent=1))


def as_json(value: Any) -> Any:
    """Return a value as JSON has it.

    Times are in ISO 8601, those with a zone in UTC. Decimals, bytes and what JSON does not know become text, and a
    number that is none becomes null.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(as_json(key)): as_json(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [*map(as_json, value)]
    if isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _text(value)


def _text(value: Any) -> str | None:
    if isinstance(value, float):
        return None
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def print_wide(shown: RenderableType, narrowest: int) -> None:
    """Print a table; where the output is no terminal, or a narrow one, lines are longer rather than texts folded."""
    Console(width=max(Console().width, narrowest)).print(shown)


@contextmanager
def progress_bars(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield what shows a terminal on stderr how far things are: called with a name, how many are done, and of how many.

    Each name has a bar of its own, `<name>: <what>`.
    """
    console, tasks = Console(stderr=True), dict[str, TaskID]()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(f"{name}: {what}")
            bars.update(tasks[name], completed=done, total=total)

        yield show
