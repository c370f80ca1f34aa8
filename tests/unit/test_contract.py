"""The contract of a feed: total, deterministic, strict; and its fast path never disagrees with the slow one."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.contract import wire as wire_module
from stream_app.contract.columns import column_of
from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected
from stream_app.contract.wire import Number, is_too_deep
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.fields import Field
from stream_app.feeds.load import load_feeds
from stream_app.storage.planned import UNBOUNDED
from tests import verdicts
from tests.examples import examples

FEED = load_feeds(Path(__file__).parents[2] / "conf" / "feeds", ["transactions"])[0]
CONTRACT = Contract(FEED)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


KAFKA_TS = micros(datetime(2026, 11, 21, 1, 20, 30, tzinfo=UTC))
GOOD: dict[str, Any] = {
    "txn_id": "t-1",
    "event_ts": "2026-11-21T01:20:29.5Z",
    "user_id": "u-1",
    "card_id": "c-1",
    "merchant": 'Müller & "Sons"',
    "category": "groceries",
    "amount": 12.34,
    "currency": "EUR",
    "status": "approved",
    "city": "Köln",
    "country": "DE",
    "lat": 50.9,
    "lon": 6.95,
}


def record(**changes: object) -> bytes:
    return json.dumps(GOOD | changes, ensure_ascii=False).encode("utf-8", "surrogatepass")


def spliced(wire: str, text: str) -> bytes:
    """A valid record in which one field's value is this JSON text."""
    return record(**{wire: "@@"}).replace(b'"@@"', text.encode("utf-8", "surrogatepass"))


def without(wire: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != wire}).encode()


def reasons(
    value: bytes | None, contract: Contract = CONTRACT, kafka_ts: int = KAFKA_TS, planned: int = UNBOUNDED
) -> tuple[str, ...]:
    verdict = contract.check(value, kafka_ts, planned)
    return verdict.reasons if isinstance(verdict, Rejected) else ()


def row(value: bytes, contract: Contract = CONTRACT) -> dict[str, Any]:
    verdict = contract.check(value, KAFKA_TS, UNBOUNDED)
    assert not isinstance(verdict, Rejected), verdict
    return dict(zip(contract.columns, verdict, strict=True))


def test_a_valid_record_becomes_a_typed_row_in_the_feeds_order() -> None:
    assert CONTRACT.columns == tuple(FEED.fields)
    assert CONTRACT.check(record(), KAFKA_TS, UNBOUNDED) == (
        "t-1",
        KAFKA_TS - 500_000,
        "u-1",
        "c-1",
        'Müller & "Sons"',
        "groceries",
        Decimal("12.34"),
        "EUR",
        "approved",
        "Köln",
        "DE",
        50.9,
        6.95,
    )


VALID = {
    "unknown extra fields": record(extra=1, more={"a": [1, {"b": None}]}, txn="x"),
    "white space around": b" \r\n\t" + record() + b"\n ",
    "duplicate key, last wins": record()[:-1] + b', "amount": 1}',
    "duplicate key, a bad one first": b'{"amount": "bad", ' + record()[1:],
    "escaped key": record().replace(b'"amount"', b'"\\u0061mount"'),
    "escaped text": spliced("city", '"K\\u00f6ln \\ud83d\\ude00 \\n"'),
    "nesting in an unknown field": record(extra=None).replace(b"null", b"[" * 99 + b"]" * 99),
    "brackets in text nest nothing": record(extra="[{\\" * 500),
    "lone surrogate in an unknown field": record(extra=None).replace(b"null", rb'"\ud800"'),
    "lone surrogate in an unknown key": record()[:-1] + rb', "\udfff": 1}',
    "1e400 in an unknown field": record(extra=None).replace(b"null", b"1e400"),
    "5000 digits in an unknown field": record(extra=None).replace(b"null", b"9" * 5000),
    "txn_id of 64": record(txn_id="😀" * 64),
    "text of 256": record(merchant="é" * 256),
    "text of one": record(city="x"),
    "a NUL is text": record(city="\0"),
    "lat and lon at the edge": record(lat=-90, lon=180.0),
    "integer for a double": record(lat=5),
    "1 MB unknown field": record(extra="x" * 1_000_000),
}


@pytest.mark.parametrize("value", VALID.values(), ids=VALID.keys())
def test_what_the_contract_takes_has_no_reason(value: bytes) -> None:
    assert reasons(value) == ()


