"""Feeds of any declaration: the fast path and the definition judge every record alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.contract.contract import Contract, Rejected
from stream_app.contract.undeclared import Undeclared
from stream_app.feeds.feed import Feed
from stream_app.storage.planned import UNBOUNDED
from tests.examples import examples
from tests.verdicts import assert_total

KAFKA_TS = 1_795_224_030_000_000  # 2026-11-21T01:20:30Z
FIXED: dict[str, Any] = {"id": {"type": "string"}, "at": {"type": "timestamp"}}
Declared = dict[str, Any]


def feed_of(fields: Declared, **more: Any) -> Feed:
    """A feed with those fields beside its id and its time."""
    return Feed.model_validate(
        {
            "name": "any",
            "topic": "any",
            "fields": FIXED | fields,
            "event_time": {"field": "at", "lateness": "1 hour", "future_tolerance": "1 hour"},
            "dedupe": {"key": "id", "within": "1 hour"},
            **more,
        }
    )


def record(**texts: str) -> bytes:
    """A record whose members are those JSON texts."""
    members = {"id": '"a"', "at": '"2026-11-21T01:20:30Z"'} | texts
    return ("{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in members.items()) + "}").encode()


def verdict(fields: Declared, **texts: str) -> Any:
    """The value of field x, or the reasons."""
    feed = feed_of(fields)
    contract = Contract(feed)
    assert_total(feed, contract, [record(**texts), record(), record(**texts)], [KAFKA_TS] * 3)
    found = contract.check(record(**texts), KAFKA_TS, UNBOUNDED)
    return " ".join(found.reasons) if isinstance(found, Rejected) else found[contract.columns.index("x")]


UUID = "0190F0C4-7d1e-7c3a-9f00-00000000000a"
STRUCT: Declared = {
    "type": "struct",
    "fields": {"price": {"type": "decimal(5,2)"}, "n": {"type": "int", "required": False}},
}
ITEMS: Declared = {"type": "array", "element": STRUCT, "length": [1, 3]}


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ({"type": "int"}, "2147483647", 2**31 - 1),
        ({"type": "int"}, "2147483648", "out_of_range:x"),
        ({"type": "int"}, "5.0", 5),
        ({"type": "float"}, "0.1", 0.10000000149011612),
        ({"type": "float"}, "3.4028235e38", 3.4028234663852886e38),
        ({"type": "float"}, "3.4028236e38", "out_of_range:x"),
        ({"type": "float"}, "-0.0", 0.0),
        ({"type": "float"}, "-1e-60", 0.0),
        ({"type": "date"}, '"1970-01-02"', 1),
        ({"type": "date"}, '"2026-02-30"', "bad_date:x"),
        ({"type": "timestamp", "format": "epoch_millis"}, "1500.5", 1_500_500),
        ({"type": "timestamp", "format": "epoch_seconds"}, "1e30", "bad_time:x"),
        ({"type": "timestamp", "format": "epoch_seconds"}, '"1"', "bad_type:x"),
        ({"type": "timestamp", "format": "epoch_micros", "text": True}, '"-1"', -1),
        ({"type": "timestamp", "format": "date"}, '"1970-01-02"', 86_400_000_000),
        ({"type": "timestamp", "format": "date"}, '"1970-01-02T00:00"', "bad_time:x"),
        ({"type": "binary"}, '"AP8="', b"\0\xff"),
        ({"type": "binary"}, '"AP8"', "bad_base64:x"),
        ({"type": "binary", "length": [0, 1]}, '"AP8="', "out_of_range:x"),
        ({"type": "uuid"}, f'"{UUID}"', UUID.lower()),
        ({"type": "uuid"}, f'"{{{UUID}}}"', "bad_uuid:x"),
        ({"type": "json"}, '{"b" : [1e400, "\\ud800"],"b":1.00}', '{"b" : [1e400, "\\ud800"],"b":1.00}'),
        ({"type": "json"}, ' "text" ', '"text"'),
        ({"type": "json"}, "null", "missing:x"),
        ({"type": "json", "required": False}, "null", None),
        ({"type": "long", "text": True}, '"5e2"', 500),
        ({"type": "long", "text": True}, "5", "bad_type:x"),
        ({"type": "long", "text": True}, '"007"', "bad_type:x"),
        ({"type": "int", "text": True}, '"2147483648"', "out_of_range:x"),
        ({"type": "decimal(5,2)", "text": True}, '"12.345"', "out_of_range:x"),
        ({"type": "double", "text": True}, '"-0"', 0.0),
        ({"type": "double", "text": True}, '"NaN"', "bad_type:x"),
        ({"type": "string", "default": "none"}, "null", "none"),
        ({"type": "string", "required": False}, "5", "bad_type:x"),
        ({"type": "array", "element": {"type": "int"}}, "[]", []),
        ({"type": "array", "element": {"type": "int"}}, "[1,null]", "missing:x[]"),
        ({"type": "array", "element": {"type": "int", "required": False}}, "[1,null]", [1, None]),
        ({"type": "array", "element": {"type": "int"}}, '["a","b",1e9,1e10]', "bad_type:x[] out_of_range:x[]"),
        ({"type": "map", "value": {"type": "double"}}, '{"b":1,"a":2,"b":3}', [("b", 3.0), ("a", 2.0)]),
        ({"type": "map", "value": {"type": "double"}}, '{"b":"1"}', "bad_type:x{}"),
        ({"type": "map", "value": {"type": "double"}}, '{"\\ud800":1}', "bad_type:x"),
        ({"type": "map", "value": {"type": "json"}}, '{"b": [ ] }', [("b", "[ ]")]),
        (STRUCT, '{"price":1,"more":2}', {"price": 1, "n": None}),
        (STRUCT, '{"n":1e10}', "missing:x.price out_of_range:x.n"),
        (STRUCT, "[]", "bad_type:x"),
        (ITEMS, "[]", "out_of_range:x"),
        (ITEMS, '[{"price":"1"},{},{"price":"2"}]', "bad_type:x[].price missing:x[].price"),
    ],
)
def test_what_a_value_becomes(field: Declared, text: str, expected: object) -> None:
    found = verdict({"x": field}, x=text)
    assert (found, type(found)) == (expected, type(found) if isinstance(expected, dict) else type(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"address":{"city":"Köln"}}', "Köln"),
        ('{"address":{}}', "missing:customer.address.city"),
        ('{"address":null}', "missing:customer.address.city"),
        ("{}", "missing:customer.address.city"),
        ('{"address":"Köln"}', "bad_type:customer.address"),
        ("[]", "bad_type:customer"),
        ('{"address":{"city":5}}', "bad_type:customer.address.city"),
        ('{"address":{"city":"A"},"address":{"city":"B"}}', "B"),
    ],
)
def test_a_path_descends(text: str, expected: str) -> None:
    assert verdict({"x": {"type": "string", "path": "customer.address.city"}}, customer=text) == expected
    optional = verdict({"x": {"type": "string", "path": "customer.address.city", "required": False}}, customer=text)
    assert optional == (None if expected.startswith("missing") else expected)


def test_names_with_a_dot_are_an_array() -> None:
    assert (
        verdict({"x": {"type": "string", "path": ["a.b", "c"]}}, **{"a.b": '{"c":"v"}', "a": '{"b":{"c":"w"}}'}) == "v"
    )


N: Declared = {"type": "struct", "fields": {"n": {"type": "int"}}, "required": False}
OPEN: Declared = {
    "s": N,
    "l": {"type": "array", "element": N, "required": False},
    "m": {"type": "map", "value": N, "required": False},
    "city": {"type": "string", "path": "a.city", "required": False},
    "j": {"type": "json", "required": False},
}
UNDECLARED = [
    ({}, ""),
    ({"more": "null"}, "more"),
    ({"more": "[1]", "much": "1e400"}, "more much"),
    ({"s": '{"n":1,"deep":2}', "l": '[{"n":1},{"n":1,"x.y":1},{"x.y":2}]'}, "s.deep l[].x.y"),
    ({"m": '{"k":{"new":1},"j":5}'}, "m{}.new"),
    ({"a": '{"street":"x"}'}, "a.street"),
    ({"a": '{"street":"x"},"a":{}'}, ""),
    ({"j": '{"any":{"thing":1}}'}, ""),
    ({"s": '{"n":"bad","deep":2}', "more": "1"}, "s.deep more"),
    ({"x" * 300: "1"}, "x" * 200 + "…"),
]


@pytest.mark.parametrize(("texts", "paths"), UNDECLARED, ids=range(len(UNDECLARED)))
def test_fields_that_nobody_has_declared(texts: dict[str, str], paths: str) -> None:
    """They are counted by path, once a record, also of one that breaks other rules; or ignored; or a reason."""
    feed, batch = feed_of(OPEN), [record(**texts), b"{", record(), record(**texts)]
    found = undeclared(feed, batch)
    assert found.counts == dict.fromkeys(paths.split(), 2)
    assert {*found.samples} == {*found.counts}
    assert undeclared(feed_of(OPEN, wire={"unknown": "ignore"}), batch).counts == {}
    strict = feed_of(OPEN, wire={"unknown": "quarantine"})
    assert undeclared(strict, batch).counts == found.counts
    assert_total(strict, contract := Contract(strict), [*batch], [KAFKA_TS] * 4)
    verdict = contract.check(batch[0], KAFKA_TS, UNBOUNDED)
    reasons = verdict.reasons if isinstance(verdict, Rejected) else ()
    assert [reason for reason in reasons if reason.startswith("unknown_field:")] == [
        f"unknown_field:{path}" for path in paths.split()
    ]
    assert {feed.verdict_digest(), feed_of(OPEN, wire={"unknown": "ignore"}).verdict_digest()} == {
        feed_of(OPEN).verdict_digest()
    }
    assert strict.verdict_digest() != feed.verdict_digest()


def undeclared(feed: Feed, batch: list[bytes]) -> Undeclared:
    """What the contract of the feed counts in a batch."""
    contract, values, times = Contract(feed), pa.array(batch, pa.binary()), pa.array([KAFKA_TS] * len(batch))
    return contract.undeclared(values, contract.check_all(values, times, times))


def test_a_sample_is_a_value_as_json() -> None:
    found = undeclared(feed_of({}), [record(more='{"a": ["é", 1.5, null]}'), record(more="2"), record(odd=r'"\ud800"')])
    assert found.samples == {"more": '{"a": ["é", 1.5, null]}', "odd": '"\ufffd"'}


def test_names_of_clients_are_bounded_in_number_and_size() -> None:
    contract = feed_of({}, wire={"unknown": "quarantine"})
    many = record(**{f"k{n}" * 500: '"' + "v" * 1000 + '"' for n in range(300)})
    found = undeclared(feed_of({}), [many, many])
    found.merge(undeclared(feed_of({}), [record(**{f"other{n}": "1" for n in range(50)})]))
    assert len(found.counts) == 201
    assert found.counts["…"] == 2 * 100 + 50
    assert max(map(len, [*found.counts, *found.samples.values()])) <= 201
    verdict = Contract(contract).check(many, KAFKA_TS, UNBOUNDED)
    assert isinstance(verdict, Rejected)
    assert len(verdict.reasons) == 20


def test_a_reason_appears_once() -> None:
    fields = {"x": {"type": "int", "path": "a.x"}, "y": {"type": "int", "path": "a.y"}}
    assert verdict(fields, a="5") == "bad_type:a"


# Random feeds. Whatever is declared and whatever comes, both ways say the same.

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
            {"type": "double"},
            {"type": "double", "text": True, "range": [-1e300, 1]},
            {"type": "decimal(5,2)"},
            {"type": "decimal(5,2)", "text": True, "range": [0, 100]},
            {"type": "decimal(38,10)", "range": [-1, 1e20]},
            {"type": "date"},
            {"type": "timestamp"},
            {"type": "timestamp", "format": "epoch_millis"},
            {"type": "timestamp", "format": "epoch_seconds", "text": True},
            {"type": "timestamp", "format": "date"},
            {"type": "uuid"},
            {"type": "json"},
        ]
    ),
    st.builds(lambda length: {"type": "binary", "length": length}, LENGTHS),
)
DEFAULTS = {"string": "a", "boolean": True, "int": 1, "long": 2, "float": 0, "double": 1, "decimal(5,2)": 1}
NAMES = st.sampled_from(["a", "b", "c", "a.b", "größe", "x y", "]"])


@st.composite
def declarations(draw: st.DrawFn, depth: int = 3) -> Declared:
    """A field of any kind."""
    kind = draw(st.sampled_from(["scalar", "scalar", "array", "map", "struct"] if depth else ["scalar"]))
    if kind == "scalar":
        field = {key: value for key, value in draw(SCALARS).items() if value is not None}
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


HOSTILE = [
    *("null", "null", "true", "false", "{}", "[]", "[[]]", '{"a":1}', '{"a":1,"a":null}', "[null]", '""', '"a"', '"é"'),
    *("0", "-0", "-0.0", "5.0", "1e400", "-1e400", "1e-400", "9" * 30, "01", "1.", "-", "NaN", "Infinity", "0.1"),
    *("2147483648", "9223372036854775808", "1.005", "3.4028235677973366e38", "3.5e38", "1e-46", "-1e-46", "100.00"),
    *('"5"', '"05"', '"-0"', '"1e2"', '"5.0"', '"1e400"', '" 5"', '"NaN"', '"12.345"', '"99999999999"', '"1e-60"'),
    *('"YQ=="', '"YWJj"', '"YWJjZA=="', '"YQ"', '"YR=="', '"Y Q="', '"-_-_"', f'"{UUID}"', '"urn:uuid:x"'),
    *('"2026-11-21"', '"0000-01-01"', '"2026-02-29"', '"20261121"', '"2026-11-21T01:20:30.1234567+01"', '"9999-12-31"'),
    *('"\\ud800"', '"\\udc00x"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x"', '"\x01"', '"\\u00e"', "nul", "tru", " 1 "),
    *('{"\\ud800":1}', '{"a":', "[1,]", '{"a" : [ 1 , {"b":"\\ud800"} ] }', '{"":1e400}', "[01]", '["\\q"]', "{1:2}"),
    *("[" * 120 + "]" * 120, '{"a":' * 120 + "1" + "}" * 120, "[" * 90 + "]" * 90, '"' + "[" * 120 + '"', "// x"),
]


@st.composite
def values(draw: st.DrawFn, field: Declared) -> str:
    """JSON for a field: mostly of its kind, sometimes anything."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(HOSTILE))
    kind = field["type"].partition("(")[0]
    if kind == "array":
        return "[" + ",".join(draw(st.lists(values(field["element"]), max_size=3))) + "]"
    if kind == "map":
        keys = st.sampled_from(["a", "b", "\\u0061", "", "é"])
        pairs = draw(st.lists(st.tuples(keys, values(field["value"])), max_size=3))
        return "{" + ", ".join(f'"{key}": {text}' for key, text in pairs) + "}"
    if kind == "struct":
        return draw(members(field["fields"]))
    texts = {
        "string": ['"a"', '"é"', '"abc"', '"\\u0061"'],
        "boolean": ["true", "false"],
        "date": ['"2026-11-21"', '"1969-12-31"'],
        "timestamp": ['"2026-11-21T01:20:30Z"', '"2026-11-21 01:20"'],
        "binary": ['"YQ=="', '""'],
        "uuid": [f'"{UUID}"'],
        "json": ["{ }", '"x"', "[1, 2]", '{"a": {"b": 1.50}}'],
    }
    if kind in texts:
        return draw(st.sampled_from(texts[kind]))
    number = draw(st.sampled_from(["0", "1", "-1", "0.5", "1.25", "5e-1", "0.1"]) | st.integers().map(str))
    return f'"{number}"' if field.get("text") else number


