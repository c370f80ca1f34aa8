"""Silver and quarantine are the two halves of one verdict, so both judge each batch of bronze by the same rules.

A feed file that was changed takes effect with the next start, after the newest batch of bronze that either half has
judged by then. The half that is behind judges up to that batch by the rules of before, which are kept as long
(flows/rules.py). Where one is reset under today's rules, the other goes with it if it has ever judged by others. Else a
record could be in both, or in none.

A new version of the service that judges otherwise cannot judge as before: CONTRACT is part of the rules' version.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stream_app.admission.verdict import Code, Finding, Refusal, Repair
from stream_app.feeds.feed import Feed
from stream_app.flows import chain, rules
from stream_app.flows.flow import Flow
from stream_app.flows.rules import UNKNOWN, Rules
from stream_app.storage.checkpoint import DamagedError
from stream_app.storage.offsets import in_layer


@dataclass(frozen=True)
class NoteRules(Repair):
    """Note by which rules one half judges, and from which batch on."""

    versions: tuple[Rules, ...]

    @property
    def sentence(self) -> str:
        """Say since when today's count."""
        last = self.versions[-1].after
        since = f" after batch {last} of bronze" if len(self.versions) > 1 and last is not None else ""
        return f"{self.flow.name} judges by the rules of the feed file{since}"

    def carry_out(self) -> None:
        """Write it."""
        rules.note(self.flow, self.versions)


def inspect(bronze: Flow, begun: Collection[str] = ()) -> Iterator[Finding]:
    """Yield what to note of today's rules for both halves of a feed's verdict, or a refusal.

    Refused is where one half has judged batches that the other has not, by rules that this one cannot judge by. Flows
    of the names in `begun` are bound to new checkpoints first.
    """
    halves = halves_of(bronze)
    noted = [() if flow.name in begun else rules.noted(flow) for flow in halves]
    judged = [_judged(flow) for flow in halves]
    known = next((noted[i] for i in sorted(range(len(halves)), key=lambda i: -judged[i]) if noted[i]), ())
    unnoted = [not versions and flow.checkpoint.last_planned() for flow, versions in zip(halves, noted, strict=True)]
    versions = _continued(known, bronze.feed, max(judged))
    has_changed = bool(known) and known[-1].version != versions[-1].version
    lacking = [
        one
        for one, later in pairwise(versions)
        if one.feed is None
        and (has_changed or one.version != UNKNOWN)
        and later.after is not None
        and later.after > min(judged)
    ]
    if has_changed and any(unnoted) and len({*judged}) > 1:
        lacking = [known[-1]]
    if lacking:
        is_newest = has_changed and (lacking[0] is known[-1] or lacking[0].version == UNKNOWN)
        yield _refusal(halves, judged, lacking[0], is_newest=is_newest)
        return
    for flow, last, is_unknown in zip(halves, judged, unnoted, strict=True):
        own = (Rules(UNKNOWN), Rules.of(bronze.feed, last)) if is_unknown else versions
        own = rules.needed(own, min(judged))
        if flow.name in begun or not flow.layout.rules.exists() or flow.layout.rules.read_text() != rules.spelled(own):
            yield NoteRules(flow, own)


def _continued(known: Sequence[Rules], feed: Feed, judged: int) -> tuple[Rules, ...]:
    """Return the versions, with today's after the newest batch that is judged; without versions that judged nothing."""
    today = rules.version_of(feed)
    if not known or known[-1].version != today:
        known = [one for one in known if one.after is None or one.after < judged]
    if not known or known[-1].version != today:
        return (*known, Rules.of(feed, judged if known else -1))
    return (*known[:-1], Rules(today, known[-1].after, feed))


def _refusal(halves: Sequence[Flow], judged: Sequence[int], lacking: Rules, *, is_newest: bool) -> Refusal:
    """Refuse a change while one half would have to judge by rules that are not kept, or that nobody can judge by."""
    feed = halves[0].feed.name
    stand = " and ".join(f"{flow.sink} up to {batch}" for flow, batch in zip(halves, judged, strict=True))
    command = f"make reset FEED={feed} SINK=silver"
    drain = f"make app FEEDS={feed} TRIGGER_INTERVAL=available-now"
    reset, as_far = f"reset both with: {command}", "so that both get as far"
    if lacking.version != UNKNOWN and lacking.contract != rules.CONTRACT:
        changed = f"this version judges the records of {feed} otherwise"
        mended = f"{as_far}, in the old version type: {drain}; then start with the new one; or {reset}"
    elif is_newest:
        changed = f"the rules of {feed} were changed"
        mended = f"{as_far}, put the old feed file back, and type: {drain}; then start with the new file; or {reset}"
    else:
        changed, mended = f"earlier rules of {feed} are not kept", reset
    sentence = f"{changed} while its batches of bronze are judged by {stand}; {mended}"
    return Refusal(halves[-1].name, Code.RULES_CHANGED, sentence, command)


def reset_with(flow: Flow) -> tuple[Flow, ...]:
    """Return the flows that begin again with this one, itself first.

    All that follow it do. The other half of its verdict does, too, if it has ever judged by other rules, with all that
    follow it. Both halves must agree.
    """
    today = rules.version_of(flow.feed)
    others = halves_of(flow.upstream) if flow.upstream and flow.is_own and flow.kind.judges else []
    along = [other for other in others if other != flow and _has_judged_otherwise(other, today)]
    return tuple(each for first in (flow, *along) for each in first.with_downstream())


def judged_by_others(bronze: Flow) -> float:
    """Return the newest batch of bronze that other rules than the feed's may have judged.

    It is -1 if none was, and infinity where that is not known.
    """
    newest, today = -1.0, rules.version_of(bronze.feed)
    for flow in halves_of(bronze):
        versions = rules.noted(flow)
        if {one.version for one in versions} - {today}:
            last = versions[-1]
            newest = max(newest, math.inf if last.version != today or last.after is None else last.after)
    return newest


def halves_of(bronze: Flow) -> list[Flow]:
    """Return the flows that are half of the verdict on bronze's records."""
    return [flow for flow in bronze.downstream if flow.is_own and flow.kind.judges]


def is_behind(flow: Flow) -> bool:
    """Return whether it is half of the verdict, and the other has judged more."""
    halves = halves_of(flow.upstream) if flow.upstream else []
    return flow in halves and any(_judged(other) > _judged(flow) for other in halves)


def _has_judged_otherwise(flow: Flow, today: str) -> bool:
    try:
        return bool({one.version for one in rules.noted(flow)} - {today})
    except DamagedError:  # by which rules, nobody knows
        return True


def _judged(flow: Flow) -> int:
    """Return the newest batch of bronze whose verdict counts; -1 before the first."""
    newest = chain.newest_written(flow)
    return in_layer(newest.end).batch if newest else -1