REFUSED: dict[str, tuple[bytes | None, str]] = {
    "tombstone": (None, "empty"),
    "empty value": (b"", "empty"),
    "white space only": (b" \n", "not_json"),
    "text": (b"hello", "not_json"),
    "trailing text": (record() + b" x", "not_json"),
    "trailing NUL": (record() + b"\0", "not_json"),
    "two objects": (record() + record(), "not_json"),
    "two objects on two lines": (record() + b"\n" + record(), "not_json"),
    "cut off": (record()[:-1], "not_json"),
    "trailing comma": (record()[:-1] + b",}", "not_json"),
    "single quotes": (record().replace(b'"', b"'"), "not_json"),
    "byte order mark": (b"\xef\xbb\xbf" + record(), "not_json"),
    "UTF-16": (record().decode().encode("utf-16"), "not_json"),
    "invalid UTF-8 in a field": (record(city="@@").replace(b"@@", b"\xff"), "not_json"),
    "invalid UTF-8 in an unknown field": (record(extra="@@").replace(b"@@", b"\xc3("), "not_json"),
    "invalid UTF-8 in an unknown key": (record(**{"@@": 1}).replace(b"@@", b"\xff"), "not_json"),
    "a surrogate in UTF-8": (record(extra="@@").replace(b"@@", b"\xed\xa0\x80"), "not_json"),
    "raw control character": (record(city="@@").replace(b"@@", b"\x01"), "not_json"),
    "NaN": (spliced("amount", "NaN"), "not_json"),
    "Infinity": (spliced("lat", "Infinity"), "not_json"),
    "-Infinity": (spliced("extra", "-Infinity"), "not_json"),
    "leading zero": (spliced("amount", "012"), "not_json"),
    "bare fraction": (spliced("amount", ".5"), "not_json"),
    "deep nesting": (record(extra=None).replace(b"null", b"[" * 100 + b"]" * 100), "not_json"),
    "very deep nesting": (b"[" * 100_000 + b"]" * 100_000, "not_json"),
    "very deep and open": (b'{"a":' * 200_000, "not_json"),
    "an array": (b"[1, 2]", "not_object"),
    "an array of records": (b"[" + record() + b"]", "not_object"),
    "a number": (b"42", "not_object"),
    "5000 digits": (b"9" * 5000, "not_object"),
    "null": (b"null", "not_object"),
    "true": (b" true ", "not_object"),
    "a string": (b'"{}"', "not_object"),
    "wrong-case key": (record().replace(b'"txn_id"', b'"TXN_ID"'), "missing:txn_id"),
    "missing field": (without("country"), "missing:country"),
    "missing time": (without("event_ts"), "missing:event_ts"),
    "the column's name for the wire's": (record().replace(b"event_ts", b"event_time"), "missing:event_ts"),
    "null field": (record(lat=None), "missing:lat"),
    "duplicate key, the last null": (record()[:-1] + b', "lat": null}', "missing:lat"),
    "duplicate key, the last bad": (record()[:-1] + b', "lat": "x"}', "bad_type:lat"),
    "empty string": (record(txn_id=""), "out_of_range:txn_id"),
    "empty code": (record(country=""), "not_allowed:country"),
    "txn_id of 65": (record(txn_id="x" * 65), "out_of_range:txn_id"),
    "text of 257": (record(merchant="é" * 257), "out_of_range:merchant"),
    "1 MB": (record(city="x" * 1_000_000), "out_of_range:city"),
    "number for a string": (record(user_id=5), "bad_type:user_id"),
    "list for a string": (record(user_id=["u"]), "bad_type:user_id"),
    "object for a string": (record(user_id={}), "bad_type:user_id"),
    "lone surrogate": (spliced("city", r'"\ud800"'), "bad_type:city"),
    "half a pair": (spliced("city", r'"\ud800\u0041"'), "bad_type:city"),
    "lone surrogate in a code": (spliced("currency", r'"\udc00"'), "bad_type:currency"),
    '"12.5" for an amount': (record(amount="12.5"), "bad_type:amount"),
    "true for an amount": (record(amount=True), "bad_type:amount"),
    "list for an amount": (record(amount=[1]), "bad_type:amount"),
    '"5" for a double': (record(lat="5"), "bad_type:lat"),
    "false for a double": (record(lon=False), "bad_type:lon"),
    "three decimals": (record(amount=12.345), "out_of_range:amount"),
    "a millionth": (spliced("amount", "1e-6"), "out_of_range:amount"),
    "negative amount": (record(amount=-0.01), "out_of_range:amount"),
    "too much": (spliced("amount", "1000000.01"), "out_of_range:amount"),
    "1e400": (spliced("amount", "1e400"), "out_of_range:amount"),
    "1e999999999999999999999": (spliced("amount", "1e999999999999999999999"), "out_of_range:amount"),
    "an exponent of 5000 digits": (spliced("amount", "1e-" + "9" * 5000), "out_of_range:amount"),
    "1e-999999999999999999999": (spliced("amount", "1e-999999999999999999999"), "out_of_range:amount"),
    "5000 digits for an amount": (spliced("amount", "9" * 5000), "out_of_range:amount"),
    "1e400 for a double": (spliced("lat", "-1e400"), "out_of_range:lat"),
    "5000 digits for a double": (spliced("lat", "9" * 5000), "out_of_range:lat"),
    "lat beyond": (record(lat=90.0000001), "out_of_range:lat"),
    "lon beyond": (record(lon=-180.5), "out_of_range:lon"),
    "unknown currency": (record(currency="XXX"), "not_allowed:currency"),
    "currency in lower case": (record(currency="eur"), "not_allowed:currency"),
    "unknown status": (record(status="maybe"), "not_allowed:status"),
    "country in lower case": (record(country="de"), "not_allowed:country"),
    "country of three": (record(country="DEU"), "not_allowed:country"),
    "country and a newline": (record(country="DE\n"), "not_allowed:country"),
    "country of other capitals": (record(country="ÄÖ"), "not_allowed:country"),
    "several, in the feed's order": (
        record(lon="x", lat=100, txn_id=None, event_ts="2026-11-20T00:00:00Z", currency="?"),
        "missing:txn_id not_allowed:currency out_of_range:lat bad_type:lon late",
    ),
    "an empty object": (b"{}", " ".join(f"missing:{wire}" for wire in GOOD)),
}


