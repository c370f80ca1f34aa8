"""Feeds of any declaration: the fast path and the definition judge every record alike."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from stream_app.contract.contract import Contract
from stream_app.contract.undeclared import Undeclared, counted
from stream_app.contract.verdict import Rejected
from stream_app.feeds.feed import Feed
from stream_app.storage.planned import UNBOUNDED
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
    assert {*map(counted, verdict.reasons)} == {"unknown_field"}


@pytest.mark.parametrize("planned", [KAFKA_TS - 10**8, KAFKA_TS, UNBOUNDED, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("kafka_ts", [KAFKA_TS, 0, -(2**63), 2**63 - 1])
def test_kafka_s_timestamp_may_be_the_event_time(kafka_ts: int, planned: int) -> None:
    """Then no record is late, and one is of the future by our clock alone."""
    tolerance = 3_600_000_000
    feed = feed_of({}, event_time={"field": "kafka_ts", "lateness": "1 second", "future_tolerance": "1 hour"})
    assert_total(feed, contract := Contract(feed), [record()], [kafka_ts], [planned])
    verdict = contract.check(record(), kafka_ts, planned)
    assert isinstance(verdict, Rejected) == (kafka_ts - planned > tolerance)
    assert not isinstance(verdict, Rejected) or verdict.reasons == ("future",)


def test_a_reason_appears_once() -> None:
    fields = {"x": {"type": "int", "path": "a.x"}, "y": {"type": "int", "path": "a.y"}}
    assert verdict(fields, a="5") == "bad_type:a"
