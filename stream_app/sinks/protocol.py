"""Where a dataset goes: a sink is one file of this folder and one line of registry.py, and no other file asks which.

A sink is what the feed file declares: `[sinks.<name>] of = "<dataset>" to = "<kind>"` and what the kind takes beside
that, as fields of a subclass. It knows all that others ask of such a destination. Its writer lives as long as a query.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Protocol, cast

import duckdb
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from stream_app.contract.references import Snapshots
from stream_app.errors import ConfigError
from stream_app.feeds.parts import ColumnName, Frozen
from stream_app.feeds.sql import names
from stream_app.feeds.types import Type
from stream_app.flows import rules
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.layers.kind import Kind
from stream_app.layers.origin import Origins, same
from stream_app.layers.reading import Reading
from stream_app.object_stores import TableRoot
from stream_app.paths import named
from stream_app.settings import Servers
from stream_app.sinks.report import Report
from stream_app.sources.lookups import Lookups
from stream_app.sources.split_rows import Rows
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.form import Form
from stream_app.storage.offsets import LayerOffset
from stream_app.storage.opened import Opened


class Guarantee(StrEnum):
    """How often a row is in the destination after crashes and replays."""

    EXACTLY_ONCE = "exactly once"
    AT_LEAST_ONCE = "at least once"


@dataclass(frozen=True)
class Moment:
    """When a table was as it is to be read: at a version, at a time, or once a batch was in; with none of them now."""

    version: int | None = None
    time: datetime | None = None
    batch: int | None = None


@dataclass(frozen=True)
class Holding:
    """How much a table holds that keeps no batch files."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    newest: str | None = None
    """Its newest version."""
    newest_ms: int = 0
    """When that was made, in milliseconds since the epoch."""


@dataclass(frozen=True)
class Tools:
    """What a writer may need of the running service."""

    hadoop: Hadoop
    servers: Servers
    fail_on_data_loss: bool
    """Whether bronze refuses to step over records that cannot be read."""
    lookups: Lookups | None = None
    """The reference data of the feed, where it has some."""
    before_publish: Callable[[], None] = lambda: None
    """To be called when all is written and nothing visible yet; if it raises, the batch fails."""


class Writer(Protocol):
    """Writes the batches of one query, from one start of it to the next."""

    def prepare(self, columns: StructType) -> None:
        """Make ready for rows of those columns, or check that the destination is that of this query.

        Called before each start. A query that was reset finds an empty destination after it. One that goes on may have
        grown: the destination gets its new and wider columns here (feeds/growth.py), however often it is tried. Raises
        ConfigError where to go on would skip or repeat rows, UnavailableError where the destination is away for now.
        """

    def write(self, batch: Batch, frame: DataFrame) -> Report:
        """Write a batch, which may have been written before, in part or whole: the guarantee holds all the same.

        `frame` has splits where the writer was given Rows to read them by, else the rows themselves.
        """