@pytest.mark.parametrize(("value", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_all_reasons(value: bytes | None, expected: str) -> None:
    assert reasons(value) == tuple(expected.split())


TIMES: dict[str, str | int] = {
    # text -> the reason, or microseconds of the second that it names
    "2026-11-21T01:20:30Z": 0,
    "2026-11-21 01:20:30Z": 0,
    "2026-11-21T01:20:30": 0,
    "2026-11-21 01:20:30": 0,
    "2026-11-21T03:20:30+02:00": 0,
    "2026-11-21T03:20:30+0200": 0,
    "2026-11-20T23:50:30-01:30": 0,
    "2026-11-21T01:20:30-00:00": 0,
    "2026-11-22T01:19:30+23:59": 0,
    **{f"2026-11-21T01:20:30.{'123456789'[:n]}Z": int("123456789"[:n].ljust(6, "0")[:6]) for n in range(1, 10)},
    "2026-11-21T03:20:30.9999999+0200": 999_999,
    "2026-11-21T01:20:30.1234567890Z": "bad_time:event_ts",
    "2026-11-21T01:20:30.Z": "bad_time:event_ts",
    "2026-11-21T01:20:30,5Z": 500_000,
    "2026-11-21T01:20Z": -30_000_000,
    "2026-11-21": "bad_time:event_ts",
    "20261121T012030Z": 0,
    "2026-W47-6T01:20:30Z": "bad_time:event_ts",
    "2026-11-21t01:20:30Z": 0,
    "2026-11-21T01:20:30z": 0,
    "2026-11-21T01:20:30 Z": "bad_time:event_ts",
    "2026-11-21T03:20:30+02": 0,
    "2026-11-21T01:20:30+24:00": "bad_time:event_ts",
    "2026-11-21T01:20:30+02:60": "bad_time:event_ts",
    "2026-11-21T01:20:30Z\n": "bad_time:event_ts",
    " 2026-11-21T01:20:30Z": "bad_time:event_ts",
    "2026-11-21T01:20:3\u0660Z": "bad_time:event_ts",
    "1795223230": "bad_time:event_ts",
    "1795223230000": "bad_time:event_ts",
    "": "bad_time:event_ts",
    "now": "bad_time:event_ts",
    "2026-11-21T24:00:00Z": "bad_time:event_ts",
    "2026-11-21T01:60:00Z": "bad_time:event_ts",
    "2026-12-31T23:59:60Z": "bad_time:event_ts",
    "2026-02-31T00:00:00Z": "bad_time:event_ts",
    "2026-02-29T00:00:00Z": "bad_time:event_ts",
    "2026-00-01T00:00:00Z": "bad_time:event_ts",
    "0000-01-01T00:00:00Z": "bad_time:event_ts",
    "0001-01-01T00:00:00+00:01": "bad_time:event_ts",
    "9999-12-31T23:59:59-00:01": "bad_time:event_ts",
    "0001-01-01T00:00:00Z": "late",
    "9999-12-31T23:59:59.999999999Z": "future",
    "2030-01-01T00:00:00Z": "future",
    "2026-11-20T15:20:30Z": "late",
}


@pytest.mark.parametrize(("text", "expected"), TIMES.items(), ids=[ascii(text) for text in TIMES])
def test_an_event_time_is_read_or_refused_with_a_reason(text: str, expected: str | int) -> None:
    if isinstance(expected, int):
        assert row(record(event_ts=text))["event_time"] == KAFKA_TS + expected
    else:
        assert reasons(record(event_ts=text)) == (expected,)


@pytest.mark.parametrize("number", ["1795223230", "1795223230000.5", "true", "[]", "{}"])
def test_a_time_is_a_string(number: str) -> None:
    assert reasons(spliced("event_ts", number)) == ("bad_type:event_ts",)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-180, ()), (-180.000001, ("late",)), (60, ()), (60.000001, ("future",))],
)
def test_late_and_future_are_strictly_beyond_the_limits(seconds: float, expected: tuple[str, ...]) -> None:
    moment = EPOCH + timedelta(microseconds=KAFKA_TS) + timedelta(seconds=seconds)
    value = record(event_ts=moment.isoformat())
    assert reasons(value) == expected


