"""Every file and folder under OUTPUT_PATH: where it is, who writes it and when, and what happens where it is missing.

Modules take their paths from here, and docs/storage.md its tables: `python -m tests.docs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import overload

LATE = "late"
"""Folders of rows that came too late begin with it."""
_SINK_OF_LATE = "gold"
"""The sink whose late rows are in a folder without its name."""
_STAGING = "_staging"
_NAMES = {"<feed>": "feed", "<sink>": "sink", "<late>": "late_name"}


@dataclass(frozen=True)
class Place:
    """A file or a folder, as an attribute of a layout: there it is a path, in the class it is what it says of itself.

    The path is from OUTPUT_PATH on. A folder's ends with a slash.
    """

    path: str
    what: str
    writer: str
    """A module or a folder of stream_app, or Spark."""
    when: str
    flushed: str
    """Whether, or when, a power cut can no longer take it back."""
    missing: str
    """What happens where it is missing."""

    @overload
    def __get__(self, layout: None, owner: type[OutputLayout]) -> Place: ...

    @overload
    def __get__(self, layout: OutputLayout, owner: type[OutputLayout]) -> Path: ...

    def __get__(self, layout: OutputLayout | None, owner: type[OutputLayout]) -> Place | Path:
        if layout is None:
            return self
        path = self.path
        for shown, attribute in _NAMES.items():
            if shown in path:
                path = path.replace(shown, getattr(layout, attribute))
        return layout.root / path

    def under(self, folder: Place) -> PurePath:
        """Return the path from that folder on."""
        return PurePath(self.path).relative_to(folder.path)


@dataclass(frozen=True)
class OutputLayout:
    """What an OUTPUT_PATH holds once."""

    root: Path

    lock = Place(
        "_lock",
        "The lock of the one service, and its pid. It dies with the process.",
        "storage/lock.py",
        "at a start, and by a reset",
        "no",
        "It is made. Deleted while a service runs, it lets a second one start.",
    )
    status = Place(
        "_status.json",
        "What the running service knows of its queries, written in place. `make status` reads it.",
        "observe/status_file.py",
        "each second",
        "no",
        "`make status` knows the files alone.",
    )
    lineage = Place(
        "_lineage.json",
        "By flow, a digest of what the receiver of lineage events was told that it is.",
        "observe/lineage_sender.py",
        "at a start with OPENLINEAGE_URL that finds it changed",
        "no",
        "The receiver is told again.",
    )


@dataclass(frozen=True)
class FeedLayout(OutputLayout):
    """What it holds for each feed."""

    feed: str

    reset = Place(
        "<feed>/_reset.json",
        "A reset that is under way: what is to be deleted. While it exists the service does not start.",
        "admission/reset_journal.py",
        "by a reset, until it has ended",
        "yes",
        "No reset is under way.",
    )
    start = Place(
        "<feed>/_start.json",
        "Where bronze begins to read after a reset with TO.",
        "admission/reset_journal.py",
        "by a reset of bronze",
        "yes",
        "A new bronze begins at STARTING_OFFSETS.",
    )
    replay = Place(
        "<feed>/_replay/",
        "The ledger of replayed records: `replay_<time>_<id>.parquet`. Silver reads it beside bronze.",
        "ops/replay.py",
        "by a replay",
        "yes",
        "Refused, if silver has read files of it.",
    )
    replay_lock = Place(
        "<feed>/_replay.lock",
        "Held by a running `make replay`.",
        "ops/replay.py",
        "by a replay",
        "no",
        "It is made.",
    )
    lookups = Place(
        "<feed>/_lookups/",
        "Snapshots of reference data: `<lookup>_<hash>.arrow`, each as long as a batch of bronze names it.",
        "sources/lookups.py",
        "when a batch of bronze is planned and the data has changed",
        "yes",
        "Silver and quarantine fail, and name the snapshot that they lack.",
    )
    first_lookups = Place(
        "<feed>/_lookups/first.json",
        "For each declaration of a lookup, the snapshot for the batches from before it was declared.",
        "sources/lookups.py",
        "at the first start with that declaration",
        "yes",
        "Such batches are judged by what the start finds.",
    )


@dataclass(frozen=True)
class Layout(FeedLayout):
    """What it holds for each sink of a feed."""

    sink: str

    output = Place(
        "<feed>/<sink>/",
        "The output: [data files](#data-files). A lake's are in `event_date=…/`. A Delta table has its parts and "
        "`_delta_log/`, here or at `location`. A table of PostgreSQL, or a topic, has none.",
        "sinks/",
        "each batch with rows",
        "yes",
        "Refused, if the query has run.",
    )
    owner = Place(
        "<feed>/<sink>/_owner.json",
        "Which query the output belongs to, and how it is declared. See [below](#_ownerjson).",
        "admission/",
        "at the first start, and at one that finds the feed grown",
        "yes",
        "Refused, if the query has run.",
    )
    staging = Place(
        f"<feed>/<sink>/{_STAGING}/",
        "Files in the making, in a folder for each batch, and merges in `merge/`. Emptied at a start.",
        "sinks/",
        "each batch",
        "no",
        "It is made.",
    )
    late = Place(
        "<feed>/<late>/",
        "Rows that came too late for a window or a session: `late/` of gold, `late_<sink>/` of others.",
        "sinks/late.py",
        "each batch with such rows",
        "yes",
        "`make audit` says that they are missing.",
    )
    late_staging = Place(
        f"<feed>/<late>/{_STAGING}/",
        "The same for rows that came too late.",
        "sinks/late.py",
        "each batch with such rows",
        "no",
        "It is made.",
    )
    checkpoint = Place(
        "<feed>/_chk/<sink>/",
        "The [checkpoint](#checkpoints) of the query.",
        "admission/ownership.py",
        "at the first start",
        "yes",
        "Refused, if the query has run.",
    )

    metadata = Place(
        "<feed>/_chk/<sink>/metadata",
        "The query's id. The service makes it, Spark keeps it.",
        "admission/ownership.py",
        "at the first start",
        "yes",
        "Refused, if the query has run.",
    )
    offsets = Place(
        "<feed>/_chk/<sink>/offsets/",
        "The plan of each batch: offsets, time and watermark. Old ones are deleted by Spark.",
        "Spark",
        "before each batch",
        "before the batch's output",
        "Refused, if there are data files or commits.",
    )
    commits = Place(
        "<feed>/_chk/<sink>/commits/",
        "The batches that succeeded.",
        "Spark",
        "after each batch",
        "before files that it has read are merged or pruned",
        "The newest batch runs again, with the same result.",
    )
    first_offsets = Place(
        "<feed>/_chk/<sink>/sources/0/0",
        "Where bronze began to read.",
        "Spark",
        "at the first start",
        "before the first batch's output",
        "Refused, until a batch has been written.",
    )
    state = Place(
        "<feed>/_chk/<sink>/state/",
        "The state of windows, of sessions, of tables of these and of totals, in RocksDB.",
        "Spark",
        "each batch",
        "no",
        "The query fails until its sink is reset.",
    )
    last_file = Place(
        "<feed>/_chk/<sink>/last_file",
        "The name of the newest data file. A start notices if that is missing.",
        "flows/chain.py",
        "each batch with rows",
        "no",
        "A start does not notice where the newest data file was deleted.",
    )
    let_go = Place(
        "<feed>/_chk/<sink>/let_go",
        "The newest batch whose file may be missing: it was pruned, or somebody chose to go on without it.",
        "flows/chain.py",
        "by RETENTION=prune, and by a start with FAIL_ON_DATA_LOSS=false",
        "yes",
        "Files that were pruned count as lost.",
    )
    rules = Place(
        "<feed>/_chk/<sink>/rules",
        "Of silver and quarantine: the versions of the rules that judge, oldest first, a line of JSON each. See "
        "[below](#rules).",
        "flows/rules.py",
        "at the first start, and with new rules",
        "yes",
        "The rules up to now count as unknown ones.",
    )
    judged_before = Place(
        "<feed>/_chk/<sink>/judged_before",
        "Of versions up to 0.1: the newest batch of bronze that was judged before the newest rules. The first start of "
        "a newer one moves it to `rules`.",
        "flows/rules.py",
        "no more",
        "yes",
        "The audit takes every batch for judged by other rules, where `rules` does not say it.",
    )
    seen = Place(
        "<feed>/_chk/<sink>/seen/",
        "Of silver: `seen_<time>_<id>.npy`, a digest of each dedupe key and its clock, while a repeat is looked for.",
        "sinks/dedupe/",
        "each batch with rows",
        "yes",
        "Refused, if the query has run.",
    )
    undeclared = Place(
        "<feed>/_chk/<sink>/undeclared.json",
        "Of silver: fields that records have and nobody has declared, and the newest batch that is counted.",
        "flows/undeclared.py",
        "each batch with such records",
        "yes",
        "`make drift` counts from nothing again.",
    )
    leader_epochs = Place(
        "<feed>/_chk/<sink>/leader_epochs.json",
        "Of bronze: by batch and partition, the offset behind the last record and its leader epoch.",
        "admission/topic_epochs.py",
        "each batch",
        "no",
        "The next batch cannot notice that Kafka's log was cut.",
    )
    unread = Place(
        "<feed>/_chk/<sink>/unread.jsonl",
        "Of bronze: offsets that could not be read and were stepped over by choice.",
        "flows/unread.py",
        "a batch that steps over some",
        "yes",
        "The audit cannot tell them from offsets without a record.",
    )

    @property
    def late_name(self) -> str:
        """The folder of rows that came too late, and the prefix of its files."""
        return LATE if self.sink == _SINK_OF_LATE else f"{LATE}_{self.sink}"


PLACES = tuple(
    place for layout in reversed(Layout.__mro__) for place in vars(layout).values() if isinstance(place, Place)
)
"""All places, outermost first."""


def staging(folder: Path) -> Path:
    """Return where files wait that are not whole yet, hidden from the readers of the folder."""
    return folder / _STAGING


def merge_staging(folder: Path) -> Path:
    """Return where files of a folder of data files are merged."""
    return staging(folder) / "merge"
