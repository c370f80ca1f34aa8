"""`<feed>.<sink> AT (VERSION => 12)` and `AT (TIMESTAMP => …)` in SQL, as DuckDB spells it.

Its own tables have no versions, so each becomes a view of what the table had then. An alias may be before or behind AT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from stream_app.errors import ConfigError
from stream_app.feeds.sql import view
from stream_app.flows.flow import Flow
from stream_app.sinks.protocol import Moment, sink_of
from stream_app.storage.opened import Opened

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _Token:
    text: str
    start: int
    is_name: bool

    @property
    def end(self) -> int:
        return self.start + len(self.text.encode())


@dataclass(frozen=True)
class _Past:
    """A table as it was, where it is named in the SQL."""

    name: slice
    at: slice
    flow: Flow
    kind: str
    """VERSION or TIMESTAMP."""
    expression: str


def with_views(connection: duckdb.DuckDBPyConnection, flows: Sequence[Flow], sql: str, opened: Opened) -> str:
    """Return the SQL with the name of a view, which is made, for each table as it was.

    Raises ConfigError where a table has no such version, or its files are gone.
    """
    written = sql.encode()  # DuckDB counts bytes
    for number, past in reversed([*enumerate(_pasts(flows, written))]):
        name = view(past.flow.feed.name, f"_{past.flow.sink}_{number}")
        try:
            rows = sink_of(past.flow).select_at(past.flow, _moment(connection, past), opened)
        except FileNotFoundError as error:
            gone = f"{past.flow.name}: {past.kind} => {past.expression} can no longer be read, {error.filename} is gone"
            raise ConfigError(f"{gone}; tables keep their versions for RETENTION_HOURS") from None
        connection.execute(f"CREATE VIEW {name} AS {rows}")
        between = written[past.name.stop : past.at.start]
        written = written[: past.name.start] + name.encode() + between + written[past.at.stop :]
    return written.decode()


def _pasts(flows: Sequence[Flow], sql: bytes) -> Iterator[_Past]:
    tokens = _tokens(sql)
    known = {(flow.feed.name, flow.sink): flow for flow in flows}
    for at in range(1, len(tokens) - 4):
        words = [token.text.upper() for token in tokens[at : at + 4]]
        if words[:2] != ["AT", "("] or words[2] not in {"VERSION", "TIMESTAMP"} or words[3] != "=>":
            continue
        last = _end_of_name(tokens, at)
        first = last - 2 if last >= 2 and tokens[last - 1].text == "." else last
        parts = [_unquoted(token.text) for token in tokens[first : last + 1 : 2]]
        flow = known.get((parts[0], parts[1]) if len(parts) == 2 else (flows[0].feed.name, parts[0]))
        close = _closing(tokens, at + 1)
        if flow and close:
            expression = sql[tokens[at + 4].start : tokens[close].start].decode().strip()
            name = slice(tokens[first].start, tokens[last].end)
            yield _Past(name, slice(tokens[at].start, tokens[close].start + 1), flow, words[2], expression)


def _end_of_name(tokens: Sequence[_Token], at: int) -> int:
    """Return the last token of the table's name, which may have an alias behind it."""
    if at >= 3 and tokens[at - 2].text.upper() == "AS":
        return at - 3
    return at - 2 if at >= 2 and tokens[at - 2].is_name else at - 1


def _moment(connection: duckdb.DuckDBPyConnection, past: _Past) -> Moment:
    if past.kind == "VERSION":
        return Moment(version=_number(connection, past, f"CAST({past.expression} AS BIGINT)"))
    micros = _number(connection, past, f"epoch_us(CAST({past.expression} AS TIMESTAMPTZ))")
    try:
        return Moment(time=_EPOCH + timedelta(microseconds=micros))
    except OverflowError:
        raise _no_moment(past) from None


def _number(connection: duckdb.DuckDBPyConnection, past: _Past, expression: str) -> int:
    ((number,),) = connection.execute(f"SELECT {expression}").fetchall()
    if number is None:  # of infinity, too
        raise _no_moment(past)
    return int(number)


def _no_moment(past: _Past) -> ConfigError:
    of = "the number of a version" if past.kind == "VERSION" else "a time from year 1 to 9999"
    return ConfigError(f"{past.flow.name}: {past.kind} => {past.expression} is not {of}")


def _tokens(sql: bytes) -> list[_Token]:
    found = duckdb.tokenize(sql.decode())
    ends = [*(start for start, _ in found), len(sql)][1:]
    return [
        _Token(sql[start:end].decode().strip(), start, kind == duckdb.token_type.identifier)
        for (start, kind), end in zip(found, ends, strict=False)
    ]


def _closing(tokens: Sequence[_Token], opening: int) -> int | None:
    depth = 0
    for place in range(opening, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[place].text[:1], 0)
        if depth == 0:
            return place
    return None


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()
