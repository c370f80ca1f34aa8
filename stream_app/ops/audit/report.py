"""What the audit says of a feed, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What an audit comes to."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_ALL = "not all could be looked at"
    """What was looked at is right."""


@dataclass
class Report:
    """What was found of one feed."""

    feed: str
    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """A line for each thing that must not be."""
    not_audited: list[str] = field(default_factory=list)
    """A line for each thing that should have been looked at and could not be."""
    beyond: list[str] = field(default_factory=list)
    """A line for each thing that no audit looks at."""

    @property
    def verdict(self) -> Verdict:
        """Return what it comes to."""
        if self.wrong:
            return Verdict.WRONG
        return Verdict.NOT_ALL if self.not_audited else Verdict.RIGHT


@dataclass(frozen=True)
class AuditReport:
    """What was found of each feed."""

    feeds: Sequence[Report]

    @property
    def verdict(self) -> Verdict:
        """Return the worst of the feeds'."""
        found = {report.verdict for report in self.feeds}
        return next((one for one in (Verdict.WRONG, Verdict.NOT_ALL) if one in found), Verdict.RIGHT)
