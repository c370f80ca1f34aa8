"""What a dataset is: a kind is one file of this folder and one line of registry.py, and no other file asks which."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar, Self

import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from stream_app.contract.references import SnapshotOf
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Session, Window
from stream_app.feeds.schema import silver
from stream_app.feeds.sql import name
from stream_app.feeds.types import of_spark
from stream_app.layers.reading import Reading

BRONZE, QUARANTINE, SILVER = "bronze", "quarantine", "silver"
"""The datasets that each feed has."""


@dataclass(frozen=True)
class Kind(ABC):
    """A dataset of a feed: what it is made of and how, and what others may ask of it."""

    feed: Feed = field(hash=False, repr=False)
    name: str
    """Its folder, the prefix of its files, and what a sink names by `of`."""

    upstream: ClassVar[str | None] = SILVER
    """The dataset that it is made of; None where it reads the topic."""
    has_places: ClassVar[bool] = False
    """Whether each row is of one record, whose `partition` and `offset` it has."""
    judges: ClassVar[bool] = False
    """Whether it is half of the contract's verdict (admission/rule_versions.py)."""
    takes_replayed: ClassVar[bool] = False
    """Whether it takes the ledger of replayed records beside its upstream."""
    drops_repeats: ClassVar[bool] = False
    """Whether repeats are left out, where the feed has a [dedupe]."""
    counted: ClassVar[str | None] = None
    """A column of lists whose values are counted, each by itself: the reasons of quarantine."""
    previewed_by: ClassVar[str | None] = None
    """The column by which its newest rows are shown in the log (SHOW_PREVIEWS); None for no preview."""
    shown: ClassVar[str] = "*"
    """What `make show` shows of it, in SQL."""

    @property
    @abstractmethod
    def columns(self) -> StructType:
        """What its files hold."""

    @property
    def warned(self) -> str | None:
        """A column of lists with the names of rules that warn of a row, which are counted, too."""
        return None

    @property
    def sql_columns(self) -> dict[str, str]:
        """The same as DuckDB's types."""
        return {field.name: of_spark(field.dataType.jsonValue()).duckdb for field in self.columns}

    @property
    def text_columns(self) -> StructType:
        """What a CSV shows of it."""
        return self.columns

    @property
    @abstractmethod
    def time(self) -> str:
        """The column of its time, by which a lake divides its rows into dates."""

    @property
    @abstractmethod
    def newest_first(self) -> str:
        """The order in which `make show` shows it, in SQL."""

    @property
    @abstractmethod
    def shape(self) -> list[object]:
        """What of the declaration its columns depend on, and so every output of it."""

    @property
    def depends_on(self) -> list[object]:
        """What of the declaration the state of its own query depends on, beside its columns."""
        return self.shape

    @property
    def taken(self) -> StructType:
        """What a task reads of its upstream, before `stateful` makes rows of that: else its rows themselves."""
        return self.columns

    @property
    def stateful(self) -> Stateful | None:
        """What is to be known of a query that keeps state; None for one that has none."""
        return None

    def reading(self, clock: int, snapshot_of: SnapshotOf | None, *, replayed: bool) -> Reading:
        """Return how a task makes `taken` of its upstream's files.

        `clock` is silver's at the start of the batch (layers/silver.py). A kind that judges does so by `snapshot_of`
        (contract/references.py). `replayed` rows are read as they are.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class RecordKind(Kind):
    """A dataset with a row a record, which says where in Kafka that was: bronze, quarantine and silver."""

    has_places: ClassVar[bool] = True

    @property
    def time(self) -> str:
        """Kafka's timestamp."""
        return "kafka_ts"

    @property
    def newest_first(self) -> str:
        """By Kafka's timestamp."""
        return 'kafka_ts DESC, partition, "offset" DESC'

    @property
    def shape(self) -> list[object]:
        """The topic."""
        return [self.feed.topic]


