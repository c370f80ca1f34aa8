"""What records have that their feed does not declare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from stream_app.flows import undeclared
from stream_app.flows.flow import Flow


@dataclass(frozen=True)
class FieldReport:
    """A field that is not declared. Times are those of batches of silver, in UTC."""

    path: str
    records: int
    first_seen: datetime
    last_seen: datetime
    sample: str


@dataclass(frozen=True)
class DriftReport:
    """The undeclared fields of one feed, the most frequent first."""

    feed: str
    unknown: str
    """What becomes of them: ignore, report or quarantine."""
    fields: tuple[FieldReport, ...]


def drift(flows: Sequence[Flow]) -> tuple[DriftReport, ...]:
    """Return what silver of each feed has counted since it began. Raises StreamAppError for a damaged state file."""
    return tuple(_report(flow) for flow in flows if flow.is_own and flow.kind.drops_repeats)


def _report(silver: Flow) -> DriftReport:
    found = sorted(undeclared.read(silver).values(), key=lambda field: (-field.records, field.path))
    fields = (
        FieldReport(field.path, field.records, _time(field.first_ms), _time(field.last_ms), field.sample)
        for field in found
    )
    return DriftReport(silver.feed.name, silver.feed.wire.unknown, tuple(fields))


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
