"""Silver and quarantine are the two halves of one verdict, so both judge each batch of bronze by the same rules.

Beside each one's checkpoint, `rules` lists the versions of the feed's rules that it has judged by, oldest first. A feed
file that was changed takes effect with the next start, if both have judged as far by then; and where one is begun anew
under today's rules, the other goes with it if it has ever judged by others. Else a record could be in both, or in none.
The same goes for a new version of the service that judges otherwise: CONTRACT is part of the rules' version.
"""

from __future__ import annotations

import math

from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import replace_text
from stream_app.storage.offsets import in_layer

CONTRACT = 3
"""The contract's number, raised by one with every change of the code that changes the verdict on any record.

1: up to November 2026, whose versions do not name it. 2: `future` by the time of the plan; `pattern` by RE2; each value
of a key that comes twice is looked at. 3: more spellings of times.
"""
_UNKNOWN = "unknown"


def agree(bronze: Flow) -> None:
    """Note today's rules for both halves of a feed's verdict, before they start.

    Raises ConfigError where they have changed while one has judged batches that the other has not.
    """
    feed, halves = bronze.feed, _halves(bronze)
    today = _version(feed)
    judged = [_judged(flow) for flow in halves]
    if any(_versions(flow)[-1:] not in ([], [today]) for flow in halves) and len({*judged}) > 1:
        stand = " and ".join(f"{flow.sink} up to {batch}" for flow, batch in zip(halves, judged, strict=True))
        changed, old = f"the rules of {feed.name} were changed", "under the old rules"
        if any(_contract(version) != CONTRACT for flow in halves for version in _versions(flow)[-1:]):
            changed, old = f"this version judges the records of {feed.name} otherwise", "with the old version"
        raise ConfigError(
            f"{changed} while its batches of bronze are judged by {stand}; let both get as far {old} by "
            "TRIGGER_INTERVAL=available-now, or reset both with: "
            f"make reset FEED={feed.name} SINK=silver"
        )
    for flow, last in zip(halves, judged, strict=True):
        versions = _versions(flow)
        if not versions and flow.checkpoint.last_planned():
            versions = [_UNKNOWN]
        if versions[-1:] != [today]:
            if versions:
                replace_text(flow.layout.judged_before, str(last))
            replace_text(flow.layout.rules, "\n".join([*versions, today]))


def begun_anew_with(flow: Flow) -> tuple[Flow, ...]:
    """The flow, all that follow it, and the other half of its verdict with what follows that, where they must agree."""
    today = _version(flow.feed)
    others = _halves(flow.upstream) if flow.upstream and flow.is_own and flow.kind.judges else []
    along = [other for other in others if other != flow and {*_versions(other)} - {today}]
    return tuple(each for first in (flow, *along) for each in first.with_downstream())


def judged_by_others(bronze: Flow) -> float:
    """The newest batch of bronze that other rules than the feed's may have judged; -1 if none was."""
    newest, feed = -1.0, bronze.feed
    for flow in _halves(bronze):
        versions, noted = _versions(flow), flow.layout.judged_before
        if {*versions} - {_version(feed)}:
            is_known = versions[-1] == _version(feed) and noted.exists()
            newest = max(newest, float(noted.read_text()) if is_known else math.inf)
    return newest


def _halves(bronze: Flow) -> list[Flow]:
    return [flow for flow in bronze.downstream if flow.is_own and flow.kind.judges]


def _version(feed: Feed) -> str:
    return f"{feed.verdict_digest()}-{CONTRACT}"


def _contract(version: str) -> int:
    return int(version.partition("-")[2] or 1)


def _versions(flow: Flow) -> list[str]:
    return flow.layout.rules.read_text().split() if flow.layout.rules.exists() else []


def _judged(flow: Flow) -> int:
    """The newest batch of bronze whose verdict stands: of a batch that died before its commit, the file may."""
    planned, committed = flow.checkpoint.last_planned(), flow.checkpoint.last_committed()
    if planned and flow.files_of(planned.batch_id):
        return in_layer(planned.end).batch
    return in_layer(committed.end).batch if committed else -1
