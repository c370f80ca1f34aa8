"""A flow is one streaming query: a feed, a layer and a sink. Every name and every path derives from it, once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Session, Window
from stream_app.storage.batch_files import REPLAY, BatchFile, batch_files, partitions, standing
from stream_app.storage.checkpoint import Checkpoint
from stream_app.storage.layout import Layout
from stream_app.storage.offsets import LayerOffset, Offset, in_layer


class Layer(StrEnum):
    """What a query makes of the layer before it, upstream first. The feed file names the sinks of the last ones."""

    BRONZE = "bronze"
    QUARANTINE = "quarantine"
    SILVER = "silver"
    GOLD = "gold"
    SESSIONS = "sessions"
    RAW_CSV = "raw_csv"
    LAKE = "lake"
    TOPIC = "topic"
    TABLE = "table"

    @property
    def upstream(self) -> Layer | None:
        """The layer whose files this one follows; None for bronze, which reads the topic."""
        if self in {Layer.QUARANTINE, Layer.SILVER}:
            return Layer.BRONZE
        return None if self is Layer.BRONZE else Layer.SILVER

    @property
    def extension(self) -> str:
        """What the layer's file names end with."""
        return "csv" if self is Layer.RAW_CSV else "parquet"


_TABLE_PREFIX = "postgres_"


@dataclass(frozen=True)
class Flow:
    """One query, its output folder and its checkpoint: `<root>/<feed>/<sink>` and `<root>/<feed>/_chk/<sink>`."""

    feed: Feed = field(hash=False)
    layer: Layer
    root: Path
    sink: str = ""
    """The folder, the prefix of its files, and what people type: as the feed file names it, or else as its layer."""

    def __post_init__(self) -> None:
        if not self.sink:
            object.__setattr__(self, "sink", str(self.layer))

    @property
    def name(self) -> str:
        """The query's name, in logs, metrics and the Spark UI."""
        return f"{self.feed.name}.{self.sink}"

    @property
    def is_windowed(self) -> bool:
        """Whether the query counts windows: a sink of gold, or a table of one."""
        return self.derived in self.feed.windows

    @property
    def window(self) -> Window:
        """The windows that it counts; KeyError for another query."""
        return self.feed.windows[self.derived]

    @property
    def drops_late(self) -> bool:
        """Whether rows may come too late for it, so that they are kept (sinks/late.py): it has a watermark."""
        return self.is_windowed or self.derived in self.feed.sessions

    @property
    def session(self) -> Session:
        """The sessions that it follows; KeyError for another query."""
        return self.feed.sessions[self.derived]

    @property
    def table(self) -> str:
        """The name of a table's sink in PostgreSQL."""
        return self.sink.removeprefix(_TABLE_PREFIX)

    @property
    def derived(self) -> str:
        """The declaration that the query carries out: a table's is that of another sink."""
        return self.feed.tables[self.table].of if self.layer is Layer.TABLE else self.sink

    @property
    def layout(self) -> Layout:
        """Every path of the query."""
        return Layout(self.root, self.feed.name, self.sink)

    @property
    def data_folders(self) -> list[Path]:
        """Where the output's files lie: in the output itself, or in a lake's folders."""
        return partitions(self.layout.output) if self.layer is Layer.LAKE else [self.layout.output]

    @property
    def folders(self) -> tuple[tuple[Path, str], ...]:
        """Every folder that the query writes files to, with their prefix."""
        late = [(self.layout.late, self.layout.late_name)] if self.drops_late else []
        return (*((folder, self.sink) for folder in self.data_folders), *late)

    @property
    def checkpoint(self) -> Checkpoint:
        """Spark's checkpoint of the query."""
        return Checkpoint(self.layout.checkpoint)

    @property
    def upstream(self) -> Flow | None:
        """The flow whose files this one follows."""
        return None if self.layer.upstream is None else Flow(self.feed, self.layer.upstream, self.root)

    @property
    def downstream(self) -> tuple[Flow, ...]:
        """The flows that follow this one's files."""
        return tuple(flow for flow in flows([self.feed], self.root) if flow.layer.upstream is self.layer)

    def with_downstream(self) -> tuple[Flow, ...]:
        """The flow itself and all that follow it, directly or not, upstream first."""
        return (self, *(flow for follower in self.downstream for flow in follower.with_downstream()))

    def files(self, after: int = -1, up_to: float = math.inf) -> list[BatchFile]:
        """The output's files that hold each batch after the one and up to the other once, oldest first."""
        found = (batch_files(folder, self.sink, after, up_to) for folder in self.data_folders)
        return sorted(file for files in found for file in standing(files))

    def files_of(self, batch_id: int) -> list[BatchFile]:
        """The output's files that hold that batch: one, several in a lake, none of a batch without rows."""
        return self.files(batch_id - 1, batch_id)

    def start(self, batch_id: int) -> Offset:
        """The offset that the batch begins with: the end of the one before."""
        if batch_id:
            return self.checkpoint.planned(batch_id - 1).end
        return LayerOffset() if self.upstream else self.checkpoint.first_offsets()

    def ledger(self, after: int = -1, up_to: float = math.inf) -> list[BatchFile]:
        """The files of replayed records that silver's query reads after the one and up to the other."""
        return batch_files(self.layout.replay, REPLAY, after, up_to) if self.layer is Layer.SILVER else []

    def taken_up_to(self) -> int:
        """The newest batch of the layer before that the query has committed; -1 before the first, and for bronze."""
        committed = self.checkpoint.last_committed()
        return in_layer(committed.end).batch if committed and self.upstream else -1

    def untaken(self) -> list[BatchFile]:
        """The files of the layer before that no committed batch of this query has read."""
        return self.upstream.files(self.taken_up_to()) if self.upstream else []


def flows(feeds: Sequence[Feed], root: Path) -> tuple[Flow, ...]:
    """Every flow of the feeds, upstream first."""
    return tuple(Flow(feed, layer, root, name) for feed in feeds for layer in Layer for name in _sinks(feed, layer))


def _sinks(feed: Feed, layer: Layer) -> Iterable[str]:
    match layer:
        case Layer.GOLD:
            return feed.windows
        case Layer.SESSIONS:
            return feed.sessions
        case Layer.LAKE:
            return feed.lakes
        case Layer.TOPIC:
            return feed.topics
        case Layer.TABLE:
            return (f"{_TABLE_PREFIX}{table}" for table in feed.tables)
        case _:
            return (str(layer),)
