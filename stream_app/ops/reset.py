"""make reset [FEED=] [SINK=] [TO=earliest|latest|<ISO time>] [YES=1] - begin a sink anew, and all that follows it.

Shows what will be deleted and what will be read again, asks, then removes the checkpoints with their outputs: silver
takes gold and raw_csv along, bronze takes all; silver and quarantine take each other along where the rules were changed
since they began (stream_app/rules.py). TO says where bronze reads Kafka from; the others begin at the first
file of the layer before. Refuses while the service runs. A reset that was cut short is finished by the next one.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from stream_app import restart, rules
from stream_app.errors import ConfigError
from stream_app.flow import Flow, Layer
from stream_app.lock import sole_user
from stream_app.ops.command import flag, option, run
from stream_app.ops.status import statuses
from stream_app.settings import Settings


def reset(settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Preview, ask, delete; 1 where the answer is no."""
    sink = option("SINK", *dict.fromkeys(flow.sink for flow in flows)) or Layer.BRONZE
    start = _start(option("TO"), sink)
    with sole_user(settings.output_path, patience_seconds=0):
        for flow in flows:
            restart.finish(flow.feed, settings.output_path)
        chosen = [flow for first in flows if first.sink == sink for flow in rules.begun_anew_with(first)]
        _preview(settings, chosen, start)
        if not flag("YES") and not _agreed():
            print("nothing was changed")
            return 1
        for first in chosen:
            if first.sink == sink:
                restart.begin(first, start)
                restart.finish(first.feed, settings.output_path)
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
        table.add_row(
            flow.name,
            f"{row.files:,}",
            f"{row.rows:,}",
            f"{row.bytes / 1e6:,.2f}",
            _reads_from(settings, flow, start),
        )
    Console().print(table)


def _reads_from(settings: Settings, flow: Flow, start: dict[str, str]) -> str:
    if flow.upstream is None:
        where = start.get("startingOffsets") or option("TO") or settings.starting_offsets
        return f"topic {flow.feed.topic}, {where}"
    files = flow.upstream.files()
    return f"{flow.upstream.name}, {len(files):,} files" if files else f"{flow.upstream.name}, from its first file"


def _agreed() -> bool:
    if not sys.stdin.isatty():
        problem = "YES: there is no terminal to ask at; add YES=1 to go ahead"
        raise ConfigError(problem)
    return input("delete them? [y/N] ").strip().lower() in {"y", "yes"}


if __name__ == "__main__":
    run("reset", reset)
