"""What a sample may mean: types, which may be missing, the time it happened, what identifies a record. Pure.

Types are never narrower than the sample, so that none of it is refused. What the sample cannot tell is a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from stream_app.contract.columns import SURROGATE
from stream_app.contract.times import microseconds
from stream_app.feeds.depth import too_deep
from stream_app.feeds.feed import RESERVED
from stream_app.ops.first_feed.seen import MOST_DIGITS, Distance, Path, Seen

_TIMES = ("event_time", "event_ts", "timestamp", "ts", "time", "occurred", "happened", "created", "sent", "updated")
_KEYS = ("id", "event_id", "uuid", "message_id", "key", "uid")
_PRECISIONS = (18, MOST_DIGITS)
_MONEY = re.compile("amount|price|total|cost|fee|balance|tax|sum")
# Beyond that a time is another one than that of the record, such as when a customer was born.
_FAR = microseconds(timedelta(days=30))
_HOUR = microseconds(timedelta(hours=1))
_LEAST_LATENESS, _LEAST_TOLERANCE = timedelta(minutes=10), timedelta(minutes=1)
_SPANS = [timedelta(minutes=n) for n in (1, 2, 5, 10, 15, 30)] + [timedelta(hours=n) for n in (1, 2, 6, 12)]
_SPANS += [timedelta(days=n) for n in (1, 2, 7, 14, 30, 60)]
_KEY_SHARE = 0.9
# An object with so many names, of which one has so small a share, is keyed by values and has no names for columns.
_MOST_NAMES, _SHARE_OF_NAMES = 100, 0.1


@dataclass(frozen=True)
class Declared:
    """A field as the file has it."""

    type: str
    required: bool
    path: Path
    """Where the record has it; empty for what has no name."""
    element: Declared | None = None
    value: Declared | None = None
    fields: Mapping[str, Declared] | None = None
    format: str | None = None
    """How a timestamp is written that is a number."""
    why: str = ""
    """What is a guess in it."""


@dataclass(frozen=True)
class Time:
    """The event time."""

    path: Path
    """Where the record has it; empty for Kafka's timestamp."""
    lateness: timedelta
    tolerance: timedelta
    why: str


@dataclass(frozen=True)
class Key:
    """What identifies a record."""

    path: Path
    why: str


