"""Output belongs to its checkpoint: what is checked before a query starts, and how the two are bound.

`_owner.json` in each output folder names the feed, the layer, the query id in Spark's checkpoint, for bronze the
topic's id, for the others the query id of the layer they follow, and the declarations that the query's state depends
on. Anything that does not match is refused with the command to type, because to go on would skip records or repeat
them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from stream_app.errors import ConfigError
from stream_app.flows import lineage
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import data_paths, parse, replace_text
from stream_app.storage.offsets import in_layer


def claim(flow: Flow, topic_id: str | None) -> None:
    """Bind a new output to a new checkpoint, or check that the two that stand belong together.

    Raises ConfigError, naming what is wrong and the command to type.
    """
    if not is_new(flow):
        _check(flow, topic_id)
    elif _is_bound(flow, topic_id):
        flow.checkpoint.clear()
    else:
        _bind(flow, topic_id)


def reset_command(flow: Flow) -> str:
    """What a person types to begin a flow anew."""
    return f"make reset FEED={flow.feed.name} SINK={flow.sink}"


def topic_was_recreated(flow: Flow) -> ConfigError:
    """What to raise where the topic of a flow is another one than that of its checkpoint."""
    problem = f"topic {flow.feed.topic} was deleted and created again, so its offsets mean other records now"
    return _refusal(flow, problem)


def stranger(flow: Flow, path: Path) -> ConfigError:
    """What to raise where a file in the folder is none of the flow's."""
    return ConfigError(f"{path} was not written by {flow.name}; move it out of the folder")


def strays(flow: Flow) -> Iterator[ConfigError]:
    """Yield what to raise for each path that a reader of the flow's folders would open and the flow has not written."""
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
            yield ConfigError(f"{other} and {path} are of one batch; move out what {flow.name} has not written")


def is_new(flow: Flow) -> bool:
    """Whether the query has never run. Raises ConfigError if it has, and its checkpoint does not say so any more."""
    files = data_paths(flow.layout.output)  # before the plan is looked for: no file appears before that
    if flow.checkpoint.last_planned() is not None:
        return False
    if files:
        problem = f"holds {files[0].name}, but its checkpoint {flow.checkpoint.path} is missing or empty"
        raise _refusal(flow, f"{flow.layout.output} {problem}")
    if flow.checkpoint.has_commits():
        raise _refusal(flow, f"{flow.checkpoint.path} holds commits of batches, but no longer their offsets")
    if flow.layout.owner.exists() and flow.checkpoint.query_id() is None:
        raise _refusal(flow, f"{flow.name} had begun, but its checkpoint {flow.checkpoint.path} is missing")
    return True


def _is_bound(flow: Flow, topic_id: str | None) -> bool:
    """Whether a start that came to no batch has bound it: those that follow know its query id by now."""
    query_id = flow.checkpoint.query_id()
    try:
        found = json.loads(flow.layout.owner.read_text())
    except (FileNotFoundError, ValueError):
        return False
    return query_id is not None and found == _owner(flow, topic_id, query_id)


def _bind(flow: Flow, topic_id: str | None) -> None:
    # Those that follow know the id, and may have planned a batch by then, though nothing was read.
    known = flow.checkpoint.query_id() if flow.downstream else None
    owner = _owner(flow, topic_id, known or str(uuid.uuid4()))
    flow.layout.output.mkdir(parents=True, exist_ok=True)
    # The owner goes first and comes last: where it stands without a checkpoint somebody has deleted that.
    flow.layout.owner.unlink(missing_ok=True)
    shutil.rmtree(flow.checkpoint.path, ignore_errors=True)
    flow.checkpoint.path.mkdir(parents=True)
    replace_text(flow.layout.metadata, json.dumps({"id": owner["query_id"]}))
    replace_text(flow.layout.owner, json.dumps(owner, indent=1))


def _check(flow: Flow, topic_id: str | None) -> None:
    query_id = flow.checkpoint.query_id()
    if query_id is None:
        raise _refusal(flow, f"{flow.checkpoint.path}/metadata is missing, so the checkpoint cannot be read")
    try:
        found = json.loads(flow.layout.owner.read_text())
    except (FileNotFoundError, ValueError):
        problem = f"{flow.layout.output} was deleted or emptied under its checkpoint {flow.checkpoint.path}"
        raise _refusal(flow, problem) from None
    expected = _owner(flow, topic_id, query_id)
    if found.get("topic_id") != topic_id:
        raise topic_was_recreated(flow)
    if flow.upstream and found.get("upstream") != expected["upstream"]:
        raise _refusal(flow, f"{flow.upstream.name}, which {flow.name} follows, was reset without it")
    if found.get("state") != expected["state"]:
        problem = f"the feed file, or a new version, changed what {flow.name} keeps in its state or its columns"
        raise _refusal(flow, problem)
    if found != expected:
        raise _refusal(
            flow, f"{flow.layout.output} belongs to {found.get('feed')}.{found.get('layer')} of another checkpoint"
        )
    _check_files(flow)
    _check_upstream(flow)


def _check_upstream(flow: Flow) -> None:
    """While a sink was not declared, retention knew nothing of how far it had read."""
    committed = flow.checkpoint.last_committed()
    if flow.upstream is None or committed is None:
        return
    for file in flow.upstream.files():
        if file.first <= in_layer(committed.end).batch < file.last:
            raise _refusal(flow, f"{file.path} holds batches that {flow.name} has read, and others")


def _check_files(flow: Flow) -> None:
    for problem in strays(flow):
        raise problem
    last = lineage.last_file(flow)
    if last is None:
        return
    if not flow.files_of(last.last):
        raise _refusal(flow, f"{last.path} was deleted under its checkpoint {flow.checkpoint.path}")
    if flow.is_own and flow.kind.drops_repeats and not flow.layout.seen.is_dir():
        raise _refusal(flow, f"{flow.layout.seen} is missing, the index that finds repeats")


def _owner(flow: Flow, topic_id: str | None, query_id: str) -> dict[str, str | None]:
    declared = flow.kind.depends_on if flow.derives else flow.kind.shape
    digest = hashlib.sha256(json.dumps(declared).encode()).hexdigest()[:16]
    return {
        "feed": flow.feed.name,
        "layer": flow.sink,
        "query_id": query_id,
        "upstream": flow.upstream.checkpoint.query_id() if flow.upstream else None,
        "topic_id": topic_id,
        "state": digest,
    }


def _refusal(flow: Flow, problem: str) -> ConfigError:
    return ConfigError(f"{problem}; reset it with: {reset_command(flow)}")
