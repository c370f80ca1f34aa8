"""Random feeds: whatever is declared and whatever comes, the fast path and the definition say the same."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stream_app.contract.contract import Contract
from stream_app.contract.undeclared import Undeclared
from stream_app.feeds.feed import Feed
from tests.examples import examples
from tests.unit.test_any_feed import FIXED, KAFKA_TS, UUID, Declared, feed_of
from tests.verdicts import assert_total

AT, EPOCH = datetime(2026, 11, 21, 1, 20, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)
LENGTHS = st.sampled_from([None, [0, 2], [1, 3]])
SCALARS = st.one_of(
    st.builds(lambda length: {"type": "string", "length": length}, LENGTHS),
    st.sampled_from(
        [
            {"type": "string", "allowed": ["a", "é"]},
            {"type": "string", "pattern": "[a-z]+"},
            {"type": "boolean"},
            {"type": "int"},
            {"type": "int", "text": True},
            {"type": "long", "range": [-5, 5.5]},
            {"type": "long", "text": True},
            {"type": "float"},
            {"type": "float", "range": [0, 0.1]},
            {"type": "float", "text": True},
            {"type": "double"},
            {"type": "double", "text": True, "range": [-1e300, 1]},
            {"type": "decimal(5,2)"},
            {"type": "decimal(5,2)", "text": True, "range": [0, 100]},
            {"type": "decimal(38,10)", "range": [-1, 1e20]},
            {"type": "date"},
            {"type": "date", "range": [date(1969, 12, 31), date(2026, 11, 21)]},
            {"type": "timestamp", "range": [AT, AT + timedelta(seconds=30)]},
            {"type": "timestamp", "format": "epoch_millis", "range": [EPOCH, EPOCH]},
            {"type": "timestamp"},
            {"type": "timestamp", "format": "epoch_millis"},
            {"type": "timestamp", "format": "epoch_seconds", "text": True},
            {"type": "timestamp", "format": "epoch_millis", "text": True},
            {"type": "timestamp", "format": "epoch_micros"},
            {"type": "timestamp", "format": "date"},
            {"type": "timestamp", "format": "date", "range": [AT - timedelta(days=1), AT]},
            {"type": "uuid"},
            {"type": "json"},
        ]
    ),
    st.builds(lambda length: {"type": "binary", "length": length}, LENGTHS),
)
DEFAULTS = {
    **{"string": "a", "boolean": True, "int": 1, "long": 2, "float": 0, "double": 1, "decimal(5,2)": 1},
    **{"date": date(2026, 11, 21), "timestamp": AT},
}
NAMES = st.sampled_from(["a", "b", "c", "a.b", "größe", "x y", "]"])


@st.composite
def declarations(draw: st.DrawFn, depth: int = 3) -> Declared:
    """A field of any kind."""
    kind = draw(st.sampled_from(["scalar", "scalar", "array", "map", "struct"] if depth else ["scalar"]))
    if kind == "scalar":
        field: Declared = {key: value for key, value in draw(SCALARS).items() if value is not None}
        has_default = field["type"] in DEFAULTS and field.keys() <= {"type", "text"}
        if has_default and draw(st.booleans()):
            field["default"] = DEFAULTS[field["type"]]
    elif kind == "struct":
        field = {"type": kind, "fields": draw(objects(depth - 1))}
    else:
        field = {"type": kind, ("element" if kind == "array" else "value"): draw(declarations(depth - 1))}
        if length := draw(LENGTHS):
            field["length"] = length
    return field | ({} if draw(st.booleans()) else {"required": False})


@st.composite
def objects(draw: st.DrawFn, depth: int) -> Declared:
    """The fields of an object, with paths that do not collide."""
    fields: Declared = {}
    roots = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    for root in roots:
        ends = draw(st.sampled_from([[""], ["p"], ["p", "q"], ["p.", "q"]])) if depth else [""]
        for end in ends:
            path = [root, end] if end else [root]
            fields[f"f{len(fields)}"] = draw(declarations(depth)) | {"path": path}
    return fields


NUMBERS = [
    *("0", "-0", "-0.0", "5.0", "1e400", "-1e400", "1e-400", "9" * 30, "0.1", "-5", "5.5", "6", "1e2", "1000"),
    *("2147483647", "2147483648", "9223372036854775808", "1.005", "100.00", "3.4028235677973366e38", "1e-46", "-1e-46"),
]
STRINGS = [
    *('""', '"a"', '"é"', '"A"', '"5"', '"05"', '"-0"', '"1e2"', '"5.0"', '"1e400"', '" 5"', '"NaN"', '"12.345"'),
    *('"1e-60"', '"99999999999"', '"YQ=="', '"YWJj"', '"YWJjZA=="', '"YQ"', '"YR=="', '"Y Q="', '"-_-_"', f'"{UUID}"'),
    *('"urn:uuid:x"', '"2026-11-21"', '"0000-01-01"', '"2026-02-29"', '"20261121"', '"9999-12-31"', '"[[["'),
    *('"2026-11-21T01:20:30.1234567+01"', '"\\ud800"', '"\\udc00x"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\u0061"'),
]
ODD = [
    *(
        "null",
        "null",
        "true",
        "false",
        "{}",
        "[]",
        "[[]]",
        '{"a":1}',
        '{"a":1,"a":null}',
        "[null]",
        " 1 ",
        '{"":1e400}',
    ),
    *('{"\\ud800":1}', '{"a" : [ 1 , {"b":"\\ud800"} ] }', "[" * 60 + "]" * 60),
]
BROKEN = [
    *(
        "01",
        "1.",
        "-",
        "NaN",
        "Infinity",
        "nul",
        "[1,]",
        '{"a":',
        "[01]",
        '["\\q"]',
        "{1:2}",
        "// x",
        '"\\x"',
        '"\x01"',
    ),
    *('"\\u00e"', "[" * 120 + "]" * 120, '{"a":' * 120 + "1" + "}" * 120, '"\ud800"'),
]
GOOD = {
    "boolean": ["true", "false"],
    "date": ['"2026-11-21"', '"1969-12-31"'],
    "timestamp": ['"2026-11-21T01:20:30Z"', '"2026-11-21 01:20"'],
    "binary": ['"YQ=="'],
    "uuid": [f'"{UUID}"'],
    "json": ["{ }", '"x"', "[1, 2]", '{"a": {"b": 1.50}}'],
}


@st.composite
def values(draw: st.DrawFn, field: Declared, wild: int) -> str:  # noqa: PLR0911 - a kind each
    """JSON for a field. The wilder, the more often it is something else of its kind, or of any, or broken."""
    chance = draw(st.integers(0, 99))
    kind = field["type"].partition("(")[0]
    is_text = kind in {"string", "date", "timestamp", "binary", "uuid"} or field.get("text")
    if chance < wild:
        pools = [STRINGS if is_text else NUMBERS] * 3 + [ODD] * 2 + [STRINGS, NUMBERS, BROKEN]
        return draw(st.sampled_from(draw(st.sampled_from(pools))))
    if kind == "array":
        return "[" + ",".join(draw(st.lists(values(field["element"], wild), min_size=1, max_size=2))) + "]"
    if kind == "map":
        keys = st.sampled_from(["a", "b", "\\u0061", "", "é"])
        pairs = draw(st.lists(st.tuples(keys, values(field["value"], wild)), min_size=1, max_size=2))
        return "{" + ", ".join(f'"{key}": {text}' for key, text in pairs) + "}"
    if kind == "struct":
        return draw(members(field["fields"], wild))
    if field.get("format", "date") == "date" and kind in GOOD:
        return draw(st.sampled_from(GOOD["date" if field.get("format") else kind]))
    if kind == "string":
        return draw(
            st.sampled_from(['"a"'] if "allowed" in field or "pattern" in field else ['"a"', '"é"', '"\\u0061"'])
        )
    number = draw(st.sampled_from(["0", "0.0", "0e1"] if "range" in field else ["0", "1", "-1", "5e0"]))
    return f'"{number}"' if field.get("text") else number


@st.composite
def members(draw: st.DrawFn, fields: Declared, wild: int) -> str:
    """An object with values for those fields: some left out, some twice, some more."""
    tree: dict[str, Any] = {}
    for name, field in fields.items():
        *above, last = field.get("path", [name])
        branch = tree
        for step in above:
            branch = branch.setdefault(step, {})
        is_there = field.get("required", "default" not in field) or draw(st.booleans())
        branch[last] = draw(values(field, wild)) if is_there else draw(st.sampled_from(["", "null"]))
    return draw(as_text(tree, wild))


@st.composite
def as_text(draw: st.DrawFn, tree: dict[str, Any], wild: int) -> str:
    """An object as JSON text; an empty text is left out."""
    parts: list[str] = []
    for name, sub in tree.items():
        times = draw(st.sampled_from([0, 2])) if draw(st.integers(0, 99)) < wild // 4 else 1
        for _ in range(times):
            text = draw(as_text(sub, wild)) if isinstance(sub, dict) else sub
            if text:
                parts.append(f"{json.dumps(name)}{draw(st.sampled_from(['', ' ']))}: {text}")
    if draw(st.integers(0, 9)) == 0:
        more, name = draw(st.sampled_from([*ODD, *NUMBERS])), draw(st.sampled_from(["more", "a", "\\ud800"]))
        parts.insert(draw(st.integers(0, len(parts))), f'"{name}": {more}')
    return "{" + ",".join(parts) + "}"


@st.composite
def feeds_and_records(draw: st.DrawFn) -> tuple[Feed, list[bytes]]:
    """A feed of any declaration with a batch of records for it."""
    fields = draw(objects(3))
    feed = feed_of(fields, wire={"unknown": draw(st.sampled_from(["ignore", "report", "report", "quarantine"]))})
    records = st.sampled_from([0, 10, 30]).flatmap(lambda wild: members(FIXED | fields, wild))
    batch = draw(st.lists(records, min_size=2, max_size=6))
    return feed, [text.encode("utf-8", "surrogatepass") for text in batch]


@examples(400)
@given(feeds_and_records())
def test_any_feed_judges_any_record_the_same_both_ways(case: tuple[Feed, list[bytes]]) -> None:
    feed, records = case
    contract, batch = Contract(feed), [*records, b"\xff", None]
    assert_total(feed, contract, batch, [KAFKA_TS] * len(batch))
    times, expected = pa.array([KAFKA_TS] * len(batch)), Undeclared()
    for value in records:
        expected.add(contract.undeclared_in(value))
    found = contract.undeclared(
        pa.array(batch, pa.binary()), contract.check_all(pa.array(batch, pa.binary()), times, times)
    )
    assert found.counts == expected.counts
