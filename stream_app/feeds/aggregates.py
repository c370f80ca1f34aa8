"""What windows, sessions and totals may name of a feed's columns, and what each measure may be of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stream_app.feeds.fields import Field
from stream_app.feeds.parts import SESSION_COLUMNS, Measure, Session, Total, Window, quoted

Problem = tuple[str, str]
"""A key of the file, as TOML writes it, and what is wrong with it."""
_OF_WINDOWS = {"distinct": "its state grows with every value", "start": "it is when a window began"}
"""The measures that only windows have, and why."""
_BOUNDS = frozenset({"window_start", "window_end"})


@dataclass(frozen=True)
class Columns:
    """The columns of silver that hold values, by name."""

    values: Mapping[str, Field]

    def unfit(self, key: str, column: str, wanted: str) -> Iterator[Problem]:
        """Yield why a column is not there, or not of the wanted type; `any` and `number` are several."""
        field = self.values.get(column)
        if field is None:
            yield key, f"{quoted(column)} is not a declared field"
        elif wanted not in {"any", field.type, "number" if field.is_number else None}:
            yield key, f"{column} is a {field.type}, not a {wanted}"

    def unfit_for_each(self, key: str, column: str) -> Iterator[Problem]:
        """Yield why a column does not tell something of each record."""
        field = self.values.get(column)
        if field and field.is_optional:
            yield key, f"{column} is not required, so a record may have none"
        elif field and (field.is_nested or field.type == "json"):
            yield key, f"{column} is a {field.type}, which identifies no record"

    def windows(self, declared: Mapping[str, Window]) -> Iterator[Problem]:
        """Yield what is wrong with windows."""
        for name, window in declared.items():
            key = f"windows.{name}"
            if window.key is not None:
                yield from self._key_problems(f"{key}.key", window.keys)
            if window.window % window.every or window.every > window.window:
                yield f"{key}.slide", "does not divide the window"
            yield from self._measured(key, window, _BOUNDS, "gold")

    def sessions(self, declared: Mapping[str, Session]) -> Iterator[Problem]:
        """Yield what is wrong with sessions."""
        for name, session in declared.items():
            yield from self._key_problems(f"sessions.{name}.keys", session.keys)
            for column in session.ends:
                yield from self.unfit(f"sessions.{name}.ends.{column}", column, "string")
            for column in {*session.keys} & SESSION_COLUMNS:
                yield f"sessions.{name}.keys", f"gold has a column {column} already"

    def totals(self, declared: Mapping[str, Total]) -> Iterator[Problem]:
        """Yield what is wrong with totals."""
        for name, total in declared.items():
            key = f"totals.{name}"
            yield from self._key_problems(f"{key}.keys", total.keys)
            yield from self._measured(key, total, frozenset(), "it")
            for output, measure in total.measures.items():
                if measure.function in _OF_WINDOWS:
                    yield (
                        f"{key}.measures.{output}",
                        f"totals have no {measure.function}: {_OF_WINDOWS[measure.function]}",
                    )
            if total.top and (problem := self._falls(total)):
                yield f"{key}.top.by", problem

    def _falls(self, total: Total) -> str:
        """Return why the first rows by a measure cannot be told from the rows that a batch changed; else ""."""
        assert total.top  # noqa: S101 - the caller knows
        measure = total.measures.get(total.top.by)
        if measure is None:
            return f"{quoted(total.top.by)} is not a measure"
        field = self.values.get(measure.field or "")
        if measure.function in {"count", "max"} or field is None:
            return ""
        if measure.function != "sum" or field.type in {"float", "double"}:
            return f"{total.top.by} is a measure that may fall, or is rounded; a count, a max or an exact sum does not"
        if field.number_range is None or field.number_range[0] < 0:
            return f"{total.top.by} may fall, since {measure.field} may be negative; give that a range from 0 on"
        return ""

    def _measured(self, key: str, declared: Window | Total, own: frozenset[str], owner: str) -> Iterator[Problem]:
        for column in declared.where:
            yield from self.unfit(f"{key}.where.{column}", column, "string")
        if not declared.measures:
            yield f"{key}.measures", "is empty"
        for output, measure in declared.measures.items():
            if output in {*own, *declared.keys}:
                yield f"{key}.measures.{output}", f"{owner} has a column of this name already"
            yield from self._measure_problems(f"{key}.measures.{output}", measure)

    def _measure_problems(self, key: str, measure: Measure) -> Iterator[Problem]:
        if measure.field is None:
            return
        field = self.values.get(measure.field)
        if measure.function not in {"min", "max"} or field is None:
            yield from self.unfit(key, measure.field, "any" if measure.function == "distinct" else "number")
        elif not field.has_order:
            yield key, f"{measure.field} is a {field.type}, which has no {measure.function}"
        if measure.function == "distinct" and field and field.has_map:
            yield key, f"{measure.field} is of type {field.as_type.name}, and maps cannot be told apart"
        if field and (problem := field.overflow(measure.function)):
            yield key, f"{measure.field} {problem}"

    def _key_problems(self, key: str, columns: tuple[str, ...]) -> Iterator[Problem]:
        yield from repeated(key, columns)
        for column in columns:
            yield from self.unfit(key, column, "any")
            if (field := self.values.get(column)) and not field.tells_apart:
                yield key, f"{column} is of type {field.type}, which is not one value"


def repeated(key: str, columns: tuple[str, ...]) -> Iterator[Problem]:
    """Yield whether there is no column, or one is there twice."""
    if not columns:
        yield key, "is empty"
    if len({*columns}) < len(columns):
        yield key, "names a column twice"
