"""What the audit says of a feed, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from stream_app.ops.audit.findings import Findings


class Verdict(StrEnum):
    """What a check, a feed or an audit comes to."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_AUDITED = "not audited"
    """Of a check: it could not look. Of a feed: what was looked at is right, but not all was."""
    BEYOND = "beyond"
    """Of a check: no audit looks at this."""


@dataclass(frozen=True)
class Check:
    """One thing that the audit looked at, or could not."""

    name: str
    """The step that it is part of: places, records, files, or a sink that follows silver."""
    verdict: Verdict
    rows: int
    """How many rows, records or files it is about."""
    sentence: str


@dataclass
class Step:
    """A step of the audit, while it runs."""

    name: str
    holds: str
    """What is so where nothing is wrong; empty where it did not look."""
    rows: int = 0
    findings: Findings = field(default_factory=Findings)
    wrong: list[str] = field(default_factory=list)
    """What is wrong beside the findings."""
    others: list[Check] = field(default_factory=list)

    def not_audited(self, count: int, sentence: str) -> None:
        """Note what it could not look at."""
        self.others.append(Check(self.name, Verdict.NOT_AUDITED, count, sentence))

    def not_audited_rows(self, count: int, what: str) -> None:
        """Note rows that it could not look at, if there are any."""
        if count:
            self.not_audited(count, f"{count:,} {what}")

    def beyond(self, sentence: str) -> None:
        """Note what it never looks at."""
        self.holds = ""
        self.others.append(Check(self.name, Verdict.BEYOND, 0, sentence))

    def checks(self) -> Iterator[Check]:
        """Yield a check for each thing that is wrong, else one that all is right; then what was not audited."""
        found = [(1, line) for line in self.wrong] + [*self.findings.lines()]
        for count, line in found:
            yield Check(self.name, Verdict.WRONG, count, line)
        if self.holds and not found:
            yield Check(self.name, Verdict.RIGHT, self.rows, self.holds)
        yield from self.others


@dataclass(frozen=True)
class Report:
    """What was found of one feed."""

    feed: str
    counts: Mapping[str, int]
    """How many rows and records there are, by what they are."""
    checks: Sequence[Check]

    @property
    def verdict(self) -> Verdict:
        """Return what it comes to."""
        if self.wrong:
            return Verdict.WRONG
        return Verdict.NOT_AUDITED if self.not_audited else Verdict.RIGHT

    @property
    def wrong(self) -> list[str]:
        """Return a line for each thing that must not be."""
        return self._sentences(Verdict.WRONG)

    @property
    def not_audited(self) -> list[str]:
        """Return a line for each thing that should have been looked at and could not be."""
        return self._sentences(Verdict.NOT_AUDITED)

    @property
    def beyond(self) -> list[str]:
        """Return a line for each thing that no audit looks at."""
        return self._sentences(Verdict.BEYOND)

    def _sentences(self, verdict: Verdict) -> list[str]:
        return [check.sentence for check in self.checks if check.verdict is verdict]


@dataclass(frozen=True)
class AuditReport:
    """What was found of each feed."""

    feeds: Sequence[Report]

    @property
    def verdict(self) -> Verdict:
        """Return the worst of the feeds'."""
        found = {report.verdict for report in self.feeds}
        return next((one for one in (Verdict.WRONG, Verdict.NOT_AUDITED) if one in found), Verdict.RIGHT)
