"""Audits that somebody started: each in a process of its own, which gives way to the service; followed, then read."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Literal
from uuid import uuid4

from stream_app.errors import StreamAppError
from stream_app.ops.audit import Report, Verdict, audit
from stream_app.settings import Settings
from stream_app.sinks.registry import load_flows

_KEPT = 20
_NICE = 10
_SPAWN = multiprocessing.get_context("spawn")  # this process has threads


@dataclass(frozen=True)
class AuditRun:
    """An audit of a feed. Times are in UTC."""

    id: str
    feed: str
    sink: str
    state: Literal["running", "done", "failed"]
    started: datetime
    judged: int = 0
    """How many records of bronze were judged again so far."""
    records: int = 0
    """How many there are; 0 while it is not known, and for few of them."""
    finished: datetime | None = None
    verdict: str | None = None
    """right, wrong, or not audited, where not all could be looked at."""
    report: Report | None = None
    error: str = ""


@dataclass
class Audits:
    """Those of this process, the newest last; one of a feed at a time."""

    settings: Settings
    told: Callable[[str, bool], None]
    """Is told the feed of each audit that has a verdict, and whether something is wrong."""
    _runs: dict[str, AuditRun] = field(default_factory=dict)
    _processes: dict[str, SpawnProcess] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, feed: str, sink: str) -> AuditRun:
        """Start an audit; the one of that feed and sink that runs, if there is one."""
        with self._lock:
            for run in self._runs.values():
                if (run.feed, run.sink, run.state) == (feed, sink, "running"):
                    return run
            run = AuditRun(uuid4().hex, feed, sink, "running", datetime.now(UTC))
            receiver, sender = _SPAWN.Pipe(duplex=False)
            process = _SPAWN.Process(target=_audit, args=(sender, self.settings, feed, sink))
            process.start()
            sender.close()
            self._processes[run.id] = process
            self._note(run)
            threading.Thread(target=self._follow, args=(run, receiver), daemon=True, name="audit").start()
        return run

    def all(self) -> list[AuditRun]:
        """Return them, the newest first."""
        with self._lock:
            return [*self._runs.values()][::-1]

    def get(self, identity: str) -> AuditRun | None:
        """Return the one of that id."""
        return self._runs.get(identity)

    def end(self) -> None:
        """End those that run."""
        for process in [*self._processes.values()]:
            process.terminate()
            process.join()

    def _note(self, run: AuditRun) -> None:
        self._runs[run.id] = run
        done = [one.id for one in self._runs.values() if one.state != "running"]
        for old in done[: max(0, len(done) - _KEPT)]:
            del self._runs[old]

    def _follow(self, run: AuditRun, receiver: Connection) -> None:
        state: Literal["done", "failed"] = "failed"
        error, report = "it was ended before it had a verdict", None
        try:
            while True:
                said = receiver.recv()
                if isinstance(said, Report):
                    state, error, report = "done", "", said
                elif isinstance(said, str):
                    error = said
                else:
                    run = replace(run, judged=said[0], records=said[1])
                    with self._lock:
                        self._note(run)
        except (EOFError, OSError):
            pass
        verdict = str(report.verdict) if report else None
        if report:
            self.told(run.feed, report.verdict is Verdict.WRONG)
        with self._lock:
            self._note(
                replace(run, state=state, finished=datetime.now(UTC), verdict=verdict, report=report, error=error)
            )
        self._processes.pop(run.id).join()


def _audit(sender: Connection, settings: Settings, feed: str, sink: str) -> None:
    """Audit a feed, and send how far it is, then its report, or why there is none."""
    os.nice(_NICE)

    def tell(_: str, judged: int, records: int) -> None:
        sender.send((judged, records))

    try:
        flows = load_flows(settings.feeds_path, (feed,), settings.output_path, settings.tables)
        done = audit(flows, settings.servers, settings.max_files_per_sink, sink, tell)
        sender.send(done.feeds[0])
    except StreamAppError as error:
        sender.send(str(error))
