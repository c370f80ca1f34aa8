"""What is in quarantine, by reason, with the newest records of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stream_app.feeds.sql import view
from stream_app.flows.flow import Flow
from stream_app.ops.views import connected

_SAMPLES = 3
_SAMPLE_LETTERS = 1000


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


def quarantine(flows: Sequence[Flow], reason: str = "") -> tuple[QuarantineReport, ...]:
    """Return what each feed has in quarantine.

    `reason` chooses the reasons that are it, as `missing:amount`, or `missing` for that of any field. Times are in UTC,
    and Kafka's. What was replayed since is still in quarantine.
    """
    return tuple(_report(flow, reason) for flow in flows if flow.is_own and flow.kind.counted)


def _report(flow: Flow, reason: str) -> QuarantineReport:
    held = view(flow.feed.name, flow.sink)
    with connected([flow]) as database:
        ((records,),) = database.sql(f"SELECT count(*) FROM {held}").fetchall()
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
        found = database.execute(sql, {"reason": reason}).fetchall()
    reasons = (
        ReasonReport(one, count, first, last, tuple(map(_sample, samples)))
        for one, count, first, last, samples in found
    )
    return QuarantineReport(flow.feed.name, records, tuple(reasons))


def _sample(found: dict[str, Any]) -> Sample:
    return Sample(**found | {"reasons": tuple(found["reasons"])})
