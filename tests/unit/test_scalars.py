"""UUIDs, bytes and numbers that were sent as text: strict, and the same one by one and by column."""

from __future__ import annotations

import base64
import contextlib
import json
import uuid

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.contract.scalars import bytes_of, number_of, uuid_of, uuid_of_all
from tests.examples import examples

CANONICAL = "0190f0c4-7d1e-7c3a-9f00-00000000abcd"


@given(st.uuids(), st.booleans())
def test_a_uuid_is_kept_in_lower_case(value: uuid.UUID, is_upper: bool) -> None:
    text = str(value).upper() if is_upper else str(value)
    assert uuid_of(text) == str(value)
    assert uuid_of_all(pa.array([text])).to_pylist() == [str(value)]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            f"{{{CANONICAL}}}",
            f"urn:uuid:{CANONICAL}",
            CANONICAL.replace("-", ""),
            f" {CANONICAL}",
            f"{CANONICAL}\n",
        ),
        *(CANONICAL[:-1], CANONICAL + "0", CANONICAL.replace("a", "g"), CANONICAL.replace("0", "\u0660"), "Å" * 36),
    ],
)
def test_what_is_no_uuid(text: str) -> None:
    assert uuid_of(text) is None
    assert uuid_of_all(pa.array([CANONICAL, text, None, CANONICAL.upper()])).to_pylist() == [
        *(CANONICAL, None, None, CANONICAL)
    ]


@given(st.binary(max_size=40))
def test_bytes_come_back(value: bytes) -> None:
    assert bytes_of(base64.b64encode(value).decode()) == value


@pytest.mark.parametrize(
    "text",
    [
        *("YQ", "YQ=", "YQ====", "YQ==\n", "Y Q==", "=", "YQ==YQ==", "-_8=", "YQ==x", "é", "\ud800", "Y"),
        *("YWJj=", "YWJj==", "YWJj===", "YWJj===="),
    ],
)
def test_what_is_no_base64(text: str) -> None:
    assert bytes_of(text) is None


@examples(500)
@given(
    st.text("YWJjQ=-_+/ \né", max_size=12)
    | st.tuples(st.binary(max_size=9), st.text("=YQ", max_size=4)).map(
        lambda given: base64.b64encode(given[0]).decode() + given[1]
    )
)
def test_msgspec_takes_the_same_base64(text: str) -> None:
    try:
        decoded: bytes | None = msgspec.json.decode(msgspec.json.encode(text), type=bytes)
    except msgspec.ValidationError:
        decoded = None
    assert bytes_of(text) == decoded


@examples(1_000)
@given(st.text("0123456789+-.eE _x\n\u0663", max_size=8))
def test_a_number_that_was_sent_as_text_is_one_that_json_has(text: str) -> None:
    expected = None
    with contextlib.suppress(ValueError):
        json.loads(text)
        expected = text if text.strip(" \n") == text else None
    assert number_of(text) == expected


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1_000", "0x1f", "+1", "01", ".5", "5.", " 5", "5\n", "", "1,5"]
)
def test_what_is_no_number(text: str) -> None:
    assert number_of(text) is None
