"""A reset of flows: their outputs and checkpoints go together, or the next attempt finishes the work.

What is to be deleted is written to `<feed>/_reset.json` first. While that file exists the service does not start.
`<feed>/_start.json` says where bronze then begins to read the topic.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from stream_app.admission import rule_versions
from stream_app.admission.verdict import Code, Refusal
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import replace_text, sync
from stream_app.storage.checkpoint import damaged
from stream_app.storage.layout import FeedLayout


def begin(first: Flow, start: dict[str, str]) -> None:
    """Note that `first` and all that must go with it are to go, and where bronze is to begin."""
    intent = {"sinks": [flow.sink for flow in rule_versions.reset_with(first)], "start": start}
    _write(first.layout.reset, intent)


def finish(flow: Flow) -> list[str]:
    """Carry out what was noted of the flow's feed; return the sinks, none if nothing was. It may be repeated."""
    layout, bronze = flow.layout, flow.of_feed()[0]
    if not layout.reset.exists():
        return []
    try:
        intent = json.loads(layout.reset.read_text())
        sinks, start = list(intent["sinks"]), dict(intent["start"])
    except (ValueError, LookupError, TypeError):
        raise ConfigError(_unreadable(flow)) from None
    for one in (each for each in flow.of_feed() if each.sink in sinks):
        # a silver after a reset judges every record by today's rules, so what was replayed before goes with it
        ledger = [one.layout.replay] if one.is_own and one.kind.takes_replayed else []
        late = [one.layout.late] if one.stateful else []
        for path in (one.layout.output, *late, *ledger, one.checkpoint.path):
            if path.exists():
                shutil.rmtree(path)
        one.to.drop(one)
    if bronze.sink in sinks:
        _write(layout.start, start)
    layout.reset.unlink()
    sync(layout.reset.parent)  # or a power cut has it done again, to what was written since
    return sinks


def inspect(flow: Flow) -> Iterator[Refusal]:
    """Yield a refusal while a reset of the feed that was cut short waits to be finished."""
    layout, command = flow.layout, f"make reset FEED={flow.feed.name}"
    if layout.reset.exists():
        try:
            json.loads(layout.reset.read_text())
            sentence = f"a reset of {flow.feed.name} was cut short; finish it with: {command}"
        except ValueError:
            sentence = _unreadable(flow)
        yield Refusal(flow.name, Code.RESET_UNFINISHED, sentence, command)


def first_offsets(feed: Feed, root: Path, default: str) -> dict[str, str]:
    """Return where a new checkpoint of bronze begins, as options of Spark's Kafka source.

    Raises DamagedError where it was noted, and cannot be read.
    """
    path = FeedLayout(root, feed.name).start
    try:
        chosen = dict(json.loads(path.read_text()))
    except FileNotFoundError:
        chosen = {}
    except (ValueError, TypeError):
        raise damaged(path) from None
    return chosen or {"startingOffsets": default}


def _unreadable(flow: Flow) -> str:
    return f"{flow.layout.reset} cannot be read; delete it, and type again: make reset FEED={flow.feed.name}"


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(content))
