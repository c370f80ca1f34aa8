"""make status [FEED=] [FORMAT=json] - a row a sink: state, restarts, last batch, rows, lag, newest file, last error.

From the files and from what the service last wrote of itself, so it works beside a running service, in Docker or
not, and after it has stopped. FORMAT=json prints the same as JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from stream_app.flows.flow import Flow
from stream_app.observe import status_file
from stream_app.observe.monitor import State
from stream_app.ops.command import option, run
from stream_app.plain import plain
from stream_app.settings import Settings
from stream_app.storage import lock
from stream_app.storage.row_counts import count_rows

# Where the output is no terminal, or a narrow one, lines are longer rather than names folded.
_NARROWEST = 150


@dataclass(frozen=True)
class SinkStatus:
    """A row of the table. Ages are in seconds; None where there is nothing to tell the age of."""

    feed: str
    sink: str
    state: str
    restarts: int
    last_batch: int | None
    last_batch_age: float | None
    files: int
    rows: int
    bytes: int
    behind: int | None
    refused: int
    newest_file: str | None
    newest_file_age: float | None
    last_error: str
    held: int | None = None
    """Records of the topic that wait for open transactions."""


def statuses(root: Path, flows: Sequence[Flow]) -> list[SinkStatus]:
    """The status of every flow, from the files under `root` and the service's last word."""
    snap = status_file.read(root)
    running = lock.is_held(root)
    return [_status(flow, snap["flows"].get(flow.name, {}), running) for flow in flows]


def table(root: Path, flows: Sequence[Flow]) -> RenderableType:
    """The statuses as a table for people, and under it what went wrong last."""
    result = Table(title=foreign(root), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("sink", "state", "restarts", "batch", "age", "files", "rows", "MB", "behind", "newest file", "age"):
        text = column in {"sink", "state", "newest file"}
        result.add_column(column, justify="left" if text else "right", overflow="fold" if text else "ellipsis")
    rows = statuses(root, flows)
    for row in rows:
        result.add_row(
            f"{row.feed}.{row.sink}",
            foreign(row.state),
            str(row.restarts),
            _show(row.last_batch),
            _age(row.last_batch_age),
            f"{row.files:,}",
            f"{row.rows:,}",
            f"{row.bytes / 1e6:,.2f}",
            _show(row.behind),
            _show(row.newest_file),
            _age(row.newest_file_age),
        )
    held = [f"{row.feed}.{row.sink}: {row.held:,} records wait for open transactions" for row in rows if row.held]
    errors = [foreign(f"{row.feed}.{row.sink}: {row.last_error}") for row in rows if row.last_error]
    told = "{}.{}: its topic refused {:,} records since the start, see the log"
    refused = [foreign(told.format(row.feed, row.sink, row.refused)) for row in rows if row.refused]
    return Group(result, *held, *errors, *refused)


def foreign(text: object) -> Text:
    """Text that others wrote, as it is: brackets in it are no markup."""
    return Text(plain(text))


def status(settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Print them."""
    if option("FORMAT", "json", "table") == "json":
        print(json.dumps([asdict(row) for row in statuses(settings.output_path, flows)], indent=1))
    else:
        Console(width=max(Console().width, _NARROWEST)).print(table(settings.output_path, flows))
    return 0


def _status(flow: Flow, told: dict[str, object], running: bool) -> SinkStatus:
    files = [(file, size) for file in flow.files() if (size := _size(file.path)) is not None]
    newest = max(files, default=None, key=lambda pair: pair[0].last)
    committed = flow.checkpoint.last_committed()
    now = time.time()
    behind = _records_behind(flow, told, running)
    return SinkStatus(
        feed=flow.feed.name,
        sink=flow.sink,
        state=_state(told, running),
        restarts=int(str(told.get("restarts", 0))),
        last_batch=committed.batch_id if committed else None,
        last_batch_age=round(now - committed.time_ms / 1000, 1) if committed else None,
        files=len(files),
        rows=sum(_rows(file.path) for file, _ in files),
        bytes=sum(size for _, size in files),
        behind=behind,
        refused=int(str(told.get("refused", 0))),
        newest_file=newest[0].path.name if newest else None,
        newest_file_age=round(now - newest[0].path.stat().st_mtime, 1) if newest else None,
        last_error=str(told.get("last_error", "")),
        held=_held(told) if running and flow.upstream is None else None,
    )


def _state(told: dict[str, object], running: bool) -> str:
    last = str(told.get("state", "unknown"))
    if running:
        return last
    # a service that ends in order says so last
    ended: dict[str, str] = {State.FAILED: "failed", State.RUNNING: "killed", State.RESTARTING: "killed"}
    return ended.get(last, "stopped")


def _records_behind(flow: Flow, told: dict[str, object], running: bool) -> int | None:
    """The rows of the layer before that are not taken; of the topic what the running service says, else unknown."""
    if flow.upstream:
        return sum(_rows(file.path) for file in flow.untaken())
    behind = told.get("behind") if running else None
    return behind if isinstance(behind, int) else None


def _held(told: dict[str, object]) -> int | None:
    held = told.get("held")
    return held if isinstance(held, int) else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # retention took it a moment ago
        return None


def _rows(path: Path) -> int:
    """The file's rows; none of one that cannot be read, as the audit will say of it."""
    try:
        return count_rows(path)
    except (OSError, pa.ArrowInvalid, duckdb.Error):
        return 0


def _show(value: object) -> str:
    return "-" if value is None else str(value)


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    run("status", status)
