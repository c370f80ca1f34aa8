"""A first feed file as text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from stream_app.feeds.feed import path_line
from stream_app.feeds.parts import KAFKA_TIME, quoted
from stream_app.ops.first_feed.guess import Declared, Key, Time
from stream_app.ops.first_feed.seen import Path

_UNITS = {"day": timedelta(days=1), "hour": timedelta(hours=1), "minute": timedelta(minutes=1)}


def feed_file(topic: str, head: str, fields: Mapping[str, Declared], time: Time, key: Key | None) -> str:
    """Return the text of the file; `head` is a comment on top of it."""
    lines = [*(f"# {line}" for line in head.splitlines()), f"topic = {quoted(topic)}"]
    for column, declared in fields.items():
        lines += ["", *_field(f"fields.{column}", column, declared)]
    column_of = {declared.path: column for column, declared in fields.items()}
    lines += [
        "",
        f"# A guess: {time.why}.",
        "[event_time]",
        f"field = {quoted(column_of.get(time.path, KAFKA_TIME))}",
        f"lateness = {quoted(_duration(time.lateness))}",
        f"future_tolerance = {quoted(_duration(time.tolerance))}",
        "",
        *_dedupe(column_of, key),
    ]
    return "\n".join(lines) + "\n"


def _dedupe(column_of: Mapping[Path, str], key: Key | None) -> list[str]:
    if key is None:
        return ["# No member tells the records apart, so there is no [dedupe], and each is kept."]
    return [f"# A guess: {key.why}.", "[dedupe]", f"key = {quoted(column_of[key.path])}", 'within = "1 hour"']


def _field(table: str, column: str, declared: Declared) -> Iterator[str]:
    if declared.why:
        yield f"# A guess: {declared.why}."
    yield f"[{table}]"
    yield f"type = {quoted(declared.type)}"
    if declared.path and declared.path != (column,):
        yield path_line(declared.path)
    if declared.format:
        yield f"format = {quoted(declared.format)}"
    if not declared.required:
        yield "required = false"
    for key, inner in (("element", declared.element), ("value", declared.value)):
        yield from ("", *_field(f"{table}.{key}", "", inner)) if inner else ()
    for name, inner in (declared.fields or {}).items():
        yield from ("", *_field(f"{table}.fields.{name}", name, inner))


def _duration(span: timedelta) -> str:
    unit, size = next((unit, size) for unit, size in _UNITS.items() if not span % size)
    return f"{span // size} {unit}{'s' if span // size > 1 else ''}"
