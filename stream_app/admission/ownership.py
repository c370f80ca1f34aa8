"""Output belongs to its checkpoint: how the two are bound, and what is looked at before a query goes on.

`_owner.json` in each output folder names the feed, the sink and the query id in Spark's checkpoint. Bronze's has the
topic's id, the others have the query id of the layer that they follow. Each has what was declared of it (declared.py).
Anything that does not match is refused, because to go on would skip records or repeat them.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_app.admission import declared
from stream_app.admission.verdict import (
    Code,
    Finding,
    Refusal,
    Repair,
    overlap,
    reset_command,
    restore_command,
    stranger,
    to_reset,
)
from stream_app.flows import chain
from stream_app.flows.flow import Flow
from stream_app.storage import key_runs
from stream_app.storage.batch_files import batch_files, data_paths, parse, replace_text
from stream_app.storage.offsets import in_layer


@dataclass(frozen=True)
class Bind(Repair):
    """Bind a new output to a new checkpoint."""

    owner: Mapping[str, Any]

    @property
    def query_id(self) -> str:
        """The query id of the new checkpoint."""
        return str(self.owner["query_id"])

    @property
    def sentence(self) -> str:
        """Say where it is."""
        return f"{self.flow.name} begins, with a new checkpoint"

    def carry_out(self) -> None:
        """Write both. The owner goes first and comes last: without a checkpoint it says that somebody deleted that."""
        layout = self.flow.layout
        layout.output.mkdir(parents=True, exist_ok=True)
        layout.owner.unlink(missing_ok=True)
        shutil.rmtree(layout.checkpoint, ignore_errors=True)
        layout.checkpoint.mkdir(parents=True)
        replace_text(layout.metadata, json.dumps({"id": self.query_id}))
        replace_text(layout.owner, json.dumps(self.owner, indent=1))


@dataclass(frozen=True)
class Clear(Repair):
    """Delete what a death left of a first batch that was not planned."""

    @property
    def sentence(self) -> str:
        """Say what went."""
        return f"{self.flow.name} deleted what was left of a batch that was never planned"

    def carry_out(self) -> None:
        """Delete it."""
        self.flow.checkpoint.clear()


def inspect(flow: Flow, topic_id: str | None, upstream_id: str | None) -> Iterator[Finding]:
    """Yield what is wrong between the flow's output and its checkpoint, or how they are to be bound.

    `upstream_id` is the query id of the layer that it follows.
    """
    lost = checkpoint_lost(flow)
    if lost:
        yield lost
    elif flow.checkpoint.last_planned() is not None:
        yield from _mismatches(flow, topic_id)
    elif not _is_bound(flow, topic_id, upstream_id):
        # Followers know the id, and may have planned a batch by then, though nothing was read.
        known = flow.checkpoint.query_id() if flow.downstream else None
        yield Bind(flow, owner(flow, topic_id, known or str(uuid.uuid4()), upstream_id))
    elif flow.checkpoint.has_leftovers():
        yield Clear(flow)


def inspect_upstream(flow: Flow, upstream_id: str | None) -> Iterator[Finding]:
    """Yield why a flow that has run can no longer follow the layer before it."""
    upstream, committed = flow.upstream, flow.checkpoint.last_committed()
    if upstream is None or flow.checkpoint.last_planned() is None:
        return
    if _noted_owner(flow).get("upstream") != upstream_id:
        problem = f"{upstream.name}, which {flow.name} follows, was reset without it"
        yield to_reset(flow, Code.UPSTREAM_RESET, problem)
    elif committed:  # while a sink was not declared, retention knew nothing of how far it had read
        read = in_layer(committed.end).batch
        for file in upstream.files():
            if file.first <= read < file.last:
                problem = f"{file.path} holds batches that {flow.name} has read, and others"
                yield to_reset(flow, Code.UPSTREAM_MERGED, problem)
                return


def checkpoint_lost(flow: Flow) -> Refusal | None:
    """Return why a query that has run is refused whose checkpoint no longer says so."""
    files = data_paths(flow.layout.output)  # before the plan is looked for: no file appears before that
    if flow.checkpoint.last_planned() is not None:
        return None
    path = flow.checkpoint.path
    if files:
        problem = f"{flow.layout.output} holds {files[0].name}, but its checkpoint {path} is missing or empty"
    elif flow.checkpoint.has_commits():
        problem = f"{path} holds commits of batches, but no longer their offsets"
    elif flow.layout.owner.exists() and flow.checkpoint.query_id() is None:
        problem = f"{flow.name} had begun, but its checkpoint {path} is missing"
    else:
        return None
    return _lost(flow, problem)


def topic_was_recreated(flow: Flow) -> Refusal:
    """Refuse to go on with another topic than that of the flow's checkpoint."""
    problem = f"topic {flow.feed.topic} was deleted and created again, so its offsets mean other records now"
    return to_reset(flow, Code.TOPIC_RECREATED, problem)