def test_a_client_s_clock_moves_no_verdict_beyond_the_time_of_the_plan() -> None:
    """Late is what is late by the client's own clock; of the future what is so by either."""
    ahead = KAFKA_TS + 3_600_000_000
    value = record(event_ts="2026-11-21T02:20:30Z")
    assert reasons(value, kafka_ts=ahead, planned=ahead) == ()
    assert reasons(value, kafka_ts=ahead, planned=KAFKA_TS) == ("future",)
    assert reasons(value, kafka_ts=KAFKA_TS, planned=ahead) == ("future",)
    assert reasons(record(), kafka_ts=KAFKA_TS, planned=ahead) == (), "read an hour later"
    assert reasons(record(), kafka_ts=ahead, planned=KAFKA_TS) == ("late",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.34", "12.34"),
        ("12.340", "12.34"),
        ("12.5", "12.50"),
        ("12", "12.00"),
        ("1e2", "100.00"),
        ("1E+000000000000000000002", "100.00"),
        ("1234e-2", "12.34"),
        ("1000000", "1000000.00"),
        ("1000000.00000", "1000000.00"),
        ("1" + "0" * 5000 + "e-5000", "1.00"),
        ("0." + "0" * 5000 + "1e5000", "0.10"),
        ("0", "0.00"),
        ("-0", "0.00"),
        ("-0.00", "0.00"),
        ("-0e5", "0.00"),
        ("0e" + "9" * 5000, "0.00"),
        ("0.000e-" + "9" * 5000, "0.00"),
    ],
)
def test_amounts_have_two_decimals_however_they_are_spelled(text: str, expected: str) -> None:
    assert str(row(spliced("amount", text))["amount"]) == expected


def hard(times: int) -> list[bytes]:
    """Brackets and escapes, ten bytes of each kind that often."""
    escapes = b'"' + b'\\"' * 5 * times
    found = [escapes, b"[" * 101 + escapes, b"[]" * 5 * times, b"[" * 10 * times, b'{"a":' * 2 * times]
    found += [b'["' * 3 * times, b'["]["]["' * times, b"][" * 5 * times, b'""[' * 3 * times, b"[[]," * 2 * times]
    return [*found, b"\\\\" * 5 * times + b"[" * 200]


def seconds(work: Callable[[], object]) -> float:
    """What it costs of a processor; the least of three, which others disturbed least."""
    costs = []
    for _ in range(3):
        start = time.process_time()
        work()
        costs.append(time.process_time() - start)
    return min(costs)


_LINEAR = 50
"""What ten times as much may cost: halfway from 10 times to 100, as of each byte for each other."""


def test_a_megabyte_of_brackets_and_escapes_costs_as_much_as_it_is_long() -> None:
    long, short = hard(100_000), hard(10_000)
    assert {reasons(value) for value in long} == {("not_json",)}
    for one, tenth in zip(long, short, strict=True):
        cost, of_tenth = (seconds(lambda value=value: reasons(value)) for value in (one, tenth))  # type: ignore[misc]
        assert cost < _LINEAR * of_tenth, one[:10]


