"""A landing run over a broker that only notes what it is asked: its summary, its end, and a group that others use."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Message

from stream_app.landing import land as landing
from stream_app.landing.lines import read
from stream_app.landing.staged import Staged
from stream_app.landing.zone import Zone
from stream_app.sources.messages import OffsetRange
from tests.unit.conftest import Cli, Done

GROUP = "stream-app-land-t"


@dataclass
class Kafka:
    """One topic of two partitions, and what groups have committed of it."""

    logs: dict[int, list[int]] = field(default_factory=lambda: {0: [*range(10)], 1: [*range(5)]})
    """By partition, the offsets that have a record."""
    ends: dict[int, int] = field(default_factory=lambda: {0: 10, 1: 5})
    first: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    groups: dict[str, dict[int, int]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    before_read: Callable[[OffsetRange], object] = lambda _: None

    def topic(self, name: str) -> Any:
        return SimpleNamespace(name=name, id="id", partitions=tuple(self.ends))

    def group_members(self, *_: object) -> list[str]:
        return []  # a run assigns and never joins

    def stable_offsets(self, _: object) -> dict[int, int]:
        return dict(self.ends)

    def earliest_offsets(self, _: object) -> dict[int, int]:
        return dict(self.first)

    def group_offsets(self, group: str, _: object) -> dict[int, int]:
        return dict(self.groups.get(group, {}))

    def set_group_offsets(self, group: str, _: str, ends: Mapping[int, int]) -> None:
        self.events.append("commit")
        self.groups.setdefault(group, {}).update(ends)

    def close(self) -> None:
        """As a reader does."""

    def read(self, part: OffsetRange) -> Iterator[Sequence[Message]]:
        self.before_read(part)
        for offset in self.logs[part.partition]:
            if part.start <= offset < part.end:
                made: dict[str, Any] = {"topic": "t", "timestamp": (1, 5), "value": b"v"}
                yield [Message(partition=part.partition, offset=offset, **made)]

    def send(self, partition: int) -> None:
        self.logs[partition].append(self.ends[partition])
        self.ends[partition] += 1


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    made = Kafka()
    monkeypatch.setattr(landing, "Broker", lambda *_, **__: made)
    monkeypatch.setattr(landing, "PartitionReader", lambda *_: made)
    return made


@pytest.fixture
def land(cli: Cli, tmp_path: Path, kafka: Kafka) -> Callable[..., Done]:
    """Run the command with a landing zone of that name."""
    assert kafka

    def run(zone: str = "a", *options: str, **settings: str) -> Done:
        return cli(tmp_path, "land", "--topic=t", f"--landing={tmp_path / zone}", *options, **settings)

    return run


def offsets(folder: Path) -> list[tuple[int, int]]:
    """What a landing zone holds; a place that is there twice is there twice."""
    lines = (line for file in Zone(folder, "t").files() for lines in read(file) for line in lines)
    return [(line.partition, line.offset) for line in lines]


def summary(done: Done) -> dict[str, Any]:
    assert (done.code, done.err) == (0, "")
    found: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return found


def test_the_summary_tells_of_the_files_that_there_are(land: Callable[..., Done], kafka: Kafka, tmp_path: Path) -> None:
    kafka.groups[GROUP] = {0: 0, 1: 0}
    told = summary(land("a", "--max-records=12"))
    files = Zone(tmp_path / "a", "t").files()
    assert told == {
        "topic": "t",
        "group": GROUP,
        "records": 12,
        "files": len(files),
        "bytes": sum(file.path.stat().st_size for file in files),
        "offsets": {str(file.partition): [file.first, file.last] for file in files},
        "behind": 3,
        "skipped": 0,
    }
    assert told["offsets"] == {"0": [0, 9], "1": [0, 1]}
    assert summary(land())["offsets"] == {"1": [2, 4]}, "of this run, not of all"


def test_several_files_of_a_partition_are_one_range_in_the_summary(
    land: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Staged, "is_full", property(lambda staged: staged.records >= 4))
    told = summary(land())
    files = Zone(tmp_path / "a", "t").files()
    assert [(file.partition, file.first, file.last) for file in files] == [
        *((0, 0, 3), (0, 4, 7), (0, 8, 9)),
        *((1, 0, 3), (1, 4, 4)),
    ]
    assert (told["files"], told["offsets"]) == (5, {"0": [0, 9], "1": [0, 4]})
    assert told["bytes"] == sum(file.path.stat().st_size for file in files)


def test_a_run_ends_where_the_topic_ended_as_it_began(land: Callable[..., Done], kafka: Kafka, tmp_path: Path) -> None:
    def send(_: OffsetRange) -> None:
        kafka.send(0)
        kafka.send(1)

    kafka.before_read = send
    told = summary(land())
    assert (told["records"], told["behind"]) == (15, 0), "what was sent meanwhile is for the next run"
    assert offsets(tmp_path / "a") == [*((0, i) for i in range(10)), *((1, i) for i in range(5))]
    assert kafka.groups[GROUP] == {0: 10, 1: 5}
    kafka.before_read = lambda _: None
    assert summary(land())["offsets"] == {"0": [10, 11], "1": [5, 6]}


def test_a_file_is_flushed_before_its_name_and_its_name_before_the_commit(
    land: Callable[..., Done], kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the commit takes back neither bytes nor names: they are the only ones that there are."""
    flush, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        kafka.events.append(("folder " if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file ") + path.name)
        flush(descriptor)

    def renamed(source: Path, target: Path) -> Path:
        kafka.events.append(f"rename {source.name}")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    kafka.ends[1] = 0
    summary(land())
    (file,) = Zone(tmp_path / "a", "t").files()
    hour, day = file.path.parents[:2]
    assert kafka.events[kafka.events.index("file p0.jsonl.zst") :] == [
        *("file p0.jsonl.zst", "rename p0.jsonl.zst"),
        *(f"folder {hour.name}", f"folder {day.name}", "folder t"),  # whose names are new in it
        *("file ._groups.json.tmp", "folder t", "commit"),
    ]


def test_two_runs_of_one_group_into_two_landing_zones_never_take_the_group_back(
    land: Callable[..., Done], kafka: Kafka, tmp_path: Path
) -> None:
    """Which go on side by side: Kafka knows of neither as a member."""

    def begin_another(_: OffsetRange) -> None:
        kafka.before_read = lambda _: None
        others.append(land("b", "--max-records=12"))

    others: list[Done] = []
    kafka.before_read = begin_another
    done = land("a")
    assert summary(others[0])["offsets"] == {"0": [0, 9], "1": [0, 1]}
    problem = f"consumer group {GROUP} was moved to offset 10 by another program meanwhile"
    way = "stop that, or take another group by --group"
    assert done == Done(2, "", f"land: topic t, partition 0: {problem}; {way}\n")
    assert kafka.groups[GROUP] == {0: 10, 1: 2}
    assert offsets(tmp_path / "a") == [], "no file appears of records that the other has"
    assert summary(land("b"))["offsets"] == {"1": [2, 4]}, "the other one goes on"


@pytest.mark.parametrize("to", [3, 7])
def test_a_group_that_is_moved_by_hand_meanwhile_stays_where_it_was_moved_to(
    land: Callable[..., Done], kafka: Kafka, to: int
) -> None:
    kafka.groups[GROUP] = {0: 5}
    summary(land("a", "--max-records=1", FAIL_ON_DATA_LOSS="false"))
    kafka.before_read = lambda _: kafka.groups[GROUP].update({0: to})
    done = land()
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"was moved to offset {to} by another program meanwhile" in done.err
    assert kafka.groups[GROUP][0] == to


def test_a_group_of_another_landing_zone_is_refused_and_each_way_that_the_line_names_goes_on(
    land: Callable[..., Done], kafka: Kafka, tmp_path: Path
) -> None:
    kafka.first[0] = 2
    summary(land("a", "--max-records=6"))
    for _ in range(2):  # a refused run leaves nothing that lets the next one pass
        done = land("b")
        missed = f"partition 0, offsets 2 to 7: consumer group {GROUP} is behind them"
        way = "give the --landing that did, take another group by --group, or go on by FAIL_ON_DATA_LOSS=false"
        assert done == Done(2, "", f"land: topic t, {missed}, and {tmp_path}/b/t did not take them; {way}\n")
    assert offsets(tmp_path / "b") == []
    assert summary(land("c", "--group=own"))["records"] == 13
    rest = summary(land("b", FAIL_ON_DATA_LOSS="false"))
    assert (rest["records"], rest["skipped"]) == (7, 6)
    for partition in (0, 1):
        kafka.send(partition)
    assert summary(land("b"))["offsets"] == {"0": [10, 10], "1": [5, 5]}, "said once, it goes on without"
    assert land("a").code == 2, "which misses what the other has taken"


def test_a_group_that_was_positioned_by_hand_goes_on_where_that_is_said(
    land: Callable[..., Done], kafka: Kafka, tmp_path: Path
) -> None:
    kafka.groups[GROUP] = {0: 10, 1: 3}
    assert land().code == 2
    assert summary(land("a", FAIL_ON_DATA_LOSS="false"))["skipped"] == 13
    assert summary(land())["records"] == 0, "said once, also where nothing was new"
    assert offsets(tmp_path / "a") == [(1, 3), (1, 4)]


def test_files_may_be_gone_and_offsets_without_a_record_are_passed(
    land: Callable[..., Done], kafka: Kafka, tmp_path: Path
) -> None:
    kafka.logs[0], kafka.logs[1] = [1, 2, 5], []  # then a transaction's marker, or aborted records
    assert summary(land())["records"] == 3
    assert kafka.groups[GROUP] == {0: 10, 1: 5}
    assert summary(land())["records"] == 0
    for file in Zone(tmp_path / "a", "t").files():
        file.path.unlink()
    kafka.send(0)
    assert summary(land())["offsets"] == {"0": [10, 10]}
    (tmp_path / "a" / "t" / "_groups.json").write_text("[")
    done = land()
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "_groups.json: is damaged; delete it" in done.err


def test_a_landing_zone_of_before_has_files_and_no_notes_of_groups(
    land: Callable[..., Done], kafka: Kafka, tmp_path: Path
) -> None:
    """Offsets without a record ended it, as those of a transaction's end: its group is behind them, and right."""
    kafka.logs[0].remove(9)
    summary(land())
    (tmp_path / "a" / "t" / "_groups.json").unlink()
    kafka.send(0)
    assert summary(land())["offsets"] == {"0": [10, 10]}
    assert (tmp_path / "a" / "t" / "_groups.json").exists()
