"""What happens to the flows, as events: a batch that was committed, a state that changed, trouble that came or went.

An event is named by the position after it: the newest batch and the state of each flow, and what is wrong with it.
What is needed to find the events since a position is on disk. So whoever comes back with one misses no batch, and no
state or trouble that holds now. Spark keeps the log of the newest batches alone; of those before, the names of their
files tell, and where nothing does, that is told. A state between two looks is not seen.
"""

from __future__ import annotations

import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Literal

import msgspec

from stream_app.flows.flow import Flow
from stream_app.ops.status import SinkStatus
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.checkpoint import PlannedBatch
from stream_app.storage.offsets import in_layer
from stream_app.storage.row_counts import count_rows

_OLDEST = 100
"""How many batches of a flow are looked for at most, the newest ones: each is an event with an id of its own."""
_LARGEST_ID = 1 << 20
"""Bytes of an id that is unpacked: far more than there are, and what a hostile one may take."""


@dataclass(frozen=True)
class BatchEvent:
    """A batch that a flow has committed."""

    feed: str
    sink: str
    batch: int
    time: datetime
    """When it was planned, in UTC; to the second where only its file tells."""
    rows: int | None
    """What its file holds; of a sink without files, what it took. None where a file was merged with others by now."""


@dataclass(frozen=True)
class UntoldEvent:
    """Batches that a flow has committed, of which nothing else is known: there is neither a log nor a file of one."""

    feed: str
    sink: str
    first: int
    last: int


@dataclass(frozen=True)
class StateEvent:
    """A state that a flow has come to."""

    feed: str
    sink: str
    state: str
    restarts: int


@dataclass(frozen=True)
class AlertEvent:
    """Trouble of a flow, in the words of its status; `is_over` once it has gone."""

    feed: str
    sink: str
    text: str
    is_over: bool


Event = BatchEvent | UntoldEvent | StateEvent | AlertEvent
Kind = Literal["batch", "untold", "state", "alert"]
KINDS: Mapping[type[Event], Kind] = {
    BatchEvent: "batch",
    UntoldEvent: "untold",
    StateEvent: "state",
    AlertEvent: "alert",
}


@dataclass(frozen=True)
class Seen:
    """What is known of one flow."""

    batch: int = -1
    state: str = ""
    restarts: int = 0
    trouble: str = ""
    query: int = 0
    """A digest of the query's id, of which a reset makes another; 0 where there is none."""


@dataclass(frozen=True)
class Position:
    """What is known of every flow, by its name."""

    flows: Mapping[str, Seen] = field(default_factory=dict)

    def of(self, flow: Flow) -> Seen:
        """Return what is known of a flow."""
        return self.flows.get(flow.name, Seen())

    def at(self, flow: Flow, seen: Seen) -> Position:
        """Return the position with that known of the flow."""
        return Position({**self.flows, flow.name: seen})

    def id(self, flows: Sequence[Flow]) -> str:
        """Return it as the id of an event: a list by the order of the flows, and a digest of their names.

        It comes back as a header, of which servers take 8 KiB: packed, that is enough for a thousand flows.
        """
        seen = [self.of(flow) for flow in flows]
        held = [_names(flows), *([one.batch, one.state, one.restarts, one.trouble, one.query] for one in seen)]
        return urlsafe_b64encode(zlib.compress(json.dumps(held, separators=(",", ":")).encode())).decode().rstrip("=")


def position(event_id: str, flows: Sequence[Flow]) -> Position | None:
    """Return the position that an id names; None for an id of other flows, or none of ours."""
    try:
        packed = urlsafe_b64decode(event_id + "=" * (-len(event_id) % 4))
        text = zlib.decompressobj().decompress(packed, _LARGEST_ID)
        names, *seen = msgspec.json.decode(text, type=list[str | tuple[int, str, int, str, int]])
    except (ValueError, zlib.error, msgspec.MsgspecError):
        return None
    found = [Seen(*one) for one in seen if isinstance(one, tuple)]
    if names != _names(flows) or len(found) != len(flows):
        return None
    return Position({flow.name: one for flow, one in zip(flows, found, strict=True)})


def now(flows: Sequence[Flow], statuses: Sequence[SinkStatus]) -> Position:
    """Return the position of those statuses, which are of those flows."""
    return Position({flow.name: _seen(flow, one) for flow, one in zip(flows, statuses, strict=True)})