def strays(flow: Flow) -> Iterator[Refusal]:
    """Yield a refusal for each path that a reader of the flow's folders would open and the flow has not written."""
    found = [(path, prefix) for folder, prefix in flow.folders for path in data_paths(folder)]
    if flow.is_divided:
        found += [(path, flow.sink) for path in data_paths(flow.layout.output) if path not in flow.data_folders]
    planned = flow.checkpoint.last_planned()  # after the listing: no file appears before its batch is planned
    newest = planned.batch_id if planned else -1
    written: dict[tuple[Path, int, int], Path] = {}
    for path, prefix in found:
        file = parse(path, prefix)
        form = flow.form_of(prefix)
        if file is None or form is None or file.path.suffix != f".{form.extension}" or file.last > newest:
            yield stranger(flow, path)
        elif (other := written.setdefault((path.parent, file.first, file.last), path)) != path:
            yield overlap(flow, other, path)


def owner(flow: Flow, topic_id: str | None, query_id: str, upstream_id: str | None) -> dict[str, Any]:
    """Return what `_owner.json` says of an output that begins."""
    known = {"feed": flow.feed.name, "layer": flow.sink, "query_id": query_id}
    return {**known, "upstream": upstream_id, "topic_id": topic_id, **declared.noted(flow)}


def _lost(flow: Flow, problem: str) -> Refusal:
    """Refuse a query whose checkpoint is lost; a table may have what it takes to make that again."""
    if flow.to.is_table and not flow.aggregate:
        problem = f"{problem}; make it again from the table with: {restore_command(flow)}, or"
        return Refusal(flow.name, Code.CHECKPOINT_LOST, f"{problem} reset it with: {reset_command(flow)}")
    return to_reset(flow, Code.CHECKPOINT_LOST, problem)


def _is_bound(flow: Flow, topic_id: str | None, upstream_id: str | None) -> bool:
    """Return whether an earlier start bound this output but ran no batch.

    Its followers know the query id already, so it must not change.
    """
    query_id = flow.checkpoint.query_id()
    return query_id is not None and _noted_owner(flow) == owner(flow, topic_id, query_id, upstream_id)


def _mismatches(flow: Flow, topic_id: str | None) -> Iterator[Finding]:
    query_id, found = flow.checkpoint.query_id(), _noted_owner(flow)
    if query_id is None:
        yield _lost(flow, f"{flow.checkpoint.path}/metadata is missing, so the checkpoint cannot be read")
    elif not found:
        problem = f"{flow.layout.output} was deleted or emptied under its checkpoint {flow.checkpoint.path}"
        yield to_reset(flow, Code.OUTPUT_LOST, problem)
    elif found.get("topic_id") != topic_id:
        yield topic_was_recreated(flow)
    elif [found.get(key) for key in ("feed", "layer", "query_id")] != [flow.feed.name, flow.sink, query_id]:
        other = f"{found.get('feed')}.{found.get('layer')}"
        yield to_reset(flow, Code.OUTPUT_FOREIGN, f"{flow.layout.output} belongs to {other} of another checkpoint")
    else:
        yield from declared.inspect(flow, found)
        yield from strays(flow)
        yield from _lost_beside(flow)


def _lost_beside(flow: Flow) -> Iterator[Refusal]:
    last = chain.last_file(flow)
    if last is None:
        return
    if not flow.files_of(last.last):
        problem = f"{last.path} was deleted under its checkpoint {flow.checkpoint.path}"
        yield to_reset(flow, Code.OUTPUT_LOST, problem)
    if flow.is_own and flow.kind.drops_repeats and flow.feed.dedupe:
        if not flow.layout.seen.is_dir():
            yield to_reset(flow, Code.SEEN_LOST, f"{flow.layout.seen} is missing, the index that finds repeats")
        for file in batch_files(flow.layout.seen, key_runs.PREFIX):
            if not key_runs.is_whole(file.path):
                yield to_reset(flow, Code.DAMAGED, f"{file.path} cannot be read")


def _noted_owner(flow: Flow) -> dict[str, Any]:
    """Return what `_owner.json` says; nothing where there is none, or it cannot be read."""
    try:
        found = json.loads(flow.layout.owner.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
