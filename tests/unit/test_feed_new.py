"""A first feed file is a feed, and refuses no record of the sample that it was made from."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import checked
from stream_app.ops.feed_new import proposed
from stream_app.sources.sample import Sampled
from stream_app.storage.planned import UNBOUNDED
from tests import feed_schema, shapes
from tests.unit.conftest import Cli

AT = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def sampled(values: Sequence[object], seconds: float = 0) -> list[Sampled]:
    """Records with those values, JSON or bytes, whose Kafka timestamps are a second apart."""
    made = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    return [Sampled(value, AT + int(seconds * 1e6) + i * 1_000_000) for i, value in enumerate(made)]


def feed_of(records: Sequence[Sampled]) -> Feed:
    """The feed that is made of them, which takes each that is an object."""
    text, odd, _ = proposed("shop.Orders-v1", records)
    assert feed_schema.mistakes(text) == []
    feed, problems = checked("orders", tomllib.loads(text, parse_float=Decimal))
    assert feed is not None, (problems, text)
    contract = Contract(feed)
    verdicts = [contract.check(one.value, one.kafka_us, UNBOUNDED) for one in records]
    refused = [verdict.reasons for verdict in verdicts if isinstance(verdict, Rejected)]
    assert len(refused) == sum(odd.values()), text
    assert {reason for reasons in refused for reason in reasons} == {*odd}
    return feed


def row(number: int, **more: object) -> dict[str, object]:
    return {"id": f"r{number}", "at": f"2026-01-01T00:00:{number % 60:02}Z", **more}


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_a_well_known_shape_is_declared_and_none_of_its_sample_refused(name: str) -> None:
    shape = shapes.SHAPES[name]
    feed = feed_of(sampled([shape.record(number) for number in range(200)]))
    assert ".".join(feed.path_of(feed.event_time.field)) == shape.time
    assert {column: field.type for column, field in feed.fields.items()} == shape.types


KEYED: dict[str, tuple[list[object], str]] = {
    "numbers": ([1, 2**40], "map<long>"),
    "numbers and nulls": ([1, None], "map<long>"),
    "amounts": ([1, 2.5], "map<double>"),
    "texts and numbers": ([1, "a"], "map<json>"),
    "objects": ([{"n": 1}, {"n": 2, "at": "2026-01-01"}], "map<struct<n:long,at:date>>"),
    "arrays": ([[1], [], [None, 2]], "map<array<long>>"),
    "objects that are keyed themselves": ([{f"k{n}": 0.5} for n in range(200)], "map<map<double>>"),
    "nothing": ([None], "json"),
}


@pytest.mark.parametrize("found", KEYED)
def test_an_object_that_is_keyed_by_values_is_a_map(found: str) -> None:
    values, expected = KEYED[found]
    records = [row(i, counts={f"user{i}": values[i % len(values)]}) for i in range(200)]
    field = feed_of(sampled(records)).fields["counts"]
    assert field.as_type.name == expected
    if field.value:
        assert field.value.required == (None not in values)


def test_names_that_no_map_can_have_make_it_json() -> None:
    records = [row(i, counts={f"user{i}": i, "\ud800": 1}) for i in range(200)]
    assert feed_of(sampled(records)).fields["counts"].type == "json"


def test_an_object_with_many_names_in_each_record_is_a_struct() -> None:
    records = [row(i, wide={f"n{j}": j for j in range(150)}) for i in range(20)]
    assert feed_of(sampled(records)).fields["wide"].type == "struct"


SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(
        ["2026-01-01", "2026-01-01T00:00:00Z", "20260101T000000", "\ud800", "0190f0c4-7d1e-7c3a-9f00-000000000000"]
    )
    | st.sampled_from([1e308, 12.34, 5.0, 10**400, 2**63, 1234567890123.5, 0.1234567891, 12345678901234567890])
)
MEMBERS = st.sampled_from(
    ["a", "userId", "user_id", "topic", "1st", "x.y", 'quo"ted', "é", "", "amount", "window_start"]
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=4), max_leaves=12
)


@given(st.lists(st.dictionaries(MEMBERS, VALUES, max_size=6) | VALUES, max_size=8), st.integers(-86_400, 86_400))
def test_whatever_the_records_are_those_that_are_objects_are_taken(values: list[object], seconds: int) -> None:
    objects = [
        {**value, "id": f"r{i}", **(row(i) if seconds % 2 else {})} if isinstance(value, dict) else value
        for i, value in enumerate(values)
    ]
    feed_of(sampled([row(99), *objects], seconds))


def test_members_are_optional_where_one_record_lacks_them_and_nested_as_they_are() -> None:
    first = row(
        1, userId="u", address={"city": "Berlin", "geo": {"lat": 1.5}}, tags=["a", None], n=1, mixed=1, none=None
    )
    second = row(2, userId="v", address={"city": "Bonn"}, tags=[], n=None, mixed="x")
    feed = feed_of(sampled([first, second]))
    fields = feed.fields
    assert [*fields] == ["id", "at", "user_id", "address", "tags", "n", "mixed"]
    assert fields["user_id"].path == ("userId",)
    assert (fields["n"].type, fields["n"].required) == ("long", False)
    assert (fields["mixed"].type, fields["mixed"].required) == ("json", True)
    address, element = fields["address"].fields, fields["tags"].element
    assert address is not None
    assert element is not None
    assert (address["city"].required, address["geo"].required) == (True, False)
    assert (element.type, element.required) == ("string", False)


@pytest.mark.parametrize(("shape", "levels"), [("object", 40), ("array", 9), ("mixed", 30), ("object", 32)])
def test_what_nests_deeper_than_a_field_may_is_json(shape: str, levels: int) -> None:
    """And is none of the sample's refusals; feed_of says so."""
    value: object = 1
    for level in range(levels):
        value = [value] if shape == "array" or (shape == "mixed" and level % 2) else {"a": value}
    field = feed_of(sampled([row(1, x=value), row(2, x=value)])).fields["x"]
    kinds = []
    while inner := field.element or (field.fields or {}).get("a"):
        kinds.append(field.type)
        field = inner
    assert kinds, "the outer ones are as they are"
    assert field.type == ("long" if levels == 32 else "json")


