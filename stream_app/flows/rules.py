"""By which rules silver and quarantine judge the batches of bronze: one version after the other, each from a batch on.

`rules` beside the checkpoint has a line of JSON for each, oldest first: {"version": "961b58cba4ae6b11-4", "after": 41,
"declared": {…}}. Batch 41 of bronze was the newest one that silver or quarantine had judged by then. `declared` is what
the feed file said; it is kept as long as a batch is to be judged by it. Up to version 0.1 of the service a line was the
version alone, and `judged_before` had the batch of the last one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from stream_app.feeds import judged
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import replace_text
from stream_app.storage.checkpoint import damaged

CONTRACT = 4
"""The contract's number, raised by one with every change of the code that changes the verdict on any record.

1: up to November 2026, whose versions do not name it. 2: `future` by the time of the plan; `pattern` by RE2; each value
of a key that comes twice is looked at. 3: more spellings of times. 4: base64 with more padding than it needs, as
`AAAA=`, is no base64. tests/unit/test_golden.py fails where a verdict changes without it.
"""
UNKNOWN = "unknown"
"""The version of rules that judged before any was noted."""
_VERSION = re.compile(rf"[0-9a-f]{{16}}(?:-[0-9]{{1,9}})?|{UNKNOWN}")


@dataclass(frozen=True)
class Rules:
    """One version of a feed's rules."""

    version: str
    after: int | None = -1
    """The newest batch of bronze that was judged before; None where that is not known."""
    feed: Feed | None = None
    """What they are. None where they are not kept, or this version of the service judges otherwise."""

    @classmethod
    def of(cls, feed: Feed, after: int = -1) -> Rules:
        """Return those of a feed."""
        return cls(version_of(feed), after, feed)

    @property
    def contract(self) -> int:
        """The number of the contract that judged by them."""
        return int(self.version.partition("-")[2] or 1)


def version_of(feed: Feed) -> str:
    """Return the version of a feed's rules: a digest of them, and the contract's number."""
    return f"{feed.verdict_digest()}-{CONTRACT}"


def noted(flow: Flow) -> tuple[Rules, ...]:
    """Return the versions that are noted for one half of the verdict, oldest first; none where nothing is.

    Raises DamagedError where they cannot be read.
    """
    path = flow.layout.rules
    try:
        lines = path.read_text().split("\n")
        found = tuple(_of_line(flow, line) for line in lines)
    except FileNotFoundError:
        return ()
    except (ValueError, LookupError, TypeError):
        raise damaged(path) from None
    if not all(_VERSION.fullmatch(one.version) for one in found):
        raise damaged(path)
    if any(not line.startswith("{") for line in lines):
        since = _judged_before(flow)
        return (*found[:1], *(replace(one, after=since) for one in found[1:]))
    return found


def note(flow: Flow, versions: Sequence[Rules]) -> None:
    """Note the versions, in one piece."""
    replace_text(flow.layout.rules, spelled(versions))
    flow.layout.judged_before.unlink(missing_ok=True)


def spelled(versions: Sequence[Rules]) -> str:
    """Return what is written of them."""
    return "\n".join(map(_line, versions))


def needed(versions: Sequence[Rules], taken: int) -> tuple[Rules, ...]:
    """Return the versions without what no batch of bronze after `taken` is judged by."""
    still = [later.after is not None and later.after > taken for later in versions[1:]]
    kept = zip(versions, [*still, True][: len(versions)], strict=True)
    return tuple(one if is_needed else replace(one, feed=None) for one, is_needed in kept)


def earlier(flow: Flow) -> Iterator[tuple[int, Feed]]:
    """Yield the feeds by which the flow judges what it has not taken yet, each with the newest batch; oldest first."""
    for one, later in pairwise(needed(noted(flow), flow.taken_up_to())):
        if one.feed is not None and later.after is not None:
            yield later.after, one.feed


def _line(rules: Rules) -> str:
    said = json.dumps({"version": rules.version, "after": rules.after})
    return f'{said[:-1]}, "declared": {judged.spelled(rules.feed)}}}' if rules.feed else said


def _of_line(flow: Flow, line: str) -> Rules:
    if not line.startswith("{"):
        return Rules(line.strip())
    said = json.loads(line)
    after = None if said["after"] is None else int(said["after"])
    rules = Rules(str(said["version"]), after)
    if "declared" not in said:
        return rules
    try:
        feed = judged.restored(flow.feed.name, json.dumps(said["declared"]))
    except ValueError:  # of another version of the service
        return rules
    return replace(rules, feed=feed) if version_of(feed) == rules.version else rules


def _judged_before(flow: Flow) -> int | None:
    path = flow.layout.judged_before
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise damaged(path) from None