def since(before: Position, flows: Sequence[Flow], statuses: Sequence[SinkStatus]) -> Iterator[tuple[Event, Position]]:
    """Yield what has happened from a position to those statuses, which are of those flows, each with where it leads."""
    at = before
    for flow, status in zip(flows, statuses, strict=True):
        known, new = at.of(flow), _seen(flow, status)
        if new.query != known.query or new.batch < known.batch:  # it was reset
            known = replace(known, batch=-1, query=new.query)
        for batch in _batches(flow, known.batch, new.batch):
            known = replace(known, batch=batch.batch if isinstance(batch, BatchEvent) else batch.last)
            at = at.at(flow, known)
            yield batch, at
        if (new.state, new.restarts) != (known.state, known.restarts):
            known = replace(known, state=new.state, restarts=new.restarts)
            at = at.at(flow, known)
            yield StateEvent(status.feed, status.sink, status.state, status.restarts), at
        if new.trouble != known.trouble:
            known = replace(known, trouble=new.trouble)
            at = at.at(flow, known)
            yield AlertEvent(status.feed, status.sink, trouble(status), is_over=not new.trouble), at


def trouble(status: SinkStatus) -> str:
    """Return what is wrong with a flow, in a sentence; empty where nothing is."""
    if status.last_error:
        return f"{status.state}: {status.last_error}"
    return status.state if status.state in {"failed", "killed", "restarting"} else ""


def _batches(flow: Flow, after: int, newest: int) -> Iterator[BatchEvent | UntoldEvent]:
    """Yield each batch after one, up to the newest: those of which something is known, and in between the others."""
    first = max(after + 1, newest - _OLDEST + 1)
    for batch in _known(flow, first, newest) if first <= newest else ():
        if after + 1 < batch.batch:
            yield UntoldEvent(batch.feed, batch.sink, after + 1, batch.batch - 1)
        yield batch
        after = batch.batch
    if after < newest:
        yield UntoldEvent(flow.feed.name, flow.sink, after + 1, newest)


def _known(flow: Flow, first: int, newest: int) -> Iterator[BatchEvent]:
    """Yield the batches that Spark's log has, and those before it that have a file of their own, in order."""
    plans = {}
    for number in range(max(0, first - 1), newest + 1):
        with suppress(FileNotFoundError):  # so long ago that Spark has purged it
            plans[number] = flow.checkpoint.planned(number)
    times = {number: _time(plan.time_ms) for number, plan in plans.items() if number >= first}
    if flow.form or not flow.upstream:
        files = flow.files(first - 1, newest)
        times = {file.first: file.time for file in files if not file.is_compacted} | times
        spans = {number: (number - 1, number) for number in times}
    else:
        spans = _taken(plans)
        told = [spans[number] for number in times if number in spans]
        files = flow.upstream.files(told[0][0], told[-1][1]) if told else []
    for number in sorted(times):
        rows = _rows(files, *spans[number]) if number in spans else None
        yield BatchEvent(flow.feed.name, flow.sink, number, times[number], rows)


def _taken(plans: Mapping[int, PlannedBatch]) -> dict[int, tuple[int, int]]:
    """Return which batches of the layer before each batch took: those after the first number, up to the second."""
    ends = {-1: -1} | {number: in_layer(plan.end).batch for number, plan in plans.items()}
    return {number: (ends[number - 1], end) for number, end in ends.items() if number - 1 in ends}


def _rows(files: Sequence[BatchFile], after: int, up_to: int) -> int | None:
    own = [file for file in files if after < file.last and file.first <= up_to]
    if any(file.first <= after or up_to < file.last for file in own):
        return None
    try:
        return sum(count_rows(file.path) for file in own)
    except FileNotFoundError:  # merged a moment ago
        return None


def _seen(flow: Flow, status: SinkStatus) -> Seen:
    batch = -1 if status.last_batch is None else status.last_batch
    wrong = trouble(status)
    digest = blake2b(wrong.encode(), digest_size=4).hexdigest() if wrong else ""
    query = flow.checkpoint.query_id() or ""
    known_by = int.from_bytes(blake2b(query.encode(), digest_size=2).digest()) if query else 0
    return Seen(batch, status.state, status.restarts, digest, known_by)


def _names(flows: Sequence[Flow]) -> str:
    return blake2b(" ".join(flow.name for flow in flows).encode(), digest_size=4).hexdigest()


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