def by_the_book(value: bytes) -> int:
    """The deepest level of JSON, looked at byte by byte."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in value:
        sign = chr(byte)
        if in_string:
            in_string = escaped or sign != '"'
            escaped = sign == "\\" and not escaped
        elif sign == '"':
            in_string = True
        else:
            depth += (sign in "[{") - (sign in "]}")
            deepest = max(deepest, depth)
    return deepest


@given(
    st.lists(st.sampled_from([b"[", b"{", b"]", b"}", b'"', rb"\\", rb"\"", b"[[" * 49, b"]" * 50, b"a"]), max_size=40)
)
def test_depth_is_counted_outside_of_strings(parts: list[bytes]) -> None:
    inside = json.dumps(b"".join(parts).decode()).encode()
    for value in (b"".join(parts).replace(b"\\", b""), inside, b"[" * 60 + inside + b"[" * 41):
        for piece in (3, 1 << 16):
            with patch.object(wire_module, "_PIECE", piece):
                assert is_too_deep(value) == (by_the_book(value) > 100)


OTHER_TYPES = Feed.model_validate(
    {
        "name": "other",
        "topic": "other",
        "fields": {
            "id": {"type": "string", "allowed": ["a", "b"]},
            "at": {"type": "timestamp"},
            "class": {"type": "string", "length": [2, 4], "pattern": "(?i)[a-z]{3,5}", "path": "Klasse ä"},
            "n": {"type": "long"},
            "small": {"type": "long", "range": [-5, 5]},
            "x": {"type": "double"},
            "yes": {"type": "boolean"},
            "wide": {"type": "decimal(38,10)"},
            "unit": {"type": "decimal(2,2)"},
        },
        "event_time": {"field": "at", "lateness": "1 hour", "future_tolerance": "1 hour"},
        "dedupe": {"key": "id", "within": "1 hour"},
    }
)
OTHER_GOOD = {
    "id": '"a"',
    "at": '"2026-11-21T01:20:30Z"',
    "Klasse ä": '"abc"',
    "n": "5",
    "small": "-5",
    "x": "1.5",
    "yes": "true",
    "wide": "1.5",
    "unit": "0.25",
}


def other(**texts: str) -> bytes:
    fields = OTHER_GOOD | texts
    return ("{" + ",".join(f'"{wire}":{text}' for wire, text in fields.items()) + "}").encode()


@pytest.mark.parametrize(
    ("wire", "text", "expected"),
    [
        ("n", "5.0", 5),
        ("n", "5e2", 500),
        ("n", "-0", 0),
        ("n", "-9223372036854775808", -(2**63)),
        ("n", "9223372036854775807", 2**63 - 1),
        ("n", "9007199254740993.0", 9007199254740993),
        ("n", "9223372036854775808", "out_of_range:n"),
        ("n", "-9223372036854775809", "out_of_range:n"),
        ("n", "5.5", "out_of_range:n"),
        ("n", "1e400", "out_of_range:n"),
        ("n", "9" * 5000, "out_of_range:n"),
        ("n", '"5"', "bad_type:n"),
        ("n", "true", "bad_type:n"),
        ("small", "6", "out_of_range:small"),
        ("small", "5.0", 5),
        ("x", "1e308", 1e308),
        ("x", "1e400", "out_of_range:x"),
        ("x", "-1e400", "out_of_range:x"),
        ("x", "9" * 5000, "out_of_range:x"),
        ("x", "1e-400", 0.0),
        ("x", "-0", 0.0),
        ("x", "-0.0", 0.0),
        ("x", "9007199254740993", 9007199254740992.0),
        ("yes", "false", False),
        ("yes", "1", "bad_type:yes"),
        ("yes", '"true"', "bad_type:yes"),
        ("wide", "1234567890123456789012345678.0123456789", Decimal("1234567890123456789012345678.0123456789")),
        ("wide", "-9999999999999999999999999999.9999999999", Decimal("-9999999999999999999999999999.9999999999")),
        ("wide", "1e28", "out_of_range:wide"),
        ("wide", "1e-11", "out_of_range:wide"),
        ("unit", "-0.99", Decimal("-0.99")),
        ("unit", "0", Decimal("0.00")),
        ("unit", "1", "out_of_range:unit"),
        ("id", '"c"', "not_allowed:id"),
        ("Klasse ä", '"ABC"', "ABC"),
        ("Klasse ä", '"ab"', "not_allowed:Klasse ä"),
        ("Klasse ä", '"abcde"', "out_of_range:Klasse ä"),
        ("Klasse ä", '"?"', "out_of_range:Klasse ä not_allowed:Klasse ä"),
    ],
)
def test_each_type_takes_a_value_exactly_or_says_why_not(wire: str, text: str, expected: object) -> None:
    contract = Contract(OTHER_TYPES)
    verdict = contract.check(other(**{wire: text}), KAFKA_TS, UNBOUNDED)
    if isinstance(verdict, Rejected):
        assert " ".join(verdict.reasons) == expected if ":" in str(expected) else expected == verdict.reasons
        return
    value = verdict[list(OTHER_GOOD).index(wire)]
    assert (value, type(value)) == (expected, type(expected))
    assert not isinstance(value, float) or math.copysign(1, value) == math.copysign(1, float(str(expected)))


def test_forgiven_late_and_future_records_pass_when_nothing_else_is_wrong() -> None:
    replay = Contract(FEED, forgive=frozenset({"late"}))
    late, future = record(event_ts="2026-11-20T15:20:30Z"), record(event_ts="2030-01-01T00:00:00Z")
    assert row(late, replay)["event_time"] == micros(datetime(2026, 11, 20, 15, 20, 30, tzinfo=UTC))
    assert reasons(future, replay) == ("future",)
    assert reasons(record(event_ts="2026-11-20T15:20:30Z", lat=None), replay) == ("missing:lat",)


def test_only_late_can_be_forgiven() -> None:
    """A record of the future would move every watermark."""
    with pytest.raises(ConfigError, match=r"^future, not_json cannot be forgiven, only late$"):
        Contract(FEED, forgive=frozenset({"late", "not_json", "future"}))


# Properties. Whatever the bytes: a row, or at least one reason; the same again; fast and slow agree.

FORGIVING = Contract(FEED, forgive=frozenset({"late"}))
OTHER = Contract(OTHER_TYPES)
FEEDS = {CONTRACT: FEED, OTHER: OTHER_TYPES, FORGIVING: FEED}
CONTRACTS = st.sampled_from(list(FEEDS))
KAFKA_TIMES = st.sampled_from([KAFKA_TS, 0, -1]) | st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
TEXTS = st.text(alphabet='aZ09-:. "\\/\0\n\x7fé😀\ud800\udc00\ufeff', max_size=8) | st.sampled_from(
    ["EUR", "approved", "DE", "a", "abc", *TIMES]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | TEXTS | st.floats() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
).map(json.dumps)
FRAGMENTS = st.sampled_from(
    [b"", b"\xff", b"\xc3", b"\0", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"1e400", b"-", b"NaN"]
) | st.sampled_from([rb"\ud800", rb"\u0041", "é😀".encode(), b" ", b"[" * 120, b"0", b"." + b"9" * 30, b"e5"])


ANYTHING = [
    b'"\xff"',
    b'"12.5"',
    b'"\\ud800"',
    b"[" * 200_000,
    b"[" * 90 + b"]" * 90,
    b"[" * 101 + b"]" * 101,
    b'{"a":' * 101 + b"1" + b"}" * 101,
    b"{}",
    b'{"a":"\xff"}',
    b"null",
    b"-",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid record of one of the feeds with fields dropped, replaced, doubled or added, then bytes spliced in."""
    good = draw(st.sampled_from([{wire: json.dumps(value) for wire, value in GOOD.items()}, OTHER_GOOD]))
    fields = list(good.items())
    for _ in range(draw(st.integers(0, 3))):
        i = draw(st.integers(0, len(fields) - 1))
        wire = draw(st.sampled_from([fields[i][0], fields[i][0].upper(), "extra", "\\ud800"]))
        text = draw(JSON_VALUES | NUMBERS | st.sampled_from(["null", "NaN", "-0", "5.0", *good.values()]))
        fields[i : i + draw(st.integers(0, 1))] = draw(st.sampled_from([[], [(wire, text)], [(wire, text)] * 2]))
        fields = fields or [(wire, text)]
    value = ("{" + ", ".join(f'"{wire}": {text}' for wire, text in fields) + "}").encode()
    if draw(st.booleans()):  # a key comes twice, the first time with what no decoder may just skip
        value = b'{"%s": %s, ' % (draw(st.sampled_from([*good])).encode(), draw(st.sampled_from(ANYTHING))) + value[1:]
    for _ in range(draw(st.integers(0, 1))):
        start = draw(st.integers(0, len(value)))
        value = value[:start] + draw(FRAGMENTS) + value[start + draw(st.integers(0, 4)) :]
    return value


