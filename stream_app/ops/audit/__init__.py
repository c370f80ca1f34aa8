"""make audit: every output is reconciled with bronze, from the files alone (__main__.py says what that means)."""

from __future__ import annotations

from contextlib import ExitStack

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stream_app.errors import ConfigError, StreamAppError
from stream_app.flows.flow import Flow, Layer
from stream_app.ops.audit.report import RIGHT, WRONG, Report
from stream_app.ops.audit.state import State
from stream_app.ops.audit.steps import Audit
from stream_app.ops.views import FilesChangedError, OpenFiles
from stream_app.settings import Settings

__all__ = ["Report", "audit", "reconcile"]

_ATTEMPTS = 5


def audit(settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Print a report for each feed; the worst of their exit codes.

    Raises ConfigError where OUTPUT_PATH holds nothing of a feed: then there is nothing that could be right.
    """
    feeds = [flow for flow in flows if flow.layer is Layer.BRONZE]
    for bronze in feeds:
        _check_output(bronze, settings)
    codes = []
    for bronze in feeds:
        report = reconcile(bronze, settings, Console(stderr=True))
        report.print()
        codes.append(report.exit_code)
    return WRONG if WRONG in codes else max(codes, default=RIGHT)


def reconcile(bronze: Flow, settings: Settings, console: Console | None = None) -> Report:
    """Audit the feed of that bronze flow, beside a running service, too; how far it is, a terminal is shown.

    Retention may take a file away while they are looked up: then it begins again. Once they are open, it may do so.
    """
    changed: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            with ExitStack() as stack:
                files = stack.enter_context(OpenFiles())
                progress = _bar(console)
                stack.enter_context(progress)
                return Audit(State(bronze, files), settings, progress).report()
        except (FilesChangedError, FileNotFoundError) as error:
            changed = error
    problem = (
        f"the files of {bronze.feed.name} changed {_ATTEMPTS} times while they were looked up; try again. "
        f"If no service runs, its start says what to type ({changed})"
    )
    raise StreamAppError(problem)


def _bar(console: Console | None) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    is_seen = console is not None and console.is_terminal
    return Progress(*columns, console=console, transient=True, disable=not is_seen)


def _check_output(bronze: Flow, settings: Settings) -> None:
    root = settings.output_path
    if not root.is_dir():
        raise ConfigError(f"OUTPUT_PATH: there is no folder {root}")
    if not any(flow.layout.output.exists() or flow.checkpoint.path.exists() for flow in bronze.with_downstream()):
        raise ConfigError(f"OUTPUT_PATH: {root} holds nothing of {bronze.feed.name}, so there is nothing to audit")