def event_time(root: Seen) -> Time:
    """Return the time that each record has and that is nearest to Kafka's timestamps, or else these themselves."""
    found = [(path, found) for path, one in root.always() if (found := _time_of(one)) and found[1].far <= _FAR]
    if not found:
        return Time((), _LEAST_LATENESS, _LEAST_TOLERANCE, "no member is a time that each record has, near to Kafka's")
    path, (_, distance) = min(
        found, key=lambda named: (named[1][1].far // _HOUR, _rank(named[0][-1], _TIMES), len(named[0]))
    )
    late, early = (timedelta(microseconds=far) for far in (-distance.least, distance.most))
    why = f"each record has it, at most {_spoken(late)} before Kafka's timestamp and {_spoken(early)} after it"
    return Time(path, _roomy(late, _LEAST_LATENESS), _roomy(early, _LEAST_TOLERANCE), why)


def dedupe_key(root: Seen) -> Key | None:
    """Return the member that has another value in nearly each record; of several the one with the best name."""
    found = [(path, len(one.values) / root.objects) for path, one in root.always() if _may_identify(one)]
    unique = [(path, share) for path, share in found if share >= _KEY_SHARE]
    if not unique:
        return None
    path, share = min(unique, key=lambda named: (_rank(named[0][-1], _KEYS), len(named[0]), -named[1]))
    own = round(share * root.objects)
    return Key(path, f"{own:,} of {root.objects:,} records have one of their own")


def _may_identify(seen: Seen) -> bool:
    if (time := _time_of(seen)) and time[1].far <= _FAR:
        return False
    return (seen.kinds == {"string"} and seen.is_text) or (seen.kinds == {"number"} and seen.is_long)


def fields(seen: Seen, taken: frozenset[Path] = frozenset(), *, is_root: bool = True) -> dict[str, Declared]:
    """Return the fields of an object, in the order in which the sample has them.

    taken: paths that are columns themselves; an object around one is declared by its members.
    """
    found: dict[str, Declared] = {}
    for path, one in _columns(seen, (), taken):
        if declared := _declared(one, path, required=_always(seen, path)):
            found[_column(path, found, reserved=is_root)] = declared
    return found


def _columns(seen: Seen, at: Path, taken: frozenset[Path]) -> Iterator[tuple[Path, Seen]]:
    for name, one in seen.members.items():
        path = (*at, name)
        if any(other[: len(path)] == path and other != path for other in taken):
            yield from _columns(one, path, taken)
        else:
            yield path, one


def _always(seen: Seen, path: Path) -> bool:
    for name in path:
        if name not in seen.members or seen.members[name].given < seen.objects:
            return False
        seen = seen.members[name]
    return True


def _declared(seen: Seen, path: Path, *, required: bool) -> Declared | None:
    """Return how it is declared; None for what is null in all records, and what no type takes."""
    found = _typed(seen, path, required=required)
    return Declared("json", required, path, why="as it nests deep") if found and too_deep(found) else found


def _typed(seen: Seen, path: Path, *, required: bool) -> Declared | None:
    if any(set(name) & set('"\\') or not name or not name.isprintable() or len(name) > 128 for name in path):
        return None
    if not seen.given or not seen.is_text:
        return None
    if seen.kinds == {"object"}:
        return (_map if _is_keyed(seen) else _struct)(seen, path, required=required)
    if seen.kinds == {"array"}:
        element = _declared(seen.element, (), required=seen.element.given == seen.elements) if seen.element else None
        return Declared("array", required, path, element=element) if element else Declared("json", required, path)
    if seen.kinds == {"number"} and (time := _time_of(seen)):
        return Declared("timestamp", required, path, format=time[0], why="as a time it is near to Kafka's timestamps")
    kind, why = _scalar(seen, path[-1] if path else "")
    return Declared(kind, required, path, why=why)


def _struct(seen: Seen, path: Path, *, required: bool) -> Declared:
    inner = fields(seen, is_root=False)
    return Declared("struct", required, path, fields=inner) if inner else Declared("json", required, path)


def _is_keyed(seen: Seen) -> bool:
    names = len(seen.members)
    return names > _MOST_NAMES and seen.entries < _SHARE_OF_NAMES * names * seen.objects


def _map(seen: Seen, path: Path, *, required: bool) -> Declared:
    """Return the map of what all the members are, or json if they are nothing in common."""
    value = Seen()
    for one in seen.members.values():
        value.merge(one)
    inner = _declared(value, (), required=value.given == seen.entries)
    is_text = not any(map(SURROGATE.search, seen.members))
    why = f"its objects have {len(seen.members):,} names, of which each has few"
    return Declared("map" if inner and is_text else "json", required, path, value=inner if is_text else None, why=why)


def _scalar(seen: Seen, name: str) -> tuple[str, str]:
    if len(seen.kinds) > 1:
        return "json", f"it is {' or '.join(sorted(seen.kinds))}"
    if seen.kinds == {"string"}:
        kinds = {"timestamp": seen.is_time, "date": seen.is_date, "uuid": seen.is_uuid}
        return next((kind for kind, fits in kinds.items() if fits), "string"), ""
    if seen.kinds == {"boolean"}:
        return "boolean", ""
    scale = max(seen.decimals, 2)
    precision = next((digits for digits in _PRECISIONS if seen.whole_digits + scale <= digits), None)
    if seen.decimals > 0 and precision and _MONEY.search(name.lower()):
        return f"decimal({precision},{scale})", "by its name an amount of money"
    if seen.is_long:
        return "long", ""
    return ("double", "") if seen.is_double else ("json", "some numbers have no room in a double")


def _column(path: Path, taken: Mapping[str, Declared], *, reserved: bool) -> str:
    """Return a name for the column that is like the record's, allowed and free."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", "_".join(path)).lower()
    name = re.sub("_+", "_", re.sub("[^a-z0-9]", "_", words)).strip("_")[:50]
    name = name if name[:1].isalpha() else f"f_{name}".rstrip("_")
    if reserved and name in RESERVED:
        name = f"record_{name}"
    return next(one for number in range(1, 10**6) if (one := name if number == 1 else f"{name}_{number}") not in taken)


def _rank(name: str, words: tuple[str, ...]) -> float:
    """Return how well a name suits, 0 best: one of the words, or else one that has one of them in it."""
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if plain in words:
        return words.index(plain)
    parts = {*plain.split("_")}
    return len(words) + next((i for i, word in enumerate(words) if word in parts), len(words))


def _time_of(seen: Seen) -> tuple[str | None, Distance] | None:
    """Return how a member is written that is a time, None for ISO 8601, and how far off it is; None for no time.

    A number is one if some format has all of them near to Kafka's timestamps.
    """
    if seen.kinds == {"string"} and seen.is_time:
        return None, seen.distance
    near = {name: distance for name, distance in seen.epochs.items() if distance.far <= _FAR}
    if seen.kinds != {"number"} or not near:
        return None
    return min(near.items(), key=lambda named: named[1].far)


def _roomy(seen: timedelta, least: timedelta) -> timedelta:
    """Return a round span that is twice what was seen, or more."""
    return next(span for span in _SPANS if span >= max(2 * seen, least))


def _spoken(span: timedelta) -> str:
    return f"{span.total_seconds():,.0f} seconds"