def assert_total(
    contract: Contract, values: list[bytes | None], kafka_ts: list[int], planned: list[int] | None = None
) -> None:
    verdicts.assert_total(FEEDS[contract], contract, values, kafka_ts, planned)


Batch = list[tuple[bytes | None, int, int]]


def batches(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[Batch]:
    """Batches of a few records, some of them tombstones, with their Kafka timestamps and planned times."""
    return st.lists(st.tuples(st.none() | values, KAFKA_TIMES, KAFKA_TIMES | st.just(UNBOUNDED)), max_size=5)


def assert_batch_is_total(contract: Contract, batch: Batch) -> None:
    values, kafka_ts, planned = [v for v, _, _ in batch], [at for _, at, _ in batch], [at for _, _, at in batch]
    assert_total(contract, values, kafka_ts, planned)


@given(CONTRACTS, batches(st.binary() | st.lists(FRAGMENTS).map(b"".join)))
def test_the_verdict_on_arbitrary_bytes_is_total(contract: Contract, batch: Batch) -> None:
    assert_batch_is_total(contract, batch)


@examples(600)
@given(CONTRACTS, batches(mutated()))
def test_the_verdict_on_mutated_records_is_total(contract: Contract, batch: Batch) -> None:
    assert_batch_is_total(contract, batch)


@examples(300)
@given(st.lists(st.tuples(st.sampled_from(["n", "small", "x", "wide", "unit"]), NUMBERS), max_size=4))
def test_a_batch_reads_the_same_numbers(numbers: list[tuple[str, str]]) -> None:
    assert_total(OTHER, [other(**{wire: text}) for wire, text in numbers], [KAFKA_TS] * len(numbers))


@pytest.mark.parametrize("type_name", ["decimal(38,2)", "decimal(38,0)", "decimal(5,2)", "decimal(2,2)"])
@pytest.mark.parametrize(
    "bounds",
    [("0", "1e35"), ("-1e60", "1e60"), ("1e10", "2e10"), ("0.005", "0.999"), ("0", "9" * 38 + ".9"), ("0", "999.995")],
)
def test_a_batch_keeps_any_range(type_name: str, bounds: tuple[str, str]) -> None:
    """Also one with a bound that the type has no room for."""
    least, greatest = map(Decimal, bounds)
    column = column_of(Field(type=type_name, range=(least, greatest)))
    texts = ["0", "0.00", "0.01", "0.5", "12", "12.5", "999.99", "-1", "1" + "0" * 35, "9" * 36, "1e3"]
    assert column.finish_all
    found = column.finish_all(pa.array([text.encode() for text in texts], pa.binary()))
    expected = [column.judge(Number(text)) for text in texts]
    assert [number.as_py() for number in found] == [None if isinstance(one, tuple) else one for one in expected]


@pytest.mark.parametrize("wire", ANYTHING, ids=lambda wire: ascii(wire[:12]))
@pytest.mark.parametrize("name", ["amount", "merchant", "not_declared"])
def test_a_batch_takes_anything_in_place_of_a_value(name: str, wire: bytes) -> None:
    odd = record(**{name: "@@"}).replace(b'"@@"', wire)
    assert_total(CONTRACT, [record(), odd, record()], [KAFKA_TS] * 3)


@pytest.mark.parametrize("first", ANYTHING, ids=lambda wire: ascii(wire[:12]))
@pytest.mark.parametrize("wire", GOOD)
def test_a_batch_looks_at_each_value_of_a_key_that_comes_twice(wire: str, first: bytes) -> None:
    """Also in a batch of two hundred others, by which alone nobody would notice."""
    twice = b'{"%s": %s, ' % (wire.encode(), first) + record()[1:]
    values: list[bytes | None] = [*[record()] * 100, twice, b"", b"x", *[record(extra={})] * 100]
    assert_total(CONTRACT, values, [KAFKA_TS] * len(values))


@pytest.mark.parametrize("wire", [rb'"\xff"', b"[" * 100 + b"]" * 100])
def test_what_no_decoder_may_skip_is_no_json(wire: bytes) -> None:
    value = b'{"amount": ' + wire.replace(rb"\xff", b"\xff") + b", " + record()[1:]
    assert reasons(value) == ("not_json",)
    assert_total(CONTRACT, [value], [KAFKA_TS])


@pytest.mark.parametrize("far", [-(2**63), -62_135_596_800_000_001, 253_402_300_800_000_000, 2**63 - 1])
def test_a_neighbour_s_clock_changes_neither_a_verdict_nor_what_it_costs(
    far: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: list[bytes | None] = [record()] * 9
    times = [KAFKA_TS] * 8 + [far]
    assert_total(CONTRACT, values, times)
    assert_total(CONTRACT, values, [KAFKA_TS] * 9, times)
    explained: list[int] = []

    def check_each(values: list[bytes], kafka_ts: list[int], _planned: list[int]) -> list[Rejected]:
        explained.extend(kafka_ts)
        return [Rejected(("late",)) for _ in values]

    monkeypatch.setattr(CONTRACT, "check_each", check_each)
    verdicts.judged(FEED, CONTRACT, values, times, [UNBOUNDED] * 9)
    assert explained == [far]


PATTERNED: dict[str, Any] = {
    "name": "patterned",
    "topic": "patterned",
    "fields": {"id": {"type": "string", "pattern": "(a+)+$"}, "at": {"type": "timestamp"}},
    "event_time": {"field": "at", "lateness": "1 hour", "future_tolerance": "1 hour"},
    "dedupe": {"key": "id", "within": "1 hour"},
}


def test_a_pattern_takes_linear_time() -> None:
    """RE2 on both paths, where a text that makes others backtrack would hold the service for minutes."""

    def judge(value: bytes) -> None:
        assert reasons(value, contract) == ("not_allowed:id",)
        found = contract.check_all(pa.array([value], pa.binary()), *[pa.array([KAFKA_TS])] * 2)
        assert [place for place, _ in found.rejected] == [0]

    contract = Contract(Feed.model_validate(PATTERNED))
    texts = ["a" * 30 + "b", "a" * 30, "a" * 500_000 + "b"]
    values: list[bytes | None] = [json.dumps({"id": text, "at": "2026-11-21T01:20:30Z"}).encode() for text in texts]
    for value, expected in zip(values, ["not_allowed:id", "", "not_allowed:id"], strict=True):
        assert " ".join(reasons(value, contract)) == expected
    found = contract.check_all(pa.array(values, pa.binary()), *[pa.array([KAFKA_TS] * 3)] * 2)
    assert [place for place, _ in found.rejected] == [0, 2]
    tenth, whole = (
        json.dumps({"id": "a" * length + "b", "at": "2026-11-21T01:20:30Z"}).encode() for length in (50_000, 500_000)
    )
    assert seconds(lambda: judge(whole)) < _LINEAR * seconds(lambda: judge(tenth))


@pytest.mark.parametrize("text", TIMES)
def test_a_batch_reads_the_same_times(text: str) -> None:
    """However its neighbours are spelled."""
    values: list[bytes | None] = [record(event_ts=spelled) for spelled in (text, "2026-11-21T01:47:09Z")]
    assert_total(CONTRACT, values, [KAFKA_TS] * 2)
    assert_total(FORGIVING, values[:1], [KAFKA_TS])


@examples(300)
@given(
    st.datetimes(timezones=st.just(UTC)), st.integers(0, 9), st.sampled_from("T "), st.sampled_from(["Z", "", "+01:00"])
)
def test_a_batch_reads_any_time(moment: datetime, digits: int, separator: str, offset: str) -> None:
    whole, fraction = moment.strftime("%Y-%m-%d" + separator + "%H:%M:%S").rjust(19, "0"), f"{moment.microsecond:06}000"
    text = whole + (f".{fraction[:digits]}" if digits else "") + offset
    assert_total(FORGIVING, [record(event_ts=text)], [KAFKA_TS])


@given(st.floats(-90, 90))
def test_doubles_keep_their_value(number: float) -> None:
    assert row(record(lat=number))["lat"] == number


@given(st.integers(0, 100_000_000))
def test_amounts_keep_every_cent(cents: int) -> None:
    assert row(spliced("amount", f"{cents // 100}.{cents % 100:02}"))["amount"] == Decimal(cents).scaleb(-2)


@given(st.datetimes(timezones=st.sampled_from([UTC])), st.integers(-14 * 60, 14 * 60), st.sampled_from("T "))
def test_times_round_trip(moment: datetime, minutes: int, separator: str) -> None:
    kafka_ts = micros(moment)
    sign, ahead = "-" if minutes < 0 else "+", abs(minutes)
    try:
        local = moment.replace(tzinfo=None) + timedelta(minutes=minutes)
    except OverflowError:
        return
    text = f"{local.isoformat(separator)}{sign}{ahead // 60:02}:{ahead % 60:02}"
    verdict = CONTRACT.check(record(event_ts=text), kafka_ts, UNBOUNDED)
    assert not isinstance(verdict, Rejected)
    assert verdict[CONTRACT.columns.index("event_time")] == kafka_ts


@pytest.mark.parametrize("levels", [99, 100, 5000])
def test_the_verdict_does_not_depend_on_the_stack(levels: int) -> None:
    value = record(extra=None).replace(b"null", b"[" * levels + b"]" * levels)

    def deep(depth: int, function: Callable[[], object]) -> object:
        return deep(depth - 1, function) if depth else function()

    room = sys.getrecursionlimit() // 2
    found = {str(deep(depth, lambda: CONTRACT.check(value, KAFKA_TS, UNBOUNDED))) for depth in (0, 1, room // 2, room)}
    assert len(found) == 1
