"""make reset [FEED=] [SINK=] [TO=earliest|latest|<ISO time>] [YES=1] - begin a sink anew, and all that follows it.

Shows what will be deleted and what will be read again, asks, then removes the checkpoints with their outputs: silver
takes gold and raw_csv along, bronze takes all; silver and quarantine take each other along where the rules were changed
since they began (admission/rule_versions.py). TO says where bronze reads Kafka from; the others begin at the first
file of the layer before. Refuses while the service runs. A reset that was cut short is finished by the next one, which
does nothing else where neither SINK nor TO is given.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from stream_app.admission import reset_journal, rule_versions
from stream_app.errors import ConfigError, StreamAppError
from stream_app.flows.flow import Flow, Layer
from stream_app.kafka.broker import Broker
from stream_app.ops.command import flag, option, run
from stream_app.ops.status import statuses
from stream_app.settings import Settings
from stream_app.storage.batch_files import REPLAY, batch_files
from stream_app.storage.lock import sole_user
from stream_app.storage.row_counts import count_rows

_BROKER_SECONDS = 5.0


def reset(settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Preview, ask, delete; 1 where the answer is no."""
    sink = option("SINK", *dict.fromkeys(flow.sink for flow in flows)) or Layer.BRONZE
    start = _start(option("TO"), sink)
    with sole_user(settings.output_path, patience_seconds=0):
        finished = [f"{flow.feed.name}.{name}" for flow in flows for name in reset_journal.finish(flow.feed, flow.root)]
        if finished:
            print(f"finished the reset that was cut short: {', '.join(finished)} begin anew with the next start")
            if not option("SINK") and not option("TO"):
                return 0
        chosen = [flow for first in flows if first.sink == sink for flow in rule_versions.begun_anew_with(first)]
        _preview(settings, chosen, start)
        if not flag("YES") and not _agreed():
            print("nothing was changed")
            return 1
        for first in chosen:
            if first.sink == sink:
                reset_journal.begin(first, start)
                reset_journal.finish(first.feed, settings.output_path)
    print(f"done: {', '.join(flow.name for flow in chosen)} begin anew with the next start")
    return 0


def _start(to: str, sink: str) -> dict[str, str]:
    """TO as options of Spark's Kafka source; {} leaves it to STARTING_OFFSETS."""
    if not to:
        return {}
    if sink != Layer.BRONZE:
        problem = f"TO: is for bronze, which reads Kafka; {sink} begins at the first file of the layer before it"
        raise ConfigError(problem)
    if to in {"earliest", "latest"}:
        return {"startingOffsets": to}
    try:
        time = datetime.fromisoformat(to)
    except ValueError:
        problem = f'TO: "{to}" is neither earliest, latest nor an ISO time such as 2026-11-21T08:00:00Z'
        raise ConfigError(problem) from None
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return {
        "startingTimestamp": str(int(aware.timestamp() * 1000)),
        "startingOffsetsByTimestampStrategy": "latest",
    }


def _preview(settings: Settings, chosen: list[Flow], start: dict[str, str]) -> None:
    table = Table(title="will be deleted", title_justify="left")
    for column in ("sink", "files", "rows", "MB", "then reads again from"):
        table.add_column(column, justify="left" if column in {"sink", "then reads again from"} else "right")
    for row, flow in zip(statuses(settings.output_path, chosen), chosen, strict=True):
        size = f"{row.bytes / 1e6:,.2f}"
        table.add_row(flow.name, f"{row.files:,}", f"{row.rows:,}", size, _reads_from(settings, flow, start))
        late = batch_files(flow.layout.late, flow.layout.late_name) if flow.drops_late else []
        replayed = batch_files(flow.layout.replay, REPLAY) if flow.layer is Layer.SILVER else []
        for what, files in (("rows that came too late", late), ("replayed records", replayed)):
            if files:
                rows, total = sum(count_rows(f.path) for f in files), sum(f.path.stat().st_size for f in files)
                table.add_row(f"  its {what}", f"{len(files):,}", f"{rows:,}", f"{total / 1e6:,.2f}", "")
    Console().print(table)


def _reads_from(settings: Settings, flow: Flow, start: dict[str, str]) -> str:
    if flow.upstream is None:
        where = start.get("startingOffsets") or option("TO") or settings.starting_offsets
        return f"topic {flow.feed.topic}, {where} ({_first_offsets(settings, flow, start)})"
    files = flow.upstream.files()
    return f"{flow.upstream.name}, batch {files[0].first if files else 0} ({len(files):,} files)"


def _first_offsets(settings: Settings, bronze: Flow, start: dict[str, str]) -> str:
    try:
        broker = Broker(settings.kafka, _BROKER_SECONDS)
        topic = broker.topic(bronze.feed.topic)
        if "startingTimestamp" in start:
            offsets = broker.offsets_at(topic, int(start["startingTimestamp"]))
        elif (start.get("startingOffsets") or settings.starting_offsets) == "latest":
            offsets = broker.stable_offsets(topic)
        else:
            offsets = broker.earliest_offsets(topic)
    except StreamAppError:
        return "no broker answers that could tell the offsets"
    return "partition:offset " + " ".join(f"{partition}:{offset}" for partition, offset in offsets.items())


def _agreed() -> bool:
    if not sys.stdin.isatty():
        problem = "YES: there is no terminal to ask at; add YES=1 to go ahead"
        raise ConfigError(problem)
    return input("delete them? [y/N] ").strip().lower() in {"y", "yes"}


if __name__ == "__main__":
    run("reset", reset)
