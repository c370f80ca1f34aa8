"""A flow is one streaming query: a feed, a layer and a sink. Every name and every path derives from it, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from stream_app.checkpoint import Checkpoint
from stream_app.feed import Feed, Window
from stream_app.files import BatchFile, batch_files, standing


class Layer(StrEnum):
    """What a query makes of the layer before it, upstream first. A feed may declare several sinks of gold."""

    BRONZE = "bronze"
    QUARANTINE = "quarantine"
    SILVER = "silver"
    GOLD = "gold"
    RAW_CSV = "raw_csv"

    @property
    def upstream(self) -> Layer | None:
        """The layer whose files this one follows; None for bronze, which reads the topic."""
        return _UPSTREAM[self]

    @property
    def extension(self) -> str:
        """What the layer's file names end with."""
        return "csv" if self is Layer.RAW_CSV else "parquet"


LATE = "late"
"""What gold could not count (sinks/late.py) stands in folders that begin so."""

REPLAY = "replay"
"""The file prefix of records that were taken out of quarantine."""

_UPSTREAM = {
    Layer.BRONZE: None,
    Layer.QUARANTINE: Layer.BRONZE,
    Layer.SILVER: Layer.BRONZE,
    Layer.GOLD: Layer.SILVER,
    Layer.RAW_CSV: Layer.SILVER,
}


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
    def window(self) -> Window:
        """The declaration of one of gold's sinks."""
        return self.feed.windows[self.sink]

    @property
    def output(self) -> Path:
        """The folder that people read."""
        return self.root / self.feed.name / self.sink

    @property
    def staging(self) -> Path:
        """Where files are made, in the output's own file system and hidden from readers by the underscore."""
        return self.output / "_staging"

    @property
    def late(self) -> Path:
        """Where gold's query keeps the rows that came after their window was final."""
        return self.root / self.feed.name / self.late_name

    @property
    def late_name(self) -> str:
        """The folder of gold's late rows and the prefix of its files: `late`, or `late_<sink>` for a named sink."""
        return LATE if self.sink == Layer.GOLD else f"{LATE}_{self.sink}"

    @property
    def folders(self) -> tuple[tuple[Path, str], ...]:
        """Every folder that the query writes, with the prefix of its files."""
        own = (self.output, self.sink)
        return (own, (self.late, self.late_name)) if self.layer is Layer.GOLD else (own,)

    @property
    def replay(self) -> Path:
        """The ledger of replayed records, which silver's query reads beside bronze (ops/replay.py)."""
        return self.root / self.feed.name / f"_{REPLAY}"

    @property
    def checkpoint(self) -> Checkpoint:
        """Spark's checkpoint of the query."""
        return Checkpoint(self.root / self.feed.name / "_chk" / self.sink)

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

    def files(self) -> list[BatchFile]:
        """The output's files that hold each batch once, oldest first."""
        return standing(batch_files(self.output, self.sink))


def flows(feeds: Sequence[Feed], root: Path) -> tuple[Flow, ...]:
    """Every flow of the feeds, upstream first."""
    return tuple(Flow(feed, layer, root, name) for feed in feeds for layer in Layer for name in _sinks(feed, layer))


def _sinks(feed: Feed, layer: Layer) -> Sequence[str]:
    return tuple(feed.windows) if layer is Layer.GOLD else ("",)
