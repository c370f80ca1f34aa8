"""The kinds of sinks: the only place that lists them. What a feed declares becomes the flows that carry it out."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from stream_app.errors import ConfigError
from stream_app.feeds.aggregates import Problem
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds, problems_of
from stream_app.feeds.parts import quoted
from stream_app.feeds.sinks import SinkTable
from stream_app.flows.flow import Flow
from stream_app.layers.kind import Kind
from stream_app.layers.registry import datasets
from stream_app.object_stores import TableRoot
from stream_app.sinks.csv import CsvSink
from stream_app.sinks.delta import DeltaSink
from stream_app.sinks.kafka import KafkaSink
from stream_app.sinks.lake import LakeSink
from stream_app.sinks.own_folder import OwnFolder
from stream_app.sinks.postgres import PostgresSink
from stream_app.sinks.protocol import Sink, sink_of
from stream_app.storage.tables.places import place_of

# By what a feed file calls them (`to`).
SINKS: dict[str, type[Sink]] = {
    "csv": CsvSink,
    "lake": LakeSink,
    "delta": DeltaSink,
    "kafka": KafkaSink,
    "postgres": PostgresSink,
}


def load_flows(directory: Path, names: Sequence[str], root: Path, tables: TableRoot | None = None) -> tuple[Flow, ...]:
    """Return every flow of the feeds of those names, upstream first. Without `tables` these are under the root, too.

    Raises ConfigError, one line with each mistake in their files (feeds/load.py).
    """
    return flows(load_feeds(directory, names, check), root, tables)


def flows(feeds: Sequence[Feed], root: Path, tables: TableRoot | None = None) -> tuple[Flow, ...]:
    """Return every flow of the feeds, upstream first: the datasets' own, then the sinks as they are declared.

    Raises ConfigError, one line with each mistake, where a sink cannot be.
    """
    found = [(feed.name, *problem) for number, feed in enumerate(feeds) for problem in check(feed, feeds[:number])]
    if found:
        raise ConfigError("; ".join(map(": ".join, found)))
    return tuple(flow for feed in feeds for flow in _of_feed(feed, root, tables))


def check(feed: Feed, others: Sequence[Feed] = ()) -> Iterator[Problem]:
    """Yield every mistake in the sinks of a feed, and what another sink has already, of the feed or of others."""
    kinds = datasets(feed)
    found = [problem for name, declared in feed.sinks.items() for problem in _problems(name, declared, kinds)]
    kept = {one.of for one in feed.sinks.values()}
    keeping = " or ".join(to for to, sink in SINKS.items() if sink.keeps_by_key)
    for name, kind in kinds.items():
        if not kind.has_folder and name not in kept:
            found.append((f"totals.{name}", f'no sink keeps it; declare one of = "{name}" to {keeping}'))
    yield from found
    if found:
        return
    claimed = {claim: other.name for other in others for claim in _claims(other)}
    for name, sink in _sinks(feed).items():
        for claim in sorted(sink.claims):
            if (owner := claimed.setdefault(claim, f"sinks.{name}")) != f"sinks.{name}":
                yield f"sinks.{name}", f"{owner} has {claim} already"


def topics(feeds: Sequence[Feed]) -> frozenset[str]:
    """Return the topics that are read or written."""
    written = (topic for flow in flows(feeds, Path()) for topic in sink_of(flow).topics)
    return frozenset({*(feed.topic for feed in feeds), *written})


def needs_database(feeds: Sequence[Feed]) -> bool:
    """Return whether a sink of the feeds cannot be without a database."""
    return any(sink_of(flow).needs_database for flow in flows(feeds, Path()))


def probe_stores(flows: Sequence[Flow], spool: Path) -> None:
    """Try each place that tables of the flows lie under. Raises ConfigError where they cannot be, or not safely."""
    roots = (sink_of(flow).table_root(flow) for flow in flows)
    for root in dict.fromkeys(root for root in roots if root):
        if root.escape:
            problem = (
                f'{root.location}: a Delta table cannot lie in a path with "{root.escape}", which stands for a sign'
            )
            raise ConfigError(f"{root.named_by}: {problem}; name a folder without it")
        place_of(root, f"_probe/{secrets.token_hex(6)}", spool).probe()


def _of_feed(feed: Feed, root: Path, tables: TableRoot | None) -> Iterator[Flow]:
    kinds, own = datasets(feed), dict[str, Flow]()
    planned: list[tuple[str, Kind, Sink]] = [
        (name, kind, OwnFolder()) for name, kind in kinds.items() if kind.has_folder
    ]
    planned += [(name, kinds[sink.of], sink) for name, sink in _sinks(feed).items()]
    for name, kind, sink in planned:
        followed = kind.upstream if sink.derives(kind) else kind.name
        flow = Flow(feed, kind, sink, root, name, own[followed] if followed else None, table_root=tables)
        own.setdefault(name, flow)
        if flow.upstream:
            flow.upstream.downstream.append(flow)
        yield flow


def _sinks(feed: Feed) -> dict[str, Sink]:
    return {name: SINKS[one.to].model_validate(one.model_dump()) for name, one in feed.sinks.items()}


def _claims(feed: Feed) -> Iterator[str]:
    """Yield what the sinks of a feed have for themselves. One that is ill-formed is its own feed's mistake."""
    for declared in feed.sinks.values():
        with suppress(KeyError, ValidationError):
            yield from SINKS[declared.to].model_validate(declared.model_dump()).claims


def _problems(name: str, declared: SinkTable, kinds: Mapping[str, Kind]) -> Iterator[Problem]:
    key = f"sinks.{name}"
    if (kind := kinds.get(declared.of)) is None:
        yield f"{key}.of", f"{quoted(declared.of)} is none of {', '.join(kinds)}"
    if declared.to not in SINKS:
        yield f"{key}.to", f"{quoted(declared.to)} is none of {', '.join(SINKS)}"
    elif kind and not (kind.has_folder or SINKS[declared.to].keeps_by_key):
        keeping = " or ".join(to for to, sink in SINKS.items() if sink.keeps_by_key)
        yield f"{key}.of", f"{kind.name} changes its rows, and {declared.to} only adds some; keep it in {keeping}"
    elif kind:
        try:
            sink = SINKS[declared.to].model_validate(declared.model_dump())
        except ValidationError as error:
            yield from ((f"{key}.{part}", problem) for part, problem in problems_of(error))
        else:
            yield from ((f"{key}.{part}", problem) for part, problem in sink.problems(kind))