class Sink(Frozen):
    """A destination as a feed file declares it."""

    of: ColumnName
    """The dataset: bronze, quarantine, silver, a window, a session or a total."""
    to: str
    """The kind of sink."""

    guarantee: ClassVar[Guarantee]
    is_divided: ClassVar[bool] = False
    keeps_by_key: ClassVar[bool] = False
    """Whether a row can take the place of one with the same key, as totals ask for."""
    is_table: ClassVar[bool] = False
    """Whether a log in its folder says which files hold its rows."""
    is_copied: ClassVar[bool] = False
    """Whether its rows must be copied to be read; their texts have no NUL then."""
    is_queryable: ClassVar[bool] = True
    """Whether `make query` and `make show` can read it."""
    needs_database: ClassVar[bool] = False
    """Whether it is in the database at DATABASE_URL, and cannot be written where none is named."""

    @abstractmethod
    def writer(self, flow: Flow, rows: Rows | None, tools: Tools) -> Writer:
        """Return what writes the flow's batches.

        `rows` reads the splits that a frame has; None where a frame has the rows.
        """

    def problems(self, kind: Kind) -> Iterator[tuple[str, str]]:  # noqa: ARG002 - most can hold all
        """Yield why it cannot hold that dataset, each as (key of the declaration, what is wrong)."""
        yield from ()

    def divided_by(self, kind: Kind) -> str:
        """Return the time by whose date its rows are divided, where they are: the dataset's own."""
        return kind.time

    def derives(self, kind: Kind) -> bool:  # noqa: ARG002 - most follow the dataset's files
        """Return whether its query makes the dataset's rows itself, fresh, and does not follow its files."""
        return False

    def archives(self, kind: Kind) -> bool:  # noqa: ARG002 - most do not
        """Return whether it keeps beside each row which file of the dataset that is from, and what the file says."""
        return False

    def form(self, kind: Kind) -> Form | None:  # noqa: ARG002 - a table has none
        """Return what its files are; None where it has none."""
        return None

    def taken(self, kind: Kind) -> StructType:
        """Return what its tasks make of the dataset's files."""
        return kind.columns

    def reading(self, kind: Kind) -> Reading:
        """Return how they do."""
        return Reading.plain(kind.columns)

    def reader_columns(self, kind: Kind) -> dict[str, tuple[Type, Origins]]:
        """Return the columns that its readers find, with their types and what of the dataset they are made of."""
        return {name: (one, same([name])[name]) for name, one in kind.types.items()}

    @property
    def topics(self) -> frozenset[str]:
        """The topics that it writes to, which must exist before a start."""
        return frozenset()

    @property
    def claims(self) -> frozenset[str]:
        """What no other sink may write to, of any feed: as people call it."""
        return frozenset()

    def place(self, flow: Flow) -> str:
        """Return where people find it."""
        return str(flow.layout.output)

    def table_root(self, flow: Flow) -> TableRoot | None:  # noqa: ARG002 - most are none
        """Return under what its table lies; None where it is no table. Before a start its store is tried."""
        return None

    def qualified_name(self, flow: Flow, servers: Servers) -> tuple[str, str]:  # noqa: ARG002 - most are files
        """Return the name that it has nowhere else, as OpenLineage forms it: a namespace, and a name in that."""
        return named(self.place(flow))

    def select(self, flow: Flow, files: Sequence[BatchFile], opened: Opened) -> str | None:  # noqa: ARG002 - has none
        """Return the SQL that reads those files, for DuckDB; None where it must be copied."""
        return None

    def select_at(self, flow: Flow, moment: Moment, opened: Opened) -> str:  # noqa: ARG002 - most have no versions
        """Return the SQL that reads it as it was. Raises ConfigError where nothing is kept of that moment."""
        raise ConfigError(f"{flow.name} has no versions: AT is for tables of delta")

    def committed(self, flow: Flow, files: Sequence[BatchFile], batch: int, opened: Opened) -> str | None:  # noqa: ARG002
        """Return the SQL for what the audit compares: the rows of the batches up to that one, whose files these are."""
        return self.select(flow, files, opened)

    def holding(self, flow: Flow) -> Holding | None:  # noqa: ARG002 - most have files
        """Return how much it holds; None where the flow's files tell."""
        return None

    def flaws(self, flow: Flow) -> Iterator[str]:  # noqa: ARG002 - files have a chain of their own (flows/chain.py)
        """Yield a line for each file that its log names and that is not so."""
        yield from ()

    def drop(self, flow: Flow) -> None:
        """Let go of what it holds outside of its folder, which a reset deletes."""

    def tidying(self, flow: Flow, hadoop: Hadoop, most: int) -> Callable[[], None]:  # noqa: ARG002 - tables have some
        """Return what merges small files where there are more than `most`; retention does so for batch files."""
        return lambda: None

    def attach(self, connection: duckdb.DuckDBPyConnection, flow: Flow) -> None:
        """Have that connection read where the files are that `select` names; DuckDB itself reads disks."""

    def copy_into(
        self,
        connection: duckdb.DuckDBPyConnection,  # noqa: ARG002 - most are read where they are
        flow: Flow,  # noqa: ARG002
        servers: Servers,  # noqa: ARG002
    ) -> LayerOffset | None:
        """Copy what is to be read into a table of DuckDB, `<feed>.<sink>`, where no file can be.

        Return how far of the layer before the copy has come, where it tells.
        """
        return None

    def newest_first(self, kind: Kind) -> str:
        """Return the order in which `make show` shows it, in SQL."""
        return kind.newest_first

    def compared(self, kind: Kind) -> tuple[str, str] | None:
        """Return what the audit compares: columns of the dataset, and of this, in SQL; None where it cannot."""
        columns = names(kind.columns.names)
        return columns, columns

    def misplaced(self, flow: Flow, files: Sequence[BatchFile], opened: Opened) -> str | None:  # noqa: ARG002
        """Return the SQL for rows that are in a wrong folder; None where all are in one."""
        return None


def rows_of(flow: Flow) -> Rows:
    """Return what a flow's tasks make of the files of the layer before."""
    if flow.derives:
        earlier = list(rules.earlier(flow)) if flow.kind.judges else []
        before = [(batch, _derived(flow, replace(flow.kind, feed=feed))) for batch, feed in earlier]
        return _derived(flow, flow.kind).before(before)
    sink = sink_of(flow)
    reading = sink.reading(flow.kind)
    return Rows(sink.taken(flow.kind), lambda _split: reading)


def _derived(flow: Flow, kind: Kind) -> Rows:
    return Rows.of(kind, Snapshots.of(kind.feed, flow.root))


def topics_of(flow: Flow) -> frozenset[str]:
    """Return the topics that a flow reads and writes."""
    return sink_of(flow).topics | ({flow.feed.topic} if flow.upstream is None else set())


def sink_of(flow: Flow) -> Sink:
    """Return where a flow's rows go."""
    return cast("Sink", flow.to)