@pytest.mark.parametrize(
    ("amounts", "kind"),
    [
        ((1.5, 0.12), "decimal(18,2)"),
        ((1234567890123.5, 0.1234567891), "decimal(28,10)"),
        ((12345678901234567890, 0.12), "decimal(28,2)"),
        ((10**27, 0.12), "double"),
        ((1e-300, 0.12), "double"),
    ],
)
def test_a_decimal_has_room_for_the_most_digits_before_and_behind_the_point(
    amounts: tuple[float, ...], kind: str
) -> None:
    """No record of the sample would be refused, though no number has them all."""
    assert feed_of(sampled([row(i, amount=one) for i, one in enumerate(amounts)])).fields["amount"].type == kind


def test_the_event_time_is_the_time_nearest_to_kafka_s() -> None:
    born = {"created": "1999-01-01T00:00:00Z", "customer": {"since": "2020-02-02T00:00:00Z"}}
    values = [row(i, **born, seen="2026-01-01T05:00:00Z") for i in range(5)]
    feed = feed_of(sampled(values, seconds=60))
    assert feed.event_time.field == "at"
    assert feed.event_time.lateness.total_seconds() == 600
    assert feed.event_time.future_tolerance.total_seconds() == 60
    assert feed_of(sampled(values, seconds=5 * 3600 + 60)).event_time.field == "seen"


def test_where_no_member_is_a_time_near_to_kafka_s_these_are_the_event_time() -> None:
    for at in ({}, {"at": "2020-01-01T00:00:00Z"}, {"at": None}):
        assert feed_of(sampled([{"id": number, **at} for number in range(3)])).event_time.field == "kafka_ts"


def test_a_number_is_a_time_where_one_format_has_all_near_to_kafka_s() -> None:
    millis = [{"id": i, "at": AT // 1000 + i * 1000, "n": 10**12, "seq": 10**9 + i} for i in range(5)]
    feed = feed_of(sampled(millis))
    assert (feed.fields["at"].type, feed.fields["at"].format) == ("timestamp", "epoch_millis")
    assert {feed.fields["n"].type, feed.fields["seq"].type} == {"long"}
    assert feed.dedupe
    assert feed.dedupe.key == "id"
    fractions = [{"id": i, "ts": AT / 1e6 + i + 0.25} for i in range(5)]
    assert feed_of(sampled(fractions)).fields["ts"].format == "epoch_seconds"


def test_a_time_and_a_key_in_an_object_become_columns_of_their_own() -> None:
    values = [{"meta": {"id": i, "ts": "2026-01-01T00:00:00Z", "v": 1}, "data": {"x": 1}} for i in range(5)]
    feed = feed_of(sampled(values))
    assert feed.event_time.field == "meta_ts"
    assert feed.dedupe
    assert feed.dedupe.key == "meta_id"
    assert feed.path_of("meta_v") == ("meta", "v")
    assert feed.fields["data"].type == "struct"


def test_a_feed_without_a_member_that_tells_records_apart_keeps_each() -> None:
    text, _, guesses = proposed("t", sampled([{"at": "2026-01-01T00:00:00Z"}] * 3))
    assert "\n# No member tells the records apart, so there is no [dedupe], and each is kept.\n" in text
    assert "dedupe: none: no member tells the records apart" in guesses
    assert feed_of(sampled([{"at": "2026-01-01T00:00:00Z"}] * 3)).dedupe is None


def test_what_is_no_object_is_counted_by_its_reason() -> None:
    values: list[object] = [row(1), b"", b"{", [1], b"[" * 200 + b"]" * 200, row(2)]
    text, odd, guesses = proposed("t", sampled(values))
    assert odd == {"empty": 1, "not_json": 2, "not_object": 1}
    assert "from 6 records of the topic, of which 1 empty, 2 not_json, 1 not_object" in text
    assert [guess.partition(":")[0] for guess in guesses] == ["event_time", "dedupe"]
    assert text.count("# A guess: ") == 2


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([], "has no record; a feed file is made of JSON objects"),
        ([b"x", [1]], r"has 2 records \(1 not_json, 1 not_object\); a feed file"),
    ],
)
def test_records_that_make_no_feed_are_refused_with_the_reason(values: list[object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        proposed("t", sampled(values))


def test_a_folder_that_is_not_there_is_told_before_the_topic_is_read(cli: Cli, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    done = cli(tmp_path, "feed-new", "--topic=t", FEEDS_PATH=str(missing), KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (done.code, done.err) == (2, f"feed-new: FEEDS_PATH: there is no folder {missing}; make it first\n")
