"""A bounded consumer: it takes what a topic holds as it begins, for so many seconds, into files of the landing zone.

A file is staged, flushed and renamed, and only then does the consumer group commit its offsets. The file's name says
which these are. So a run that died between the two is continued by the names, and nothing is landed twice or lost.

A run assigns partitions and is no member of its group, so Kafka keeps no other run of the group away. A group that was
moved by somebody else is looked for instead: at the start, before a file gets its name, and before each commit.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from stream_app.errors import ConfigError, StreamAppError, no_room_is_expected
from stream_app.failpoints import reach_without_jvm
from stream_app.flows.unread import Unread
from stream_app.kafka.broker import Broker
from stream_app.kafka.client import client_config, group
from stream_app.kafka.topic import Topic
from stream_app.landing.staged import Staged
from stream_app.landing.zone import Zone, behind
from stream_app.settings import Settings
from stream_app.sources.messages import OffsetRange
from stream_app.sources.topic_partition import PartitionReader
from stream_app.storage.lock import sole_run

SETTING = "LANDING_PATH"
# While leaders move.
_BROKER_PATIENCE_SECONDS = 10.0
FILE_RECORDS = 100_000
"""The most records of a file."""

Progress = Callable[[int, int], None]
"""Is told how many offsets are read, and how many there are."""


@dataclass(frozen=True)
class Request:
    """What to land."""

    topic: str
    seconds: float
    """How long to read at most."""
    max_records: int = 0
    """How many records to take at most; 0 for all."""
    group: str = ""
    """The consumer group; empty for the topic's own."""


