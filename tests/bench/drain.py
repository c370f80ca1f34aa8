"""Throughput: each contender drains the topic into a folder of its own, one after the other, round after round.

What is measured of each drain:

- seconds: from the log line `started`, written when the Spark session is up (for the limit: when its modules are
  imported), to the moment at which the last of its files became visible (the change time of a renamed file).
- records/s cold: the topic's records by those seconds.
- records/s warm: without first batches, which find the JVM cold. The time in which any sink's first batch was running
  is left out, and so is the work that was done meanwhile; a sink's batch is taken to proceed evenly, and each sink's
  records count alike. A batch is known by the log line at its end: `transactions.<sink> batch= rows_in= seconds=`.
- CPU-seconds and peak memory: of the whole tree of processes, from its start to its end (meter.py).
- bytes and files: of the five outputs, as a reader sees them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.bench.contenders import Start, Topic, baseline, files, limit, service
from tests.bench.meter import Usage, measured

CONTENDERS: tuple[Callable[[Topic, Path], Start], ...] = (service, baseline, limit)

_LINE = re.compile(r"(?P<time>[\d-]+T[\d:.]+Z) INFO (?P<event>started\b|transactions\.\w+)(?P<fields>.*)")
_FIELD = re.compile(r" (batch|rows_in|seconds)=([\d.]+)")

Interval = tuple[float, float]


@dataclass(frozen=True)
class Drain:
    """The figures of one drain."""

    contender: str
    seconds: float
    records_per_second: float
    warm_records_per_second: float | None
    """None where no sink had a second batch."""
    cpu_seconds: float
    cpu_seconds_per_million: float
    peak_memory_bytes: int
    output_bytes: int
    files: int
    start_seconds: float
    """From the start of the process to the first moment that counts."""
    process_seconds: float
    """From the start of the process to its end."""
    batches: dict[str, list[float]]
    """The seconds of each batch, by sink."""


@dataclass(frozen=True)
class Batch:
    """One batch of one sink, by its log line."""

    sink: str
    number: int
    rows: int
    begin: float
    end: float


def drained(contender: Callable[[Topic, Path], Start], topic: Topic, folder: Path) -> Drain:
    """Run a contender to its end; its outputs are in `folder / "output"`."""
    folder.mkdir(parents=True)
    start = contender(topic, folder / "output")
    log = folder / f"{start.name}.log"
    usage = measured(start.command, start.environment, log)
    text = log.read_text(errors="replace")
    if usage.exit_code:
        problem = f"{start.name}: exit {usage.exit_code}\n{text[-4000:]}"
        raise RuntimeError(problem)
    return _figures(
        start.name, topic, usage, text, [path for paths in files(folder / "output").values() for path in paths]
    )


def _figures(name: str, topic: Topic, usage: Usage, log: str, outputs: Sequence[Path]) -> Drain:
    started, batches = parse(log)
    ended = max(path.stat().st_ctime for path in outputs)
    share, seconds = warm(batches, (started, ended))
    sinks: dict[str, list[float]] = {}
    for batch in batches:
        sinks.setdefault(batch.sink, []).append(round(batch.end - batch.begin, 3))
    return Drain(
        contender=name,
        seconds=round(ended - started, 3),
        records_per_second=round(topic.records / (ended - started), 1),
        warm_records_per_second=round(topic.records * share / seconds, 1) if share else None,
        cpu_seconds=usage.cpu_seconds,
        cpu_seconds_per_million=round(usage.cpu_seconds / topic.records * 1e6, 2),
        peak_memory_bytes=usage.peak_bytes,
        output_bytes=sum(path.stat().st_size for path in outputs),
        files=len(outputs),
        start_seconds=round(started - usage.began, 3),
        process_seconds=round(usage.ended - usage.began, 3),
        batches=sinks,
    )


def parse(log: str) -> tuple[float, list[Batch]]:
    """When the contender was up, and its batches, each once."""
    started: float | None = None
    batches: dict[tuple[str, int], Batch] = {}
    for line in _LINE.finditer(log):
        end = datetime.fromisoformat(line["time"]).timestamp()
        if line["event"] == "started":
            started = end
            continue
        fields = dict(_FIELD.findall(line["fields"]))
        if fields.keys() == {"batch", "rows_in", "seconds"}:
            sink, number = line["event"].partition(".")[2], int(fields["batch"])
            batch = Batch(sink, number, int(fields["rows_in"]), end - float(fields["seconds"]), end)
            batches.setdefault((sink, number), batch)
    if started is None:
        problem = f"no line says that it started\n{log[-4000:]}"
        raise RuntimeError(problem)
    return started, list(batches.values())


def warm(batches: Sequence[Batch], whole: Interval) -> tuple[float, float]:
    """The share of all work that was done while no first batch was running, and the seconds of that time."""
    first: dict[str, int] = {}
    for batch in batches:
        first[batch.sink] = min(batch.number, first.get(batch.sink, batch.number))
    cold = _union((batch.begin, batch.end) for batch in batches if batch.number == first[batch.sink])
    done = sum(batch.rows * (1 - _within((batch.begin, batch.end), cold)) for batch in batches)
    seconds = (whole[1] - whole[0]) * (1 - _within(whole, cold))
    return done / sum(batch.rows for batch in batches), seconds


def _union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time as intervals that do not overlap, in order."""
    joined: list[Interval] = []
    for begin, end in sorted(intervals):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _within(interval: Interval, others: Iterable[Interval]) -> float:
    """The part of the interval, from 0 to 1, that lies in the others."""
    begin, end = interval
    inside = sum(max(0.0, min(end, other[1]) - max(begin, other[0])) for other in others)
    return inside / (end - begin) if end > begin else 1.0