@dataclass(frozen=True)
class Stateful(Kind):
    """A dataset whose query has a watermark: windows and sessions, each out once, when it is final."""

    opened: ClassVar[str]
    """The column with the time at which a window or a session began."""
    noun: ClassVar[str]
    """What one of its rows is called."""
    replaces_open: ClassVar[bool]
    """Whether a fresh query brings all open rows of a key anew, each with `final`; else one row a change."""
    late_columns: ClassVar[Mapping[str, str]]
    """What late rows have before silver's columns, as DuckDB's types."""
    late_key: ClassVar[tuple[str, ...]]
    """What tells apart the late rows of one record."""

    @property
    @abstractmethod
    def declared(self) -> Window | Session:
        """What the feed file says of it."""

    @property
    def stateful(self) -> Self:
        """Itself."""
        return self

    @property
    def watermark(self) -> timedelta:
        """How much later than the newest event time a record may come and still count."""
        return self.declared.watermark

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that tell apart what opened at one time."""
        return self.declared.keys

    @property
    def time(self) -> str:
        """When the window or the session began."""
        return self.opened

    @property
    def newest_first(self) -> str:
        """By that time, then by the keys."""
        return ", ".join((f"{self.opened} DESC", *map(name, self.keys)))

    @property
    def shape(self) -> list[object]:
        """Silver's columns and the declaration."""
        feed = self.feed
        fields: list[object] = [list(feed.values), [field.as_type.name for field in feed.values.values()]]
        return [*fields, self.declared.model_dump_json(), feed.event_time.field]

    @property
    def taken(self) -> StructType:
        """The event time and the columns that the declaration names, of silver."""
        needed = {self.feed.event_time.field, *self.declared.columns}
        return StructType([field for field in silver(self.feed) if field.name in needed])

    def reading(self, clock: int, snapshot_of: SnapshotOf | None, *, replayed: bool) -> Reading:  # noqa: ARG002
        """Return how a task reads those columns of silver."""
        return Reading.plain(self.taken)

    @property
    @abstractmethod
    def identity(self) -> tuple[str, ...]:
        """The columns that no two rows share."""

    @abstractmethod
    def transform(self, rows: DataFrame, *, fresh: bool) -> DataFrame:
        """Return the dataset's rows; with `fresh` those that are not final as well (output mode update)."""

    @abstractmethod
    def missed(self, file: pq.ParquetFile, watermark_ms: int) -> pa.Table:
        """Return the rows of a file of silver that Spark drops by that watermark; it closes the file."""

    @abstractmethod
    def expected(self, rows: str, late: str, watermark_ms: int) -> str:
        """Return the SQL for what is final at a watermark, by other means than the service's.

        `rows` is a view of silver's rows, `late` one of those that came too late.
        """

    @abstractmethod
    def timed(self, rows: pa.Table) -> pa.Table:
        """Return those of silver's rows that move the watermark."""

    @abstractmethod
    def computed(self, database: DuckDBPyConnection, rows: str, late: str, watermark_ms: int) -> pa.Table:
        """Return what `expected` finds in order, and with the digits that Spark has."""

    @abstractmethod
    def differing(self, actual: str, expected: str, *, alike: bool) -> str:
        """Return the SQL for the keys of rows that one has and the other has not, or not so.

        `alike`: several rows may have keys that look the same, as in PostgreSQL, which holds no NUL.
        """

    @property
    @abstractmethod
    def since(self) -> str:
        """The SQL for the earliest event time that a row may have counted, in microseconds since the epoch."""

    @property
    @abstractmethod
    def until(self) -> str:
        """The SQL for the watermark at which a row is final, in microseconds since the epoch."""

    @property
    @abstractmethod
    def late_by(self) -> str:
        """The SQL for the watermark at which a late row came too late, in microseconds since the epoch."""

    @property
    @abstractmethod
    def wrongly_late(self) -> str:
        """The SQL for whether a late row says anything of itself that is not so."""
