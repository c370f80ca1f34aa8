"""What is known of each flow while the service runs: written by supervisor and listener, read by the operations."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from stream_app.flows.flow import Flow
from stream_app.sinks.report import Report

LONGEST_ERROR = 500


class State(StrEnum):
    """Where a flow's query is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"
    DONE = "done"


class Decided(NamedTuple):
    """When Kafka was last asked, and had answered, that no record of the topic waits for an open transaction."""

    asked_at: float = 0.0
    answered_at: float = 0.0


@dataclass
class FlowStatus:
    """One flow, now. Times are in seconds since the epoch; counts are since the service started."""

    flow: Flow
    state: State = State.STARTING
    restarts: int = 0
    failures: int = 0
    """Failures in a row, without progress between them."""
    last_error: str = ""
    progress_at: float = field(default_factory=time.time)
    """When the query last ended a batch or found nothing to do."""
    read_all_at: float = 0.0
    """The last moment of which all is read that the topic had, also what waited for an open transaction."""
    batch_id: int = -1
    batch_at: float = 0.0
    batches: int = 0
    rows_in: int = 0
    rows_out: int = 0
    bytes: int = 0
    behind: Mapping[str, int] = field(default_factory=dict)
    """What is not read yet: records by partition of the topic, or batches of the layer before."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Records that wait for open transactions, by partition of the topic."""
    decided: Decided | None = None
    """None where nobody asks, as what waits is read, too."""
    watermark: float = 0.0
    state_rows: int = 0
    state_bytes: int = 0
    counters: Counter[str] = field(default_factory=Counter)
    """What the sink has counted, by the names of sinks/protocol.py."""
    reports: dict[int, Report] = field(default_factory=dict)
    """What the sink did, until the progress report of the batch comes."""


class Monitor:
    """The status of every flow, by its name."""

    def __init__(self, flows: tuple[Flow, ...]) -> None:
        self.lock = threading.Lock()
        self.statuses: Mapping[str, FlowStatus] = {flow.name: FlowStatus(flow) for flow in flows}
        self._start_at = time.time()
        self.ready = False
        """Whether every query has been started once."""
        self.query_ended = threading.Event()
        """Set when Spark tells that a query has ended, so that the supervisor looks at once."""

    def __getitem__(self, flow: Flow) -> FlowStatus:
        return self.statuses[flow.name]

    def starting(self, flow: Flow) -> None:
        """Note that the flow's query starts now: one after the other, so flows that wait for it are not stuck."""
        self[flow].state = State.STARTING
        self._start_at = time.time()

    def refuse(self, error: str) -> None:
        """Note why the service cannot start; where a query has started, the flows have states of their own."""
        if all(status.state is State.STARTING for status in self.statuses.values()):
            for status in self.statuses.values():
                status.state, status.last_error = State.FAILED, error[:LONGEST_ERROR]

    def problems(self, patience_seconds: float) -> dict[str, str]:
        """Why the service is not healthy, by flow: an error, a state that is not running, no progress for too long."""
        now = time.time()
        found = {}
        for name, status in self.statuses.items():
            idle = now - max(status.progress_at, self._start_at if status.state is State.STARTING else 0)
            # a query that was started again may fail again: its error stays until it has made progress
            if status.last_error or status.state in {State.RESTARTING, State.FAILED}:
                found[name] = f"{status.state}: {status.last_error}"
            elif status.state in {State.STARTING, State.RUNNING} and idle > patience_seconds:
                found[name] = f"no progress for {idle:.0f} s"
        return found
