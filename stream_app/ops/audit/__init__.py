"""Every output is reconciled with bronze, from the files alone.

Every record of bronze is judged again by the contract's definition. It is exactly silver's row of its place, exactly
quarantine's with every reason, or repeats a row that silver kept. CSV files, lakes and tables of rows equal silver row
by row. Windows, sessions and totals are computed again. Rows that are kept as late do not count in them, and must be
silver's and late indeed. What a layer has not taken yet is counted as pending, and is no loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stream_app.errors import ConfigError, StreamAppError
from stream_app.flows.flow import Flow
from stream_app.layers.kind import BRONZE
from stream_app.ops.audit.copies import Copies
from stream_app.ops.audit.report import AuditReport, Check, Report, Verdict
from stream_app.ops.audit.state import State
from stream_app.ops.audit.steps import Audit
from stream_app.ops.views import FilesChangedError, OpenFiles
from stream_app.settings import Servers
from stream_app.storage.layout import Layout

__all__ = ["AuditReport", "Check", "Report", "Verdict", "audit", "beside", "reconcile"]

_ATTEMPTS = 5
Progress = Callable[[str, int, int], None]
"""Is told the feed, how many records of bronze are judged, and how many there are."""


def _in_silence(*_: object) -> None:
    pass


def audit(
    flows: Sequence[Flow], servers: Servers, max_files: int, sink: str = "", progress: Progress = _in_silence
) -> AuditReport:
    """Audit each feed of those flows; with `sink` only that, and what it is made of: bronze, silver and quarantine.

    `max_files` is MAX_FILES_PER_SINK: late rows in fewer files were never pruned.
    Raises ConfigError where OUTPUT_PATH holds nothing of a feed: then there is nothing that could be right.
    """
    feeds = [flow for flow in flows if flow.upstream is None]
    for bronze in feeds:
        _check_output(bronze)
    return AuditReport([reconcile(bronze, servers, max_files, sink, progress) for bronze in feeds])


def reconcile(
    bronze: Flow, servers: Servers, max_files: int, sink: str = "", progress: Progress = _in_silence
) -> Report:
    """Audit the feed of that bronze flow up to that sink, or to all, beside a running service, too.

    Retention may take a file away while they are looked up: then it begins again. Once they are open, it may do so.
    """
    changed: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            with OpenFiles() as files:
                asked = (flow for flow in bronze.with_downstream() if sink in {"", flow.sink})
                copies = Copies.of_totals(asked, servers)
                return Audit(State(bronze, files, sink, copies.taken), copies, max_files, progress).report()
        except (FilesChangedError, FileNotFoundError) as error:
            changed = error
    problem = (
        f"the files of {bronze.feed.name} changed {_ATTEMPTS} times while they were looked up; try again. "
        f"If no service runs, its start says what to type ({changed})"
    )
    raise StreamAppError(problem)


def beside(flows: Sequence[Flow]) -> list[str]:
    """Return the feeds that are in the same OUTPUT_PATH, and of which none of those flows is."""
    root, own = flows[0].root, {flow.feed.name for flow in flows}
    there = sorted(path.name for path in root.iterdir() if path.name not in own)
    return [feed for feed in there if Layout(root, feed, BRONZE).checkpoint.is_dir()]


def _check_output(bronze: Flow) -> None:
    root = bronze.root
    if not root.is_dir():
        raise ConfigError(f"OUTPUT_PATH: there is no folder {root}")
    if not any(flow.layout.output.exists() or flow.checkpoint.path.exists() for flow in bronze.with_downstream()):
        raise ConfigError(f"OUTPUT_PATH: {root} holds nothing of {bronze.feed.name}, so there is nothing to audit")
