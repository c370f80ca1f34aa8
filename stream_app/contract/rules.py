"""Which records break which rules: conditions across fields, evaluated by DuckDB over Arrow. Pure.

A rule is about one record. The answer does not depend on the batch that the record is in. Where a rule cannot be
evaluated on a record (a cast, an overflow, a logarithm of nothing), it is not true of that record alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.feeds.conditions import ROWS, Conditions, alone, connect
from stream_app.feeds.rules import Rule

_FATAL = (duckdb.FatalException, duckdb.InternalException)
"""After these a database answers nothing any more."""


class Rules:
    """The rules of a feed over its columns, given by name and DuckDB's type; for one thread."""

    def __init__(self, rules: Mapping[str, Rule], columns: Mapping[str, str]) -> None:
        conditions = Conditions(columns)
        self._database = conditions.database
        self._checks = [alone(rule.check) for rule in rules.values()]
        self.reads = {name: conditions.columns_of(rule.check) for name, rule in rules.items()}
        """The columns that each rule reads, in the order of the rules."""

    def broken(self, columns: Mapping[str, pa.Array], valid: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """Return for each rule which of the rows break it: it is not true, but false, null or not to be evaluated.

        `columns` are all that any rule reads, in silver's types. `valid` says of some columns which values are valid:
        no rule breaks on a row where a value that it reads is not.
        """
        read = sorted(frozenset().union(*self.reads.values()))
        rows = pa.table([columns[name] for name in read], read)
        found = dict(zip(self.reads, self._not_true(rows, self._checks), strict=True))
        for name, reads in self.reads.items():
            for column in reads & valid.keys():
                found[name] = pc.and_(found[name], valid[column])
        return found

    def _not_true(self, rows: pa.Table, checks: Sequence[str]) -> list[pa.Array]:
        # TRY makes null of most errors, at the cost of their rows alone; ESCAPE and list_reduce have others
        columns = ", ".join(f"TRY({check}) IS NOT TRUE" for check in checks)
        try:
            self._database.register(ROWS, rows)
            found = self._database.execute(f"SELECT {columns} FROM {ROWS}").to_arrow_table()  # noqa: S608 - checked SQL
            return [column.combine_chunks() for column in found.columns]
        except duckdb.Error as error:
            if isinstance(error, _FATAL):
                self._database = connect()
        if len(checks) > 1:
            return [one for check in checks for one in self._not_true(rows, [check])]
        if rows.num_rows == 1:
            return [pa.array([True])]
        half = rows.num_rows // 2
        halves = [self._not_true(part, checks)[0] for part in (rows[:half], rows[half:])]
        return [pa.concat_arrays(halves)]
