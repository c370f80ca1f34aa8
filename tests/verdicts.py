"""What a contract says of records, and that both of its ways say the same."""

from __future__ import annotations

from operator import itemgetter
from unittest import mock

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.contract.codecs import json_codec
from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected, Row
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.storage.planned import UNBOUNDED

Values = list[bytes | None]


def shown(found: object) -> str:
    """Return a text that tells 0.0 from -0.0 and 1 from True, which are equal."""
    return repr(found)


def judged(feed: Feed, contract: Contract, values: Values, kafka_ts: list[int], planned: list[int]) -> list[object]:
    """Return the verdicts of check_all one by one, with rows as Arrow shows them."""
    times = (pa.array(each, pa.int64()) for each in (kafka_ts, planned))
    found = contract.check_all(pa.array(values, pa.binary()), *times)
    places, columns = found.rows()
    assert [column.type for column in columns] == to_arrow_schema(schema.silver(feed), timezone="UTC").types[
        : len(columns)
    ]
    for column in columns:
        column.validate(full=True)
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    verdicts: list[tuple[int, Row | Rejected]] = [*zip(places.to_pylist(), rows, strict=True), *found.rejected]
    assert sorted(place for place, _ in verdicts) == list(range(len(values)))
    assert places.to_pylist() == sorted(places.to_pylist())
    return [verdict for _, verdict in sorted(verdicts, key=itemgetter(0))]


def as_arrow(feed: Feed, verdict: Row | Rejected) -> Row | Rejected:
    """Return a row of the definition as Arrow shows it."""
    if isinstance(verdict, Rejected):
        return verdict
    types = (kind.arrow for kind in feed.columns.values())
    return tuple(pa.array([value], kind)[0].as_py() for value, kind in zip(verdict, types, strict=True))


def assert_total(
    feed: Feed, contract: Contract, values: Values, kafka_ts: list[int], planned: list[int] | None = None
) -> None:
    """Each record is a row or has reasons, each once; again the same; and both ways agree."""
    planned = planned or [UNBOUNDED] * len(values)
    verdicts = list(map(contract.check, values, kafka_ts, planned))
    assert shown(list(map(contract.check, values, kafka_ts, planned))) == shown(verdicts)
    for verdict in verdicts:
        if isinstance(verdict, Rejected):
            assert len(verdict.reasons) == len(set(verdict.reasons)) >= 1
        else:
            assert len(verdict) == len(contract.columns)
    alike = {shown(verdict): verdict for verdict in verdicts}
    in_arrow = {text: as_arrow(feed, verdict) for text, verdict in alike.items()}
    expected = [in_arrow[shown(verdict)] for verdict in verdicts]
    batch = pa.array(values, pa.binary()), *(pa.array(each, pa.int64()) for each in (kafka_ts, planned))
    refused = contract.check_all(*batch, rows=False).rejected
    assert refused == [(place, one) for place, one in enumerate(verdicts) if isinstance(one, Rejected)]
    for portion in (1_000, 2):  # a batch is decoded in portions
        with mock.patch.object(json_codec, "_PORTION", portion):
            assert shown(judged(feed, contract, values, kafka_ts, planned)) == shown(expected)
