"""Delete outputs with their checkpoints, so that they are made again; shown first, then done.

A reset takes along all that follows the sink: silver takes gold and raw_csv, bronze takes all. Silver and quarantine
take each other along where the rules were changed since they began (admission/rule_versions.py). Bronze reads Kafka
again from where it is told; the others begin at the first file of the layer before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b

from stream_app.admission import reset_journal, rule_versions
from stream_app.errors import ConfigError, StreamAppError, UnavailableError
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.kafka.connection import KafkaConnection
from stream_app.layers.kind import BRONZE
from stream_app.ops import archive
from stream_app.ops.archive import Archive
from stream_app.ops.status import status
from stream_app.sinks.protocol import sink_of
from stream_app.storage.batch_files import REPLAY, BatchFile, batch_files
from stream_app.storage.lock import LOOK_SECONDS, sole_user
from stream_app.storage.row_counts import count_rows

_BROKER_SECONDS = 2.0


@dataclass(frozen=True)
class Files:
    """How much some files hold."""

    files: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class SinkPlan:
    """What a reset deletes of one sink, and where it reads again."""

    name: str
    output: Files
    reads_from: str
    late: Files
    """Rows that came too late for it."""
    replayed: Files
    """Records that were replayed into it."""


@dataclass(frozen=True)
class ResetPlan:
    """What a reset would do."""

    finished: tuple[str, ...]
    """The sinks of resets that were cut short, which are finished by now."""
    sinks: tuple[SinkPlan, ...]
    """What goes, upstream first; nothing where it was only to finish those."""
    firsts: tuple[Flow, ...]
    """The flows that were asked for; the others follow them."""
    start: Mapping[str, str]
    """Where bronze reads Kafka again, as options of Spark's source."""
    archives: tuple[Archive, ...] = ()
    """What has bronze's pruned files, which are made again first, since something that goes reads them."""

    @property
    def token(self) -> str:
        """Name what goes: a plan that has the same deletes the same. Where Kafka's offsets are by now is no part."""
        goes = [(sink.name, sink.output, sink.late, sink.replayed) for sink in self.sinks]
        return blake2b(repr((goes, sorted(self.start.items()))).encode(), digest_size=16).hexdigest()


@contextmanager
def planned(
    flows: Sequence[Flow], kafka: KafkaConnection, starting_offsets: str, sink: str = "", to: str = ""
) -> Iterator[ResetPlan]:
    """Yield what a reset of that sink, else of bronze, would do; no service can start before the block ends.

    `to` is where bronze reads Kafka again: earliest, latest or an ISO time, which is in UTC where it names no zone;
    without it as STARTING_OFFSETS says.
    Resets that were cut short are finished first, and then nothing else is planned where neither is given.
    Raises ConfigError for a sink that no feed has, for another `to`, and while a service runs.
    """
    first = sink or BRONZE
    if first not in (known := [*dict.fromkeys(flow.sink for flow in flows)]):
        raise ConfigError(f'--sink: "{sink}" is none of {", ".join(known)}')
    start = _start(to, first)
    with sole_user(flows[0].root, LOOK_SECONDS):
        finished = tuple(f"{flow.feed.name}.{name}" for flow in flows for name in reset_journal.finish(flow))
        if finished and not sink and not to:
            yield ResetPlan(finished, (), (), start)
            return
        firsts = tuple(flow for flow in flows if flow.sink == first)
        chosen = [flow for one in firsts for flow in rule_versions.reset_with(one)]
        begins = _Begins(kafka, start, to or starting_offsets)
        archives = tuple(_archives(chosen))
        yield ResetPlan(finished, tuple(_sinks(chosen, begins, archives)), firsts, start, archives)


def apply(plan: ResetPlan) -> None:
    """Delete what was planned, inside of the block that yielded the plan. The next start reads again.

    Raises ConfigError, before anything is deleted, where the disk has no room for bronze's pruned files.
    """
    for one in plan.archives:
        one.bring_back()
    for first in plan.firsts:
        reset_journal.begin(first, dict(plan.start))
        reset_journal.finish(first)


