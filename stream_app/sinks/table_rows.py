"""The rows of a table as SQL for DuckDB: its live files, with the value of each partition, which no file has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from stream_app.errors import ConfigError
from stream_app.feeds.sql import name, text
from stream_app.sinks.dates import DATE
from stream_app.sinks.files import no_rows
from stream_app.sinks.protocol import Holding, Moment
from stream_app.storage.opened import Opened
from stream_app.storage.row_counts import read_parquet
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.table import File, Look, Partition, Table


def select(root: Place, files: Sequence[File], columns: Mapping[str, str], opened: Opened) -> str:
    """Return the SQL for the rows of those files, in those columns of DuckDB's types. What a file lacks is null."""
    parts = [no_rows(columns)]
    for partition, own in by_partition(files):
        values = "".join(f", {_value(value, columns[column])} AS {name(column)}" for column, value in partition.items())
        parts.append(f"SELECT *{values} FROM {read_parquet(root.source(file.path, opened) for file in own)}")
    return " UNION ALL BY NAME ".join(parts)


def misplaced(rows: str, time: str) -> str:
    """Return the SQL for rows whose date is not that of a time; dates that are far from their batch's have none."""
    date = f"CAST({name(time)} AT TIME ZONE 'UTC' AS DATE)"
    return f"SELECT {DATE}, {date} FROM ({rows}) WHERE {DATE} <> {date}"


def by_partition(files: Sequence[File]) -> Iterator[tuple[Partition, list[File]]]:
    """Yield the files of each partition, in order, and these by name: files of one kind are in the order of batches."""
    for _, own in groupby(sorted(files, key=_key), key=_key):
        group = sorted(own, key=lambda file: Path(file.path).name)
        yield group[0].partition, group


def version_at(table: Table, moment: Moment) -> int | None:
    """Return the version that a table had then; None for the newest. Raises ConfigError where none was there yet."""
    if moment.time is not None:
        ms = moment.time.timestamp() * 1000
        found = next((one.number for one in table.versions() if one.time_ms <= ms), None)
        if found is None:
            raise ConfigError(f"{table.location}: has no version of {moment.time:%Y-%m-%d %H:%M:%S} or before")
        return found
    if moment.batch is None:
        return moment.version
    newest = None
    for version in table.versions():
        if version.batch is not None and version.batch <= moment.batch:
            break
        newest = version.number - 1 if version.batch is not None else newest
    return newest


def holding(look: Look) -> Holding:
    """Return how much a table holds, and its newest version."""
    rows, size = sum(file.rows for file in look.files), sum(file.size for file in look.files)
    return Holding(len(look.files), rows, size, f"version {look.newest.number}", look.newest.time_ms)


def flaws(root: Place, files: Sequence[File]) -> Iterator[str]:
    """Yield a line for each file that is not there, or not as the log says."""
    for file in files:
        path = f"{root.location}/{file.path}"
        try:
            found = root.look(file.path)
        except FileNotFoundError:
            yield f"{path} is missing, and the table's log names it"
        except (OSError, pa.ArrowInvalid) as error:
            yield f"{path} cannot be read: {' '.join(str(error).split())}"
        else:
            if (size := found.size, rows := found.footer.num_rows) != (file.size, file.rows):
                yield f"{path} has {rows:,} rows in {size:,} bytes; the table's log says {file.rows:,} in {file.size:,}"


def _key(file: File) -> list[tuple[str, bool, str]]:
    return [(column, value is not None, value or "") for column, value in sorted(file.partition.items())]


def _value(value: str | None, kind: str) -> str:
    return f"CAST({'NULL' if value is None else text(value)} AS {kind})"