@dataclass
class Landed:
    """What a run has landed."""

    topic: str
    group: str
    records: int = 0
    files: int = 0
    bytes: int = 0
    """Of the files."""
    offsets: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By partition: the first and the last that this run has landed."""
    behind: int = 0
    """How many offsets of the topic, as it was when the run began, are left for the next one."""
    skipped: int = 0
    """How many offsets cannot be read, or expired before they were landed, with FAIL_ON_DATA_LOSS=false."""


def land(settings: Settings, request: Request, progress: Progress = lambda *_: None) -> Landed:
    """Land a topic. Files that were renamed before an error are landed, and the next run goes on behind them.

    Raises ConfigError where there is no such topic, the folder is of another topic, or others use the group, too: a
    member, a run with another landing zone, or whoever else moved its offsets. Raises StreamAppError where another run
    is at it, records are lost and FAIL_ON_DATA_LOSS is not false, the disk is full, or no broker answers.
    """
    broker = Broker(settings.kafka, patience_seconds=_BROKER_PATIENCE_SECONDS, named_by="--topic")
    topic = broker.topic(request.topic)
    zone = Zone(settings.landing_path, topic.name)
    with no_room_is_expected(zone.root, SETTING), sole_run(zone.folder, SETTING):
        zone.claim(topic.id)
        shutil.rmtree(zone.staging, ignore_errors=True)
        return _Run(settings, request, zone, progress, broker, topic).land()


class _Run:
    """One run, alone on its topic's folder."""

    def __init__(
        self, settings: Settings, request: Request, zone: Zone, progress: Progress, broker: Broker, topic: Topic
    ) -> None:
        self._request = request
        self._zone = zone
        self._progress = progress
        self._broker = broker
        self._topic = topic
        self._may_skip = not settings.fail_on_data_loss
        self._landed = Landed(zone.topic, request.group or group(f"land-{zone.topic}"))
        own = {"group.id": self._landed.group, "isolation.level": settings.kafka_isolation_level}
        self._config: dict[str, object] = {**client_config(settings.kafka), **own}
        self._at: dict[int, int] = {}
        """Where each partition goes on."""
        self._ends: dict[int, int] = {}
        """Where the topic ended as the run began."""
        self._committed: dict[int, int] = {}
        """What the group has committed, as far as this run knows."""

    def land(self) -> Landed:
        """Take what there is, until the time is up."""
        broker, topic = self._broker, self._topic
        self._refuse_others(broker.group_members(self._landed.group, topic))
        self._ends = broker.stable_offsets(topic)
        landed_ms = time.time_ns() // 1_000_000
        self._committed = broker.group_offsets(self._landed.group, topic)
        self._start(broker.earliest_offsets(topic))
        self._zone.note_passed(self._landed.group, self._at)
        if behind_files := {p: at for p, at in self._at.items() if self._committed.get(p, at) < at}:
            self._commit(behind_files)  # of a run that died before it did so
        total, deadline = self._behind, time.monotonic() + self._request.seconds
        with closing(PartitionReader(topic.name, self._config, self._lose, self._diverge)) as reader:
            for part in turns(self._at, self._ends):
                self._progress(total - self._behind, total)
                if time.monotonic() >= deadline or self._room == 0:
                    break
                self._take(reader, part, landed_ms, deadline)
        self._progress(total - self._behind, total)
        self._landed.behind = self._behind
        return self._landed

    @property
    def _behind(self) -> int:
        return sum(self._ends[partition] - at for partition, at in self._at.items())

    @property
    def _room(self) -> float:
        """How many more records may be landed."""
        most = self._request.max_records
        return most - self._landed.records if most else math.inf

    def _refuse_others(self, members: Sequence[str]) -> None:
        if members:
            problem = f"consumer group {self._landed.group} is in use by {members[0]}; stop that first"
            raise ConfigError(f"{problem}, or take another group by --group")

    def _refuse_moved(self) -> None:
        """Refuse to go on where somebody else has changed what the group has committed, since we knew it."""
        group = self._landed.group
        for partition, at in self._broker.group_offsets(group, self._topic).items():
            if at != self._committed.get(partition):
                problem = f"consumer group {group} was moved to offset {at} by another program meanwhile"
                place = f"topic {self._zone.topic}, partition {partition}"
                raise ConfigError(f"{place}: {problem}; stop that, or take another group by --group")

    def _start(self, earliest: Mapping[int, int]) -> None:
        held, passed = behind(self._zone.files()), self._zone.passed(self._landed.group)
        is_noted = self._zone.about_groups.exists() or not held  # a zone of before has files, and no notes
        for partition, end in self._ends.items():
            first, committed = earliest[partition], self._committed.get(partition, -1)
            at = max(committed, held.get(partition, -1))
            if at > end:
                problem = f"was landed up to offset {at - 1}, and ends at {end}: its log was cut"
                raise StreamAppError(f"topic {self._zone.topic}, partition {partition}: {problem}")
            if 0 <= at < first:
                self._lose(Unread(partition, at, first, "expired before they were landed"))
            known = max(held.get(partition, 0), passed.get(partition, 0), first)
            if is_noted and known < committed:
                self._miss(Unread(partition, known, committed, f"consumer group {self._landed.group} is behind them"))
            self._at[partition] = max(at, first)

    def _take(self, reader: PartitionReader, part: OffsetRange, landed_ms: int, deadline: float) -> None:
        """Land a range of a partition, up to the deadline."""
        staged = Staged(self._zone, landed_ms, part.partition)
        for came in reader.read(part):
            room = self._room - staged.records
            staged.write(came if len(came) < room else came[: int(room)])
            if time.monotonic() >= deadline or len(came) >= room:
                self._publish(staged)
                return
            if staged.is_full:
                self._publish(staged)
                staged = Staged(self._zone, landed_ms, part.partition)
        self._publish(staged, part.end)

    def _publish(self, staged: Staged, end: int = 0) -> None:
        """Give the file its name, then commit where the partition goes on: behind its last record, or at `end`."""
        landed, flow, partition = self._landed, f"land.{self._zone.topic}", staged.partition
        if (file := staged.finish()) is not None:
            reach_without_jvm(flow, "staged")
            self._refuse_moved()  # while nobody sees the file
            staged.rename(file)
            reach_without_jvm(flow, "renamed")
            first, _ = landed.offsets.get(partition, (file.first, file.last))
            landed.offsets[partition] = first, file.last
            landed.files, landed.records = landed.files + 1, landed.records + staged.records
            landed.bytes += file.path.stat().st_size
            end = end or file.last + 1
        self._commit({partition: end})
        reach_without_jvm(flow, "committed")
        self._at[partition] = end

    def _commit(self, ends: Mapping[int, int]) -> None:
        """Commit where partitions go on; the landing zone knows of it first."""
        self._refuse_moved()
        self._zone.note_passed(self._landed.group, ends)
        self._broker.set_group_offsets(self._landed.group, self._topic.name, ends)
        self._committed.update(ends)

    def _miss(self, missed: Unread) -> None:
        """Tell of records that the group has taken, and not into this landing zone."""
        if not self._may_skip:
            problem = f"topic {self._zone.topic}, {missed}, and {self._zone.folder} did not take them"
            way = "give the --landing that did, take another group by --group, or go on by FAIL_ON_DATA_LOSS=false"
            raise ConfigError(f"{problem}; {way}")
        self._landed.skipped += missed.offsets

    def _lose(self, lost: Unread) -> None:
        if not self._may_skip:
            problem = f"topic {self._zone.topic}, {lost}; go on without it by FAIL_ON_DATA_LOSS=false"
            raise StreamAppError(problem)
        self._landed.skipped += lost.offsets

    def _diverge(self, part: OffsetRange, diverged: int) -> None:
        problem = f"topic {self._zone.topic}, partition {part.partition}: its log was cut at offset {diverged}"
        raise StreamAppError(problem)


def turns(starts: Mapping[int, int], ends: Mapping[int, int], most: int = FILE_RECORDS) -> Iterator[OffsetRange]:
    """Yield what is to be read, at most so many offsets of each partition in turn: none waits for another to end."""
    at = dict(starts)
    while left := [partition for partition in sorted(at) if at[partition] < ends[partition]]:
        for partition in left:
            start, at[partition] = at[partition], min(at[partition] + most, ends[partition])
            yield OffsetRange(partition, start, at[partition])
