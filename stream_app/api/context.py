"""What all operations of the API share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus

from stream_app import logs
from stream_app.api.cache import Cache, Shared
from stream_app.api.engine import Engine
from stream_app.api.guard import Guard
from stream_app.api.problems import Problem
from stream_app.api.questions import Questions
from stream_app.api.settings import ApiSettings
from stream_app.api.versions import Versions
from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow
from stream_app.settings import Settings
from stream_app.sinks.protocol import sink_of
from stream_app.sinks.registry import load_flows

_Stamps = tuple[tuple[int, int], ...]


@dataclass
class Declared:
    """The flows of FEEDS, as their files are now."""

    settings: Settings
    _flows: tuple[Flow, ...] = ()
    _stamps: _Stamps = ()

    def flows(self) -> tuple[Flow, ...]:
        """Return them; while a file has a mistake, those from before it. Raises ConfigError where there were none."""
        stamps = self._looked()
        if stamps != self._stamps:
            try:
                self._flows = load_flows(
                    self.settings.feeds_path, self.settings.feeds, self.settings.output_path, self.settings.tables
                )
            except ConfigError as error:
                if not self._flows:
                    raise
                logs.warning("feed files are read again once they are in order", error=error)
            self._stamps = stamps
        return self._flows

    def held(self) -> tuple[Flow, ...]:
        """Return them as they were read, if no file has changed since; else none. Nobody waits for that."""
        return self._flows if self._looked() == self._stamps else ()

    def fresh(self, feed: str) -> tuple[Flow, ...]:
        """Return the flows of a feed as its file is at this moment. Raises ConfigError for a mistake in it."""
        return load_flows(self.settings.feeds_path, (feed,), self.settings.output_path, self.settings.tables)

    def _looked(self) -> _Stamps:
        return tuple(map(_stamp, self._files))

    @cached_property
    def _files(self) -> list[str]:
        return [str(self.settings.feeds_path / f"{feed}.toml") for feed in self.settings.feeds]


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - each request asks: a Path costs more than the answer
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


@dataclass
class Context:
    """The settings, the flows, and what answers are made with."""

    settings: Settings
    own: ApiSettings
    declared: Declared = field(init=False)
    guard: Guard = field(init=False)
    engine: Engine = field(default_factory=Engine)
    cache: Cache = field(init=False)
    versions: Versions = field(default_factory=Versions)
    questions: Questions = field(default_factory=Questions)

    def __post_init__(self) -> None:
        self.declared = Declared(self.settings)
        self.guard = Guard(self.own)
        url = self.own.redis_url.get_secret_value()
        self.cache = Cache(Shared(url) if url else None)

    def flows(self, feed: str = "") -> tuple[Flow, ...]:
        """Return the flows of a feed, or all. Raises Problem where there is no such feed."""
        found = [flow for flow in self.declared.flows() if feed in {"", flow.feed.name}]
        if not found:
            known = ", ".join(dict.fromkeys(flow.feed.name for flow in self.declared.flows()))
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no feed {feed}; there are {known}")
        return tuple(found)

    def dataset(self, feed: str, dataset: str) -> Flow:
        """Return the flow of a dataset, or of a table of one. Raises Problem where the feed has none of that name."""
        flows = self.flows(feed)
        found = next((flow for flow in flows if flow.sink == dataset), None)
        if found is None:
            raise Problem(HTTPStatus.NOT_FOUND, f"{feed} has no dataset {dataset}; it has {_listed(flows)}")
        if not _has_rows(found):
            of = f"ask /api/feeds/{feed}/{found.kind.name}" if found.kind.has_folder else "read it where they are kept"
            raise Problem(HTTPStatus.NOT_FOUND, f"{dataset} is a sink with the rows of {found.kind.name}: {of}")
        return found


def _listed(flows: Sequence[Flow]) -> str:
    return ", ".join(flow.sink for flow in flows if _has_rows(flow))


def _has_rows(flow: Flow) -> bool:
    """Return whether rows are asked of the flow itself: a dataset, or a table, which has versions."""
    return flow.is_own or sink_of(flow).is_table