def _start(to: str, sink: str) -> dict[str, str]:
    """Return it as options of Spark's Kafka source; {} leaves it to STARTING_OFFSETS."""
    if not to:
        return {}
    if sink != BRONZE:
        problem = f"--to: is for bronze, which reads Kafka; {sink} begins at the first file of the layer before it"
        raise ConfigError(problem)
    if to in {"earliest", "latest"}:
        return {"startingOffsets": to}
    try:
        time = datetime.fromisoformat(to)
    except ValueError:
        problem = f'--to: "{to}" is neither earliest, latest nor an ISO time such as 2026-11-21T08:00:00Z'
        raise ConfigError(problem) from None
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return {
        "startingTimestamp": str(int(aware.timestamp() * 1000)),
        "startingOffsetsByTimestampStrategy": "latest",
    }


@dataclass(frozen=True)
class _Begins:
    """Where bronze reads Kafka again."""

    kafka: KafkaConnection
    start: Mapping[str, str]
    at: str
    """earliest, latest or a time, as people write it."""
    _away: list[str] = field(default_factory=list)
    """What was said of brokers that did not answer: they are not asked again for the next feed."""

    def offsets(self, bronze: Flow) -> str:
        """Return the first offset of each partition, where a broker can tell."""
        if self._away:
            return self._away[0]
        try:
            broker = Broker(self.kafka, _BROKER_SECONDS)
            topic = broker.topic(bronze.feed.topic)
            if "startingTimestamp" in self.start:
                offsets = broker.offsets_at(topic, int(self.start["startingTimestamp"]))
            else:
                offsets = broker.stable_offsets(topic) if self.at == "latest" else broker.earliest_offsets(topic)
        except UnavailableError:
            asked = f"no broker at {self.kafka.bootstrap_servers} has told the offsets within {_BROKER_SECONDS:g} s"
            self._away.append(asked)
            return asked
        except StreamAppError as error:
            return str(error)
        return "partition:offset " + " ".join(f"{partition}:{offset}" for partition, offset in offsets.items())


def _archives(chosen: Sequence[Flow]) -> Iterator[Archive]:
    """Yield what has pruned files of bronze that one of those flows is to read again."""
    for bronze in dict.fromkeys(flow.upstream for flow in chosen if flow.upstream and flow.upstream.upstream is None):
        if bronze not in chosen and (found := archive.of(bronze, bronze.files())):
            yield found


def _sinks(chosen: Sequence[Flow], begins: _Begins, archives: Sequence[Archive]) -> Iterator[SinkPlan]:
    for flow in chosen:
        sink_of(flow).holding(flow)  # before anything is deleted: a store that is away could not be emptied
    for row, flow in zip(status(chosen[0].root, chosen).sinks, chosen, strict=True):
        late = batch_files(flow.layout.late, flow.layout.late_name) if flow.stateful else []
        replayed = batch_files(flow.layout.replay, REPLAY) if flow.is_own and flow.kind.takes_replayed else []
        output = Files(row.files, row.rows, row.bytes)
        yield SinkPlan(flow.name, output, _reads_from(flow, begins, archives), _held(late), _held(replayed))


def _held(files: Sequence[BatchFile]) -> Files:
    return Files(
        len(files), sum(count_rows(file.path) for file in files), sum(file.path.stat().st_size for file in files)
    )


def _reads_from(flow: Flow, begins: _Begins, archives: Sequence[Archive]) -> str:
    if flow.upstream is None:
        return f"topic {flow.feed.topic}, {begins.at} ({begins.offsets(flow)})"
    files, name = flow.upstream.files(), flow.upstream.name
    for one in (one for one in archives if one.flow.upstream == flow.upstream):
        made = f"{len(one.files):,} files made again from {one.place}"
        return f"{name}, batch {one.files[0].file.first} ({made}, {len(files):,} files)"
    return f"{name}, batch {files[0].first if files else 0} ({len(files):,} files)"
