"""Tables that are made of feeds' tables by SQL: a file each in the folder `gold` beside FEEDS_PATH.

    -- feeds: user_events, transaction_events
    -- looks back: 6 days
    SELECT event_date, ... FROM user_events ...

It is Spark's SQL, and each feed is a view. A row has the column event_date. It may depend on rows of that day, and of
as many days before it as the file says. A run makes those days again that depend on changed days of the feeds.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from stream_app.errors import ConfigError
from stream_app.feeds.parts import IDENTIFIER

_HEAD = re.compile(r"^-- (feeds|looks back): *(.*?) *$", re.MULTILINE)
_DAYS = re.compile(r"([1-9]\d{0,3}) days?")
QUARANTINE = "quarantine"
"""The folder of what the contracts refuse, by feed; no table has that name."""


@dataclass(frozen=True)
class Table:
    """A table by SQL."""

    name: str
    feeds: tuple[str, ...]
    looks_back: int
    """On how many days before its own a row may depend."""
    sql: str

    def affected(self, changed: Collection[date], held: Collection[date]) -> list[date]:
        """Return the days to be made again, in order, where days of its feeds were changed and hold rows. Pure."""
        after = {day + timedelta(number) for day in changed for number in range(1, self.looks_back + 1)}
        return sorted({*changed} | (after & {*held}))

    def read(self, affected: Collection[date]) -> set[date]:
        """Return the days of its feeds that rows of those days may depend on. Pure."""
        return {day - timedelta(number) for day in affected for number in range(self.looks_back + 1)}


def load_tables(folder: Path) -> tuple[Table, ...]:
    """Return the tables of a folder, none where there is no such folder. Raises ConfigError naming file and line."""
    return tuple(_table(path) for path in sorted(folder.glob("*.sql")))


def check(tables: Collection[Table], feeds: Collection[str]) -> None:
    """Raise ConfigError where a table or a feed has the name of another, or a table is of a feed that is not there."""
    taken = {*feeds}
    if QUARANTINE in taken:
        raise ConfigError(
            f"feed {QUARANTINE}: gold keeps what contracts refuse in a folder of that name; rename the feed"
        )
    for table in tables:
        if table.name in {*taken, QUARANTINE}:
            raise ConfigError(f"{table.name}.sql: the name is taken by a feed or by quarantine; rename the file")
        if strange := {*table.feeds} - taken:
            there_are = ", ".join(sorted(taken))
            raise ConfigError(f"{table.name}.sql: feeds: there is no feed {min(strange)}; there are: {there_are}")


def _table(path: Path) -> Table:
    text = path.read_text(encoding="utf-8")
    said = dict(_HEAD.findall(text))
    if not IDENTIFIER.fullmatch(path.stem):
        raise ConfigError(f"{path}: the file's name is the table's, and must match {IDENTIFIER.pattern}")
    feeds = tuple(name.strip() for name in said.get("feeds", "").split(",") if name.strip())
    if not feeds:
        raise ConfigError(f"{path}: a line such as `-- feeds: user_events` must say what it is made of")
    back = _DAYS.fullmatch(said["looks back"]) if "looks back" in said else None
    if "looks back" in said and back is None:
        raise ConfigError(f"{path}: looks back: {said['looks back']!r} is not a number of days such as `6 days`")
    return Table(path.stem, feeds, int(back[1]) if back else 0, text)
