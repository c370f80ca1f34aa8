"""What the log says of records that another system has wrapped."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app import logs
from stream_app.feeds.feed import Feed
from stream_app.observe.hints import Hints, form_of
from tests.helpers import Row, bronze_row, flow_of, value, write_layer

FRAMED = b"\0\0\0\1\0" + value(0)
CONNECT = json.dumps({"schema": {"type": "struct"}, "payload": json.loads(value(0))}).encode()


def refused(offset: int, record: bytes | None, *reasons: str) -> Row:
    text = None if record is None else record.decode(errors="replace")
    return bronze_row(offset, record) | {"value_text": text, "reasons": list(reasons)}


def test_each_form_is_said_once_a_start(feed: Feed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text")
    flow, hints = flow_of(feed, "quarantine", tmp_path), Hints()
    rows = [refused(0, None, "empty"), refused(1, b"x", "not_json"), refused(2, FRAMED, "not_json")]
    file = write_layer(flow, 0, [*rows, refused(3, b"\0\0\0\2\0{}", "not_json")])
    other = write_layer(flow, 1, [refused(4, CONNECT, "missing:txn_id"), refused(5, FRAMED, "not_json")])
    for each in (file, file, other, other):
        hints.give(flow.name, each.path)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert (
        "transactions.quarantine has records that look like Confluent's frame (magic byte 0, schema id 256)" in said[0]
    )
    assert "look like Connect's schema and payload; set value.converter.schemas.enable=false" in said[1]


@pytest.mark.parametrize(
    ("record", "reason"),
    [(b"\0", "not_json"), (FRAMED, "late"), (CONNECT, "late"), (value(0), "missing:x"), (b"[1]", "missing:x")],
)
def test_what_is_like_no_form_gives_no_hint(record: bytes, reason: str) -> None:
    assert form_of(record, [reason]) is None


@given(
    st.binary() | st.sampled_from([b"[" * 9999, b'"payload"', b'{"payload":' * 200, b'"payload" \xff', b'"payload" x'])
)
def test_no_record_stops_the_batch(record: bytes) -> None:
    for reason in ("not_json", "missing:x"):
        form_of(record, [reason])
