"""Start the queries, restart each that fails, and stop all in order.

A drain (TRIGGER_INTERVAL=available-now) ends by itself, when all is read. A stop is asked for by a signal: it waits for
the batches that run.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from stream_app import logs
from stream_app.errors import ConfigError, StreamAppError
from stream_app.flows.flow import Flow
from stream_app.observe.monitor import LONGEST_ERROR, Monitor, State
from stream_app.runtime.pipeline import Pipeline
from stream_app.runtime.query_errors import one_line, passes

# How often it looks at the queries, each a call to the JVM, and how often whether it was told that one has ended.
_POLL_SECONDS = 0.5
_TOLD_SECONDS = 0.1
# How long a stop waits for the running batches, all together; then for the commit of each.
_BATCH_SECONDS = 45.0
_COMMIT_SECONDS = 5.0
_SOURCE_SECONDS = 20.0
_INITIALIZING = "Initializing sources"
_LONGEST_BACKOFF_SECONDS = 60.0


class _Stopping(Exception):  # noqa: N818 - not an error: it ends a batch that must not begin
    """Raised in a batch that begins after the service was asked to stop; the batch will be replayed."""


class Runner:
    """All flows of the service. One failing flow is restarted alone, with exponential backoff and jitter."""

    def __init__(
        self, pipeline: Pipeline, monitor: Monitor, stop: threading.Event, *, drains: bool, max_failures: int
    ) -> None:
        """Run until `stop` is set, which a signal handler may do; with `drains` also until all is read."""
        self._pipeline = pipeline
        self._monitor = monitor
        self._drains = drains
        self._max_failures = max_failures
        self._queries: dict[Flow, StreamingQuery] = {}
        self._restart_at: dict[Flow, float] = {}
        self._running_batches: dict[Flow, int] = {}
        self._batch_errors: dict[Flow, str] = {}
        """What a batch failed with, which Spark's report of the failed query holds only in part."""
        self._stop = stop
        self._ending: dict[StreamingQuery, threading.Thread] = {}
        """By query of a drain: what ends it, because the layer that it follows has ended."""
        self._is_stopping = False

    def run(self, flows: tuple[Flow, ...]) -> None:
        """Keep the flows running until asked to stop, or with TRIGGER_INTERVAL=available-now until they have read all.

        Raises ConfigError where a query must not be started, StreamAppError after MAX_FAILURES failures in a row of
        one flow; the batches of the others end first.
        """
        try:
            for flow in flows:
                if self._stop.is_set():
                    return
                self._start(flow)
                self._wait_for_source(flow)
            while self._queries or self._restart_at:
                self._monitor.ready |= not self._restart_at
                if self._waits():
                    return
                self._watch()
        finally:
            self._stop_queries()
            for flow in self._restart_at:
                self._monitor[flow].state = State.STOPPED
            self._restart_at.clear()
            for thread in self._ending.values():
                thread.join(_COMMIT_SECONDS)

    def _start(self, flow: Flow) -> None:
        status = self._monitor[flow]
        self._monitor.starting(flow)
        self._restart_at.pop(flow, None)
        try:
            self._queries[flow] = self._pipeline.start(flow, lambda frame, batch_id: self._batch(flow, frame, batch_id))
        except ConfigError as error:
            status.state, status.last_error = State.FAILED, str(error)[:LONGEST_ERROR]
            raise
        except Exception as error:
            self._failed(flow, f"{type(error).__name__}: {error}")
        else:
            status.state = State.RUNNING

    def _wait_for_source(self, flow: Flow) -> None:
        """Start one after the other: a source is a Python process, which Spark gives ten seconds to come up."""
        query, deadline = self._queries.get(flow), time.monotonic() + _SOURCE_SECONDS
        while query and query.isActive and query.status["message"] == _INITIALIZING and time.monotonic() < deadline:
            if self._stop.wait(0.1):
                return

    def _waits(self) -> bool:
        """Return once a query has ended, or after a moment; True where the service was asked to stop."""
        deadline = time.monotonic() + _POLL_SECONDS
        while not self._stop.wait(_TOLD_SECONDS):
            if self._monitor.query_ended.is_set() or time.monotonic() >= deadline:
                self._monitor.query_ended.clear()
                return False
        return True

    def _watch(self) -> None:
        if self._drains:
            self._end_followers()
        for flow, query in list(self._queries.items()):
            if query.isActive:
                continue
            del self._queries[flow]
            error = query.exception()
            if error is None and self._drains:
                self._monitor[flow].state = State.DONE
            else:
                self._failed(flow, self._batch_errors.pop(flow, str(error or "its query ended by itself")))
        for flow, due in list(self._restart_at.items()):
            if time.monotonic() >= due:
                self._start(flow)

    def _end_followers(self) -> None:
        """In a drain, end each query whose layer before has ended, once it has taken all of that."""
        for flow, query in self._queries.items():
            ended = flow.upstream is not None and self._monitor[flow.upstream].state is State.DONE
            if ended and query not in self._ending:
                thread = threading.Thread(target=_end_when_all_is_taken, args=(flow, query), daemon=True)
                self._ending[query] = thread
                thread.start()

    def _failed(self, flow: Flow, error: str) -> None:
        status = self._monitor[flow]
        if passes(error) and not self._drains:  # which must end
            self._retry(flow, error, status.restarts + 1)
            return
        status.failures += 1
        status.last_error = one_line(error)
        if status.failures >= self._max_failures:
            status.state = State.FAILED
            problem = f"{flow.name} failed {status.failures} times in a row, the last time with: {status.last_error}"
            raise StreamAppError(problem)
        self._retry(flow, error, status.failures)

    def _retry(self, flow: Flow, error: str, attempt: int) -> None:
        """Start the flow again, later the more often it was tried."""
        status = self._monitor[flow]
        status.last_error = one_line(error)
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
                status.reports[batch_id] = self._pipeline.write(flow, frame, batch_id)
            except Exception as error:
                self._batch_errors[flow] = f"{type(error).__name__}: {error}"
                raise

    @contextmanager
    def _gate(self, flow: Flow, batch_id: int) -> Iterator[None]:
        with self._monitor.lock:
            if self._is_stopping:
                raise _Stopping
            self._running_batches[flow] = batch_id
        try:
            yield
        finally:
            with self._monitor.lock:
                del self._running_batches[flow]

    def _stop_queries(self) -> None:
        """Let the running batches end and be committed, then stop the queries, which are idle by then."""
        with self._monitor.lock:
            self._is_stopping = True
            # a batch may outlive its query, which nobody waits for then
            running = {flow: batch_id for flow, batch_id in self._running_batches.items() if flow in self._queries}
        deadline = time.monotonic() + _BATCH_SECONDS
        for flow, batch_id in running.items():
            logs.info(f"draining: waiting for {flow.name}", batch=batch_id)
            while self._running_batches.get(flow) == batch_id and time.monotonic() < deadline:
                time.sleep(0.05)
            self._wait_for_commit(flow, batch_id, min(deadline, time.monotonic() + _COMMIT_SECONDS))
        for flow, query in self._queries.items():
            try:
                query.stop()
            except Exception as error:  # its batch did not end in time; the others must be stopped all the same
                logs.warning(
                    f"{flow.name} did not stop; its batch runs again at the next start", error=one_line(str(error))
                )
            if self._monitor[flow].state is not State.FAILED:
                self._monitor[flow].state = State.STOPPED
        self._queries.clear()

    def _wait_for_commit(self, flow: Flow, batch_id: int, deadline: float) -> None:
        while time.monotonic() < deadline and self._queries[flow].isActive:
            committed = flow.checkpoint.last_committed()
            if committed and committed.batch_id >= batch_id:
                return
            time.sleep(0.05)


def _end_when_all_is_taken(flow: Flow, query: StreamingQuery) -> None:
    """Stop the query once it has taken all files of the layer before, and run the last batch, the one without data."""
    has_taken_all = False
    while query.isActive and not has_taken_all:
        has_taken_all = not flow.untaken()
        try:
            query.processAllAvailable()  # a trigger that is just under way may have looked before the last file came
            if has_taken_all:
                query.stop()
        except Exception:  # the query's own error, which `_watch` sees, too
            return