@st.composite
def members(draw: st.DrawFn, fields: Declared) -> str:
    """An object with values for those fields: some left out, some twice, some more."""
    tree: dict[str, Any] = {}
    for name, field in fields.items():
        *above, last = field.get("path", [name])
        branch = tree
        for step in above:
            branch = branch.setdefault(step, {})
        branch[last] = draw(values(field))
    return draw(as_text(tree))


@st.composite
def as_text(draw: st.DrawFn, tree: dict[str, Any]) -> str:
    """An object as JSON text."""
    parts: list[str] = []
    for name, sub in tree.items():
        for _ in range(draw(st.sampled_from([1, 1, 1, 1, 1, 0, 2]))):
            text = draw(as_text(sub)) if isinstance(sub, dict) else sub
            parts.append(f"{json.dumps(name)}{draw(st.sampled_from(['', ' ']))}: {text}")
    if draw(st.integers(0, 4)) == 0:
        more = draw(st.sampled_from(HOSTILE))
        name = draw(st.sampled_from(["more", "a", "\\ud800"]))
        parts.insert(draw(st.integers(0, len(parts))), f'"{name}": {more}')
    return "{" + ",".join(parts) + "}"


@st.composite
def feeds_and_records(draw: st.DrawFn) -> tuple[Feed, Sequence[bytes]]:
    """A feed of any declaration with a batch of records for it."""
    fields = draw(objects(3))
    feed = feed_of(fields, wire={"unknown": draw(st.sampled_from(["ignore", "report", "quarantine"]))})
    declared = FIXED | fields
    records = draw(st.lists(members(declared), min_size=1, max_size=6))
    return feed, [text.encode("utf-8", "surrogatepass") for text in records]


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
