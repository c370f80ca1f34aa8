"""What a dataset is: a kind is one file of this folder and one line of registry.py, and no other file asks which."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pyspark.sql.types import StructType

from stream_app.contract.references import SnapshotOf
from stream_app.feeds.feed import Feed
from stream_app.feeds.schema import types_of
from stream_app.feeds.types import Type
from stream_app.layers.origin import Origins
from stream_app.layers.reading import Reading

if TYPE_CHECKING:  # they are kinds
    from stream_app.layers.aggregate import Aggregate, Running, Stateful

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
    has_folder: ClassVar[bool] = True
    """Whether it has a folder of Parquet of its own, which sinks follow."""
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
    def types(self) -> dict[str, Type]:
        """The columns with their types, as a feed file calls these."""
        return types_of(self.columns)

    @property
    def sources(self) -> dict[str, str]:
        """What the values of columns and of members are made of beside their types, by path; nothing if of no more."""
        return {}

    @property
    def required(self) -> frozenset[str]:
        """The paths of columns, and of members of structs, that no row lacks which was made since they are declared."""
        return frozenset()

    @property
    def sql_columns(self) -> dict[str, str]:
        """The columns with DuckDB's types."""
        return {column: one.duckdb for column, one in self.types.items()}

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
    def state(self) -> Mapping[str, object]:
        """What of the declaration the state of its own query depends on, beside its columns: keys of the feed file."""

    @property
    @abstractmethod
    def shape(self) -> list[object]:
        """What versions up to 0.1 kept a digest of for every output of it, in place of its columns."""

    @property
    def depends_on(self) -> list[object]:
        """What they kept one of for its own query, in place of its state."""
        return self.shape

    @property
    @abstractmethod
    def origins(self) -> Mapping[str, Origins]:
        """Each column, with those of the upstream that its values are made of; of bronze those of the topic."""

    @property
    @abstractmethod
    def decided_by(self) -> Origins:
        """The columns of the upstream that decide which rows there are."""

    @property
    def taken(self) -> StructType:
        """What a task reads of its upstream, before `aggregate` makes rows of that: else its rows themselves."""
        return self.columns

    @property
    def clocked(self) -> StructType:
        """The same as Spark gets it of a task."""
        return self.taken

    @property
    def aggregate(self) -> Aggregate | None:
        """What is to be known of a query that keeps state; None for one that has none."""
        return None

    @property
    def stateful(self) -> Stateful | None:
        """The same of one with a watermark, whose rows become final."""
        return None

    @property
    def running(self) -> Running | None:
        """The same of one whose rows never do."""
        return None

    def reading(self, clock: int, snapshot_of: SnapshotOf | None, *, replayed: bool) -> Reading:
        """Return how a task makes `taken` of its upstream's files.

        `clock` is silver's at the start of the batch (layers/silver.py). A kind that judges does so by `snapshot_of`
        (contract/references.py). `replayed` rows are read as they are.
        """
        raise NotImplementedError
