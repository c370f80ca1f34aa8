"""Tables whose rows any batch may change: they are copied before anything else is looked at.

A copy says how far of silver it had come. Silver's files up to there are listed after it, so the two can be compared
though the service goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import duckdb

from stream_app.errors import StreamAppError
from stream_app.feeds.sql import name
from stream_app.flows.flow import Flow
from stream_app.ops.views import database
from stream_app.settings import Servers
from stream_app.sinks.protocol import sink_of


@dataclass
class Copies:
    """The database of an audit, with tables that are copied into it."""

    servers: Servers
    database: duckdb.DuckDBPyConnection = field(default_factory=database)
    taken: dict[str, int] = field(default_factory=dict)
    """By sink, the newest batch of silver that is in a copy of totals."""
    _problems: dict[str, str] = field(default_factory=dict)
    """By sink that was copied, why it could not be; else ""."""

    @classmethod
    def of_totals(cls, flows: Iterable[Flow], servers: Servers) -> Copies:
        """Return copies of what any batch may change among those flows."""
        found = cls(servers)
        for flow in flows:
            if flow.kind.running and sink_of(flow).is_copied:
                found.database.execute(f"CREATE SCHEMA IF NOT EXISTS {name(flow.feed.name)}")
                found.copy(flow)
        return found

    def copy(self, flow: Flow) -> str:
        """Copy a flow's table, unless it was copied; return why it cannot be, or ""."""
        if flow.sink not in self._problems:
            self._problems[flow.sink] = ""
            try:
                position = sink_of(flow).copy_into(self.database, flow, self.servers)
            except StreamAppError as error:
                self._problems[flow.sink] = str(error)
            else:
                if flow.kind.running and position:
                    self.taken[flow.sink] = position.batch
        return self._problems[flow.sink]
