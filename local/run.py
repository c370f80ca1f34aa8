"""The main job without Docker: servers, app and producers together, with a live view of what each sink holds."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

import duckdb
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from local.console import say
from local.process import Child
from local.stack import Stack
from local.supervise import supervise
from stream_app.cli.commands.status import table
from stream_app.errors import ConfigError, UnavailableError
from stream_app.ops.status import status
from stream_app.plain import plain
from stream_app.sinks.registry import flows
from stream_app.storage import service_status
from stream_app.storage.lock import sole_user

_LOCK_PATIENCE_SECONDS = 2.0
_LIVE_SECONDS = 2.0
_PLAIN_SECONDS = 10.0
_PLAIN_WIDTH = 160  # a log file has no width


def run(stack: Stack) -> int:
    """Run all of it until Ctrl-C, SIGTERM or SECONDS_TO_RUN; print what each output holds; return the exit code."""
    clock = _Clock(stack, seconds_to_run())
    with sole_user(stack.settings.output_path, _LOCK_PATIENCE_SECONDS):
        pass  # the app looks again; this is so that no servers and no Spark are started for nothing
    broker = stack.broker_if_needed()
    address = broker.address if broker else stack.address()
    postgres = stack.postgres_if_needed()
    database_url = postgres.url if postgres else stack.database_url()
    app, api = stack.app(address, database_url), stack.api_if_wanted(database_url)
    # The app starts before the producers, so that stopping, the reverse, ends the records first.
    children = [*filter(None, [broker, postgres]), app, *filter(None, [api]), *stack.producers(address)]
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    say("run", f"{', then '.join(child.name for child in children)}; Ctrl-C stops all, the last one first")
    with _View(console, stack, children) as view:
        code = supervise(children, view, clock.time_is_up)
    if app.pid is not None and code != ConfigError.exit_code:
        console.print(_outputs(stack))
    return code


def seconds_to_run() -> float | None:
    """Read SECONDS_TO_RUN; None where it is not set. Raises ConfigError."""
    text = os.environ.get("SECONDS_TO_RUN", "").strip()
    if not text:
        return None
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < float("inf"):
            return seconds
    problem = f'SECONDS_TO_RUN: "{text}" is not a number of seconds above 0'
    raise ConfigError(problem)


class _Clock:
    """Counts SECONDS_TO_RUN from when the app is up, so that a slow start does not eat them."""

    def __init__(self, stack: Stack, seconds: float | None) -> None:
        self._output = stack.settings.output_path
        self._seconds = seconds
        self._made = time.time()
        self._up: float | None = None

    def time_is_up(self) -> bool:
        if self._seconds is None:
            return False
        if self._up is None and service_status.read(self._output)["at"] > self._made:
            self._up = time.monotonic()
            say("app", f"up; all stop in {self._seconds:.0f} s")
        return self._up is not None and time.monotonic() - self._up >= self._seconds


class _View:
    """The outputs and each program's last line: kept on the screen of a terminal, else printed now and then."""

    quoted_lines = 15

    def __init__(self, console: Console, stack: Stack, children: Sequence[Child]) -> None:
        self._console = console
        self._stack = stack
        self._children = children
        self._seconds = _LIVE_SECONDS if console.is_terminal else _PLAIN_SECONDS
        self._next = time.monotonic() + self._seconds
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> _View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def look(self) -> None:
        """Show the state of things if it is time to."""
        if time.monotonic() < self._next:
            return
        # Retention may take a file under our eyes, a store or a terminal may go away: none of it may end the service.
        with contextlib.suppress(OSError, duckdb.Error, UnavailableError):
            shown = Group(_outputs(self._stack), _programs(self._children))
            if self._live:
                self._live.update(shown, refresh=True)
            else:
                self._console.print(shown)
        self._next = time.monotonic() + self._seconds


def _outputs(stack: Stack) -> RenderableType:
    root = stack.settings.output_path
    return table(status(root, flows(stack.feeds, root, stack.settings.tables)))


def _programs(children: Sequence[Child]) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for child in children:
        state = f"pid {child.pid}" if child.returncode is None else f"ended, exit {child.returncode}"
        table.add_row(child.name, state if child.pid else "not started", Text(*map(plain, child.last_lines(1))))
    return table
