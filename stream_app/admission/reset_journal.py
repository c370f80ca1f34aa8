"""To begin flows anew: their outputs and checkpoints go together, or the next attempt finishes the work.

What is to be deleted is written to `<feed>/_reset.json` first; while that file stands the service does not start.
Where bronze then begins to read the topic stands in `<feed>/_start.json`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from stream_app.admission import rule_versions
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import replace_text, sync
from stream_app.storage.layout import FeedLayout


def begin(first: Flow, start: dict[str, str]) -> None:
    """Note that `first` and all that must go with it are to go, and where bronze is to begin."""
    intent = {"sinks": [flow.sink for flow in rule_versions.begun_anew_with(first)], "start": start}
    _write(first.layout.reset, intent)


def finish(flow: Flow) -> list[str]:
    """Carry out what was noted of the flow's feed; return the sinks, none if nothing was. It may be repeated."""
    layout, bronze = flow.layout, flow.of_feed()[0]
    if not layout.reset.exists():
        return []
    intent = json.loads(layout.reset.read_text())
    for one in (each for each in flow.of_feed() if each.sink in intent["sinks"]):
        # a silver made anew judges every record by today's rules, so what was replayed into the old one goes with it
        ledger = [one.layout.replay] if one.is_own and one.kind.takes_replayed else []
        late = [one.layout.late] if one.stateful else []
        for path in (one.layout.output, *late, *ledger, one.checkpoint.path):
            if path.exists():
                shutil.rmtree(path)
    if bronze.sink in intent["sinks"]:
        _write(layout.start, intent["start"])
    layout.reset.unlink()
    sync(layout.reset.parent)  # or a power cut has it done again, to what was written since
    return list(intent["sinks"])


def check_finished(feed: Feed, root: Path) -> None:
    """Raise ConfigError while a reset that was cut short waits to be finished."""
    if FeedLayout(root, feed.name).reset.exists():
        problem = f"a reset of {feed.name} was cut short; finish it with: make reset FEED={feed.name}"
        raise ConfigError(problem)


def first_offsets(feed: Feed, root: Path, default: str) -> dict[str, str]:
    """Where a new checkpoint of bronze begins, as options of Spark's Kafka source."""
    try:
        chosen: dict[str, str] = json.loads(FeedLayout(root, feed.name).start.read_text())
    except FileNotFoundError:
        chosen = {}
    return chosen or {"startingOffsets": default}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(content))
