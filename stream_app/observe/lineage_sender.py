"""OPENLINEAGE_URL: lineage events of the service, sent from a thread of its own that no batch ever waits for.

Nothing is queued: what is to be told is looked up when it is sent. A receiver that is away or slow is told later.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stream_app import logs
from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow
from stream_app.observe.lineage_settings import LineageSettings
from stream_app.observe.monitor import Monitor, State
from stream_app.settings import Settings
from stream_app.storage.batch_files import replace_text
from stream_app.storage.layout import OutputLayout

_TIMEOUT_SECONDS = 5.0
_LAST_SECONDS = 8.0
"""How long the end of the service waits for what is still to be told."""


@contextmanager
def told(flows: Sequence[Flow], monitor: Monitor, settings: Settings, own: LineageSettings) -> Iterator[None]:
    """Tell of the flows until the end of the block, and then how each has ended.

    Raises ConfigError where the variables of the client make no transport.
    """
    if not own.is_on:
        yield
        return
    sender = _sender(flows, monitor, settings, own)
    thread = threading.Thread(target=sender.run, args=[60 * own.openlineage_minutes], daemon=True, name="lineage")
    thread.start()
    try:
        yield
    except BaseException as error:
        sender.failure = " ".join(str(error).split()) or type(error).__name__
        raise
    finally:
        sender.end()
        thread.join(_LAST_SECONDS)


def _sender(flows: Sequence[Flow], monitor: Monitor, settings: Settings, own: LineageSettings) -> _Sender:
    # a tenth of a second and some MB, which only those pay who ask for it
    from openlineage.client.uuid import generate_new_uuid  # noqa: PLC0415

    from stream_app.observe.lineage_events import Events  # noqa: PLC0415

    if "OPENLINEAGE_CLIENT_LOGGING" not in os.environ:  # its errors have stacks
        logging.getLogger("openlineage").addHandler(logging.NullHandler())
        logging.getLogger("openlineage").propagate = False
    emit, receiver = _client(own)
    events = Events(own.openlineage_namespace, settings.servers, settings.feeds_path)
    runs = [_Run(flow, str(generate_new_uuid())) for flow in flows]
    known = OutputLayout(settings.output_path).lineage
    return _Sender(events, runs, monitor, emit, receiver, known)


def _client(own: LineageSettings) -> tuple[Callable[[Any], object], str]:
    """Return what sends an event, and what tells one receiver from another."""
    from openlineage.client import OpenLineageClient  # noqa: PLC0415 - as above
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport  # noqa: PLC0415

    if own.has_own_transport:
        try:
            client = OpenLineageClient()
        except Exception as error:  # whatever a transport makes of its configuration; its text may quote a secret
            problem = f"its variables make no transport ({type(error).__name__})"
            raise ConfigError(f"OPENLINEAGE__TRANSPORT: {problem}; see docs/operations.md#openlineage") from None
        return client.emit, client.transport.kind or ""
    key = own.openlineage_api_key.get_secret_value()
    config = HttpConfig(own.openlineage_url, timeout=_TIMEOUT_SECONDS, retry={"total": 0, "redirect": 3})
    config.endpoint = os.environ.get("OPENLINEAGE_ENDPOINT") or config.endpoint
    if key:
        config.auth = ApiKeyTokenProvider({"apiKey": key})
    return OpenLineageClient(transport=HttpTransport(config)).emit, f"{own.openlineage_url} {config.endpoint}"


@dataclass
class _Run:
    """The run of a flow, and what its receiver has taken of it."""

    flow: Flow
    id: str
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_declared: bool = False
    is_begun: bool = False


@dataclass
class _Sender:
    events: Any
    runs: Sequence[_Run]
    monitor: Monitor
    emit: Callable[[Any], object]
    receiver: str
    known: Path
    """The file that says what a receiver knows."""
    failure: str = ""
    """What the service ends with."""
    _ended: threading.Event = field(default_factory=threading.Event)
    _trouble: str = ""

    def end(self) -> None:
        """Have the run of each flow end, and the thread."""
        self._ended.set()

    def run(self, seconds: float) -> None:
        """Tell what the flows are and that they run, every so often how much they wrote, at last how they ended."""
        while True:
            is_last = self._ended.is_set()
            deadline = time.monotonic() + (_LAST_SECONDS if is_last else float("inf"))
            try:
                for run in self.runs:
                    self._tell(run, is_last=is_last)
                    if time.monotonic() > deadline or self._ended.is_set() != is_last:
                        break
            except Exception as error:  # of any transport; nothing of it may end the service or reach a batch
                self._warn(_said(error))
            else:
                self._warn("")
            if is_last:
                return
            self._ended.wait(seconds)

    def _tell(self, run: _Run, *, is_last: bool) -> None:
        from stream_app.observe.lineage_events import Written  # noqa: PLC0415 - as above

        flow, status, now = run.flow, self.monitor[run.flow], datetime.now(UTC)
        if not run.is_declared:
            self._declare(run, now)
        if not run.is_begun:
            self.emit(self.events.began(flow, run.id, run.began_at))
            run.is_begun = True
        elif not is_last:
            self.emit(self.events.runs(flow, run.id, now, Written(status.rows_out, status.bytes)))
        if is_last:
            error = "" if status.state in {State.STOPPED, State.DONE} else status.last_error or self.failure
            self.emit(self.events.ended(flow, run.id, now, Written(status.rows_out, status.bytes), error))

    def _declare(self, run: _Run, now: datetime) -> None:
        """Tell what a flow is, unless the receiver was told just that by this service or one before it."""
        from openlineage.client.serde import Serde  # noqa: PLC0415 - as above

        name, event = run.flow.name, self.events.declared(run.flow, now)
        same = {**Serde.to_dict(event), "eventTime": ""}
        digest = hashlib.sha256(json.dumps([self.receiver, same], sort_keys=True).encode()).hexdigest()[:16]
        known = self._known()
        if known.get(name) != digest:
            self.emit(event)
            with suppress(OSError):  # of a full disk the sinks tell; it is told again then
                replace_text(self.known, json.dumps({**known, name: digest}), flushed=False)
        run.is_declared = True

    def _known(self) -> dict[str, str]:
        try:
            return dict(json.loads(self.known.read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def _warn(self, trouble: str) -> None:
        """Log that the receiver does not take events, once, and once that it does again."""
        if trouble and not self._trouble:
            logs.warning("lineage events are not taken, and nothing waits for that; they are sent later", error=trouble)
        elif self._trouble and not trouble:
            logs.info("lineage events are taken again")
        self._trouble = trouble


def _said(error: Exception) -> str:
    """Return what went wrong without what the error quotes, which may be a key."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"the receiver answers {status}" if status else f"no answer: {type(error).__name__}"
