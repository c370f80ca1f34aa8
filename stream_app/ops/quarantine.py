"""What is in quarantine, by reason, with the newest records of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from stream_app.flows.flow import Flow
from stream_app.ops.views import select, steadily
from stream_app.storage.opened import Opened

_SAMPLES = 3
_SAMPLE_LETTERS = 1000
_MOST_BUCKETS = 60
_STEPS = (10, 30, 60, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400, 366 * 86400)
"""The lengths that a bucket may have, in seconds."""


@dataclass(frozen=True)
class Sample:
    """A quarantined record, and the beginning of its value as text."""

    kafka_ts: datetime
    topic: str
    partition: int
    offset: int
    reasons: tuple[str, ...]
    value: str | None


@dataclass(frozen=True)
class ReasonReport:
    """The records that have a reason; one may have several."""

    reason: str
    records: int
    first: datetime
    last: datetime
    samples: tuple[Sample, ...]
    """The newest of them."""


@dataclass(frozen=True)
class QuarantineReport:
    """The quarantine of one feed; the most frequent reason is first."""

    feed: str
    records: int
    reasons: tuple[ReasonReport, ...]


@dataclass(frozen=True)
class Bucket:
    """How many records were refused for a reason in a span of time, by their Kafka timestamps."""

    start: datetime
    reason: str
    records: int


@dataclass(frozen=True)
class QuarantineHistory:
    """The quarantine of one feed over time."""

    feed: str
    seconds: int
    """The length of a bucket."""
    buckets: tuple[Bucket, ...]
    """The oldest first. One without records is left out."""


def quarantine_history(connection: duckdb.DuckDBPyConnection, flows: Sequence[Flow]) -> tuple[QuarantineHistory, ...]:
    """Return what each feed refused over time, in at most some sixty spans of a round length, in UTC."""
    return tuple(_history(connection, flow) for flow in flows if flow.is_own and flow.kind.counted)


def quarantine(
    connection: duckdb.DuckDBPyConnection, flows: Sequence[Flow], reason: str = ""
) -> tuple[QuarantineReport, ...]:
    """Return what each feed has in quarantine.

    `reason` chooses the reasons that are it, as `missing:amount`, or `missing` for that of any field. Times are in UTC,
    and Kafka's. What was replayed since is still in quarantine.
    """
    return tuple(_report(connection, flow, reason) for flow in flows if flow.is_own and flow.kind.counted)


def _report(connection: duckdb.DuckDBPyConnection, flow: Flow, reason: str) -> QuarantineReport:
    def report(opened: Opened) -> QuarantineReport:
        held = f"({select(flow, opened)})"
        ((records,),) = connection.execute(f"SELECT count(*) FROM {held}").fetchall()
        sql = (
            f"WITH listed AS (SELECT *, unnest(list_distinct(reasons)) AS _reason FROM {held}), "
            # a field's name may have a colon
            "asked AS (FROM listed WHERE $reason = '' OR _reason = $reason "
            "OR (NOT contains($reason, ':') AND starts_with(_reason, $reason || ':'))) "
            "SELECT _reason, count(*), min(kafka_ts), max(kafka_ts), max({kafka_ts: kafka_ts, topic: topic, "
            'partition: partition, "offset": "offset", reasons: reasons, '
            f"value: left(value_text, {_SAMPLE_LETTERS})}}, {_SAMPLES}) "
            "FROM asked GROUP BY _reason ORDER BY count(*) DESC, _reason"
        )
        found = connection.execute(sql, {"reason": reason}).fetchall()
        reasons = (
            ReasonReport(one, count, first, last, tuple(map(_sample, samples)))
            for one, count, first, last, samples in found
        )
        return QuarantineReport(flow.feed.name, records, tuple(reasons))

    return steadily(flow, report)


def _history(connection: duckdb.DuckDBPyConnection, flow: Flow) -> QuarantineHistory:
    def history(opened: Opened) -> QuarantineHistory:
        held = f"({select(flow, opened)})"
        ((span,),) = connection.execute(f"SELECT epoch(max(kafka_ts)) - epoch(min(kafka_ts)) FROM {held}").fetchall()
        seconds = next((step for step in _STEPS if step * _MOST_BUCKETS > (span or 0)), _STEPS[-1])
        sql = (
            "WITH listed AS (SELECT make_timestamptz(epoch_us(kafka_ts) // $us * $us) AS start, "
            f"unnest(list_distinct(reasons)) AS reason FROM {held}) "
            "SELECT start, reason, count(*) FROM listed GROUP BY ALL ORDER BY ALL"
        )
        found = connection.execute(sql, {"us": seconds * 1_000_000}).fetchall()
        return QuarantineHistory(flow.feed.name, seconds, tuple(Bucket(*one) for one in found))

    return steadily(flow, history)


def _sample(found: dict[str, Any]) -> Sample:
    return Sample(**found | {"reasons": tuple(found["reasons"])})
