"""Silver and quarantine are the two halves of one verdict, so both judge each batch of bronze by the same rules.

Beside each one's checkpoint, `rules` lists the versions of the feed's rules that it has judged by, oldest first. A feed
file that was changed takes effect with the next start, if both have judged as far by then; and where one is begun anew
under today's rules, the other goes with it if it has ever judged by others. Else a record could be in both, or in none.
The same goes for a new version of the service that judges otherwise: CONTRACT is part of the rules' version.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from stream_app.admission.verdict import Code, Finding, Refusal, Repair
from stream_app.feeds.feed import Feed
from stream_app.flows import lineage
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import replace_text
from stream_app.storage.checkpoint import DamagedError, damaged
from stream_app.storage.offsets import in_layer

CONTRACT = 3
"""The contract's number, raised by one with every change of the code that changes the verdict on any record.

1: up to November 2026, whose versions do not name it. 2: `future` by the time of the plan; `pattern` by RE2; each value
of a key that comes twice is looked at. 3: more spellings of times.
"""
_UNKNOWN = "unknown"
_VERSION = re.compile(rf"[0-9a-f]{{16}}(?:-[0-9]{{1,9}})?|{_UNKNOWN}")


@dataclass(frozen=True)
class NoteRules(Repair):
    """Note by which rules one half judges from now on."""

    versions: tuple[str, ...]
    judged_before: int | None
    """The newest batch of bronze that it judged by those before; None for a half that has not begun."""

    @property
    def sentence(self) -> str:
        """Say since when they count."""
        since = "" if self.judged_before is None else f" after batch {self.judged_before} of bronze"
        return f"{self.flow.name} judges by the rules of the feed file{since}"

    def carry_out(self) -> None:
        """Write both; the batch first, or it would be missing beside rules that are not the first."""
        if self.judged_before is not None:
            replace_text(self.flow.layout.judged_before, str(self.judged_before))
        replace_text(self.flow.layout.rules, "\n".join(self.versions))


def inspect(bronze: Flow, begun: Collection[str] = ()) -> Iterator[Finding]:
    """Yield what to note of today's rules for both halves of a feed's verdict, or a refusal.

    Refused is where rules have changed while one half has judged batches that the other has not. Flows of the names
    in `begun` are bound to new checkpoints first.
    """
    feed, halves = bronze.feed, halves_of(bronze)
    today = version_of(feed)
    noted = [() if flow.name in begun else _versions(flow) for flow in halves]
    judged = [_judged(flow) for flow in halves]
    newest = [versions[-1] for versions in noted if versions]
    if any(version != today for version in newest) and len({*judged}) > 1:
        stand = " and ".join(f"{flow.sink} up to {batch}" for flow, batch in zip(halves, judged, strict=True))
        changed, old, new = f"the rules of {feed.name} were changed", "put the old feed file back, and", "new file"
        if any(_contract(version) != CONTRACT for version in newest):
            changed, old, new = (
                f"this version judges the records of {feed.name} otherwise",
                "in the old version",
                "new one",
            )
        command = f"make reset FEED={feed.name} SINK=silver"
        drain = f"make app FEEDS={feed.name} TRIGGER_INTERVAL=available-now"
        sentence = (
            f"{changed} while its batches of bronze are judged by {stand}; so that both get as far, {old} type: "
            f"{drain}; then start with the {new}; or reset both with: {command}"
        )
        yield Refusal(halves[-1].name, Code.RULES_CHANGED, sentence, command)
        return
    for flow, versions, last in zip(halves, noted, judged, strict=True):
        known = versions or ((_UNKNOWN,) if flow.checkpoint.last_planned() else ())
        if known[-1:] != (today,):
            yield NoteRules(flow, (*known, today), last if known else None)


def reset_with(flow: Flow) -> tuple[Flow, ...]:
    """Return the flows that begin again with this one, itself first.

    All that follow it do. The other half of its verdict does, too, if it has ever judged by other rules, with all that
    follow it. Both halves must agree.
    """
    today = version_of(flow.feed)
    others = halves_of(flow.upstream) if flow.upstream and flow.is_own and flow.kind.judges else []
    along = [other for other in others if other != flow and _has_judged_otherwise(other, today)]
    return tuple(each for first in (flow, *along) for each in first.with_downstream())


def judged_by_others(bronze: Flow) -> float:
    """Return the newest batch of bronze that other rules than the feed's may have judged.

    It is -1 if none was, and infinity where that is not known.
    """
    newest, feed = -1.0, bronze.feed
    for flow in halves_of(bronze):
        versions, noted = _versions(flow), flow.layout.judged_before
        if {*versions} - {version_of(feed)}:
            is_known = versions[-1] == version_of(feed) and noted.exists()
            newest = max(newest, _batch(noted) if is_known else math.inf)
    return newest


def halves_of(bronze: Flow) -> list[Flow]:
    """Return the flows that are half of the verdict on bronze's records."""
    return [flow for flow in bronze.downstream if flow.is_own and flow.kind.judges]


def version_of(feed: Feed) -> str:
    """Return the version of a feed's rules: a digest of them, and the contract's number."""
    return f"{feed.verdict_digest()}-{CONTRACT}"


def _contract(version: str) -> int:
    return int(version.partition("-")[2] or 1)


def _versions(flow: Flow) -> tuple[str, ...]:
    path = flow.layout.rules
    try:
        versions = tuple(path.read_text().split())
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError:
        raise damaged(path) from None
    if not all(_VERSION.fullmatch(version) for version in versions):
        raise damaged(path)
    return versions


def _has_judged_otherwise(flow: Flow, today: str) -> bool:
    try:
        return bool({*_versions(flow)} - {today})
    except DamagedError:  # by which rules, nobody knows
        return True


def _batch(path: Path) -> float:
    try:
        return int(path.read_text())
    except ValueError:
        raise damaged(path) from None


def _judged(flow: Flow) -> int:
    """Return the newest batch of bronze whose verdict counts; -1 before the first."""
    newest = lineage.newest_written(flow)
    return in_layer(newest.end).batch if newest else -1
