"""Start the queries, restart those that fail, drain them when asked to stop."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from stream_app import logs
from stream_app.errors import ConfigError, StreamAppError, UnavailableError
from stream_app.flow import Flow
from stream_app.monitor import Monitor, State
from stream_app.pipeline import Pipeline
from stream_app.settings import Settings

_POLL_SECONDS = 0.5
_DRAIN_SECONDS = 50.0
_COMMIT_SECONDS = 5.0
_SOURCE_SECONDS = 20.0
_INITIALIZING = "Initializing sources"
_LONGEST_BACKOFF_SECONDS = 60.0
_LONGEST_ERROR = 500


class _Draining(Exception):  # noqa: N818 - not an error: it ends a batch that must not begin
    """Raised in a batch that begins after the service was asked to stop; the batch will be replayed."""


class Runner:
    """All flows of the service. One failing flow is restarted alone, with exponential backoff and jitter."""

    def __init__(self, pipeline: Pipeline, monitor: Monitor, settings: Settings) -> None:
        self._pipeline = pipeline
        self._monitor = monitor
        self._settings = settings
        self._queries: dict[Flow, StreamingQuery] = {}
        self._restart_at: dict[Flow, float] = {}
        self._running_batches: dict[Flow, int] = {}
        self._batch_errors: dict[Flow, str] = {}
        """What a batch failed with, which Spark's report of the failed query holds only in part."""
        self._stop = threading.Event()
        self._following: set[Flow] = set()
        """What a drain has started before the layer that it follows has ended."""
        self._halted: set[Flow] = set()

    def stop(self) -> None:
        """Ask for a drain; safe in a signal handler."""
        self._stop.set()

    def run(self, flows: tuple[Flow, ...]) -> None:
        """Keep the flows running until stop(), or with TRIGGER_INTERVAL=available-now until they have read all.

        Raises ConfigError where a query must not be started, StreamAppError after MAX_FAILURES failures in a row of
        one flow; the others are drained first.
        """
        waiting = list(flows)
        try:
            while waiting or self._queries or self._restart_at:
                for flow in filter(self._may_start, list(waiting)):
                    if self._stop.is_set():
                        return
                    waiting.remove(flow)
                    self._start(flow)
                    self._wait_for_source(flow)
                self._monitor.ready = not waiting
                if self._stop.wait(_POLL_SECONDS):
                    return
                self._watch()
        finally:
            self._halt(list(self._queries))
            self._restart_at.clear()

    def _may_start(self, flow: Flow) -> bool:
        """Whether there is enough to do for it: in a drain, more than a file of the layer before, or the last of it."""
        if not self._settings.drains or self._ends(flow) or flow.upstream is None:
            return True
        committed = flow.checkpoint.last_committed()
        taken = committed.end["batch"] if committed else -1
        return sum(file.last > taken for file in flow.upstream.files()) > 1

    def _ends(self, flow: Flow) -> bool:
        """Whether the query is to end with what is there: in a drain, once the layer that it follows has ended."""
        return self._settings.drains and (flow.upstream is None or self._monitor[flow.upstream].state is State.DONE)

    def _start(self, flow: Flow) -> None:
        status = self._monitor[flow]
        status.state = State.STARTING
        self._restart_at.pop(flow, None)
        ends = self._ends(flow)
        if self._settings.drains and not ends:
            self._following.add(flow)
        else:
            self._following.discard(flow)

        def batch(frame: DataFrame, batch_id: int) -> None:
            self._batch(flow, frame, batch_id)

        try:
            self._queries[flow] = self._pipeline.start(flow, batch, ends=ends)
        except ConfigError:
            status.state = State.FAILED
            raise
        except UnavailableError as error:
            if self._settings.drains:  # which must end
                self._failed(flow, str(error))
            else:
                self._retry(flow, str(error), status.restarts + 1)
        except Exception as error:
            self._failed(flow, str(error))
        else:
            status.state = State.RUNNING

    def _wait_for_source(self, flow: Flow) -> None:
        """Start one after the other: a source is a Python process, which Spark gives ten seconds to come up."""
        query, deadline = self._queries.get(flow), time.monotonic() + _SOURCE_SECONDS
        while query and query.isActive and query.status["message"] == _INITIALIZING and time.monotonic() < deadline:
            if self._stop.wait(0.1):
                return

    def _watch(self) -> None:
        for flow in list(self._following):
            if flow in self._queries and self._ends(flow):  # now it can be told to read the rest and end
                self._halt([flow])
                self._start(flow)
        for flow, query in list(self._queries.items()):
            if query.isActive:
                continue
            del self._queries[flow]
            error = query.exception()
            if error is None:
                self._monitor[flow].state = State.DONE
            else:
                self._failed(flow, self._batch_errors.pop(flow, str(error)))
        for flow, due in list(self._restart_at.items()):
            if time.monotonic() >= due:
                self._start(flow)

    def _failed(self, flow: Flow, error: str) -> None:
        status = self._monitor[flow]
        status.failures += 1
        status.last_error = _one_line(error)
        if status.failures >= self._settings.max_failures:
            status.state = State.FAILED
            problem = f"{flow.name} failed {status.failures} times in a row, the last time with: {status.last_error}"
            raise StreamAppError(problem)
        self._retry(flow, error, status.failures)

    def _retry(self, flow: Flow, error: str, attempt: int) -> None:
        """Start the flow again, later the more often it was tried."""
        status = self._monitor[flow]
        status.last_error = _one_line(error)
        status.state = State.RESTARTING
        status.restarts += 1
        backoff = min(_LONGEST_BACKOFF_SECONDS, 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._restart_at[flow] = time.monotonic() + backoff
        logs.warning(
            f"{flow.name} failed",
            failures=status.failures,
            restart_in=round(backoff, 1),
            error=status.last_error,
        )

    def _batch(self, flow: Flow, frame: DataFrame, batch_id: int) -> None:
        with self._gate(flow, batch_id):
            status = self._monitor[flow]
            try:
                status.written[batch_id] = self._pipeline.write(flow, frame, batch_id)
            except Exception as error:
                self._batch_errors[flow] = f"{type(error).__name__}: {error}"
                raise

    @contextmanager
    def _gate(self, flow: Flow, batch_id: int) -> Iterator[None]:
        with self._monitor.lock:
            if flow in self._halted:
                raise _Draining
            self._running_batches[flow] = batch_id
        try:
            yield
        finally:
            with self._monitor.lock:
                del self._running_batches[flow]

    def _halt(self, flows: Collection[Flow]) -> None:
        """Let the running batches end and be committed, then stop the queries, which are idle by then."""
        with self._monitor.lock:
            self._halted.update(flows)
            running = {flow: batch_id for flow, batch_id in self._running_batches.items() if flow in flows}
        deadline = time.monotonic() + _DRAIN_SECONDS
        for flow, batch_id in running.items():
            logs.info(f"draining: waiting for {flow.name}", batch=batch_id)
            while self._running_batches.get(flow) == batch_id and time.monotonic() < deadline:
                time.sleep(0.05)
            self._wait_for_commit(flow, batch_id, min(deadline, time.monotonic() + _COMMIT_SECONDS))
        for flow in flows:
            self._queries.pop(flow).stop()
            if self._monitor[flow].state is not State.FAILED:
                self._monitor[flow].state = State.STOPPED
            self._halted.discard(flow)

    def _wait_for_commit(self, flow: Flow, batch_id: int, deadline: float) -> None:
        while time.monotonic() < deadline and self._queries[flow].isActive:
            committed = flow.checkpoint.last_committed()
            if committed and committed.batch_id >= batch_id:
                return
            time.sleep(0.05)


def _one_line(error: str) -> str:
    """The cause of a failure without its stack: the innermost of Python's or Java's errors, else the first line."""
    python = re.findall(r"^[\w.]*(?:Error|Expired): .+$", error, re.MULTILINE)
    # py4j shows the Java error behind a colon, and what caused that further down
    java = re.findall(r"^(?:Caused by)?: (.+)$", error, re.MULTILINE)
    candidates = [line for line in (*java[-1:], *python[-1:]) if not line.startswith("Py4J")]
    lines = candidates or [line.strip() for line in error.splitlines() if line.strip()] or ["unknown"]
    return str(lines[-1 if candidates else 0])[:_LONGEST_ERROR]
