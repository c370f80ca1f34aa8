"""Where data comes from and goes to, as the feed files declare it: topics, lookups, datasets and sinks, and columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from stream_app.flows.flow import Flow
from stream_app.layers.origin import How, Origin
from stream_app.sinks.lineage import RECORD, columns, decided_by
from stream_app.sinks.protocol import sink_of


@dataclass(frozen=True)
class Node:
    """Something that holds data."""

    id: str
    """`topic:<topic>`, `<feed>.<dataset or sink>`, or `<feed>.lookups.<lookup>`."""
    kind: Literal["topic", "lookup", "dataset", "sink"]
    name: str
    feed: str
    """The feed that it belongs to; "" for a topic."""
    place: str
    """Where people find it."""
    columns: dict[str, str]
    """Its columns with their types. Of a topic they are what each record has."""


@dataclass(frozen=True)
class Source:
    """A column that another is made of, or that decides which rows there are."""

    column: str
    how: How
    by: str
    """The path in a record, or a function; "" where nothing more is to be said."""


@dataclass(frozen=True)
class Edge:
    """That data goes from one node to another."""

    source: str
    target: str
    columns: dict[str, tuple[Source, ...]]
    """Each column of the target that is made of columns of the source, with these."""
    decided_by: tuple[Source, ...]
    """The columns of the source that decide which rows the target has."""


@dataclass(frozen=True)
class Lineage:
    """All of it, upstream first."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def lineage(flows: Sequence[Flow]) -> Lineage:
    """Return the lineage of flows, from their declarations alone. The flows that a flow follows must be among them."""
    nodes = {node.id: node for flow in flows for node in _nodes(flow)}
    return Lineage(tuple(nodes.values()), tuple(edge for flow in flows for edge in _edges(flow)))


def mermaid(found: Lineage) -> str:
    """Return it as a flowchart of Mermaid, which GitHub, GitLab and many editors draw."""
    short = {node.id: f"n{number}" for number, node in enumerate(found.nodes)}
    lines = ["flowchart LR"]
    for feed, nodes in groupby(sorted(found.nodes, key=lambda node: node.feed), lambda node: node.feed):
        shown = [f"{short[node.id]}{_SHAPES[node.kind].format(_label(node))}" for node in nodes]
        around = (f'  subgraph feed_{feed} ["{feed}"]', "  end") if feed else ()
        lines += [*around[:1], *(f"    {one}" for one in shown), *around[1:]]
    lines += [f"  {short[edge.source]} --> {short[edge.target]}" for edge in found.edges]
    return "\n".join(lines)


_SHAPES = {"topic": '(["{}"])', "lookup": '[/"{}"/]', "dataset": '["{}"]', "sink": '[("{}")]'}


def _label(node: Node) -> str:
    return f"{node.name}<br><small>{node.kind}</small>"


def _nodes(flow: Flow) -> Iterator[Node]:
    """Yield a flow's output, and before it what it reads that no flow makes."""
    feed = flow.feed
    if flow.upstream is None:
        yield _topic(feed.topic)
    for name, declared in feed.lookups.items() if flow.upstream is None else ():
        joined = {column.column or own: column.type for own, column in declared.columns.items()}
        key = next(feed.fields[field].type for field, lookup in feed.references.items() if lookup == name)
        place = declared.file or "PostgreSQL"
        yield Node(_lookup(flow, name), "lookup", name, feed.name, place, {declared.key: key, **joined})
    own = {column: one.type.name for column, one in columns(flow).items()}
    yield Node(flow.name, "dataset" if flow.is_own else "sink", flow.sink, feed.name, sink_of(flow).place(flow), own)
    yield from map(_topic, sorted(sink_of(flow).topics))


def _topic(topic: str) -> Node:
    return Node(f"topic:{topic}", "topic", topic, "", f"the topic {topic}", _OF_A_RECORD)


_OF_A_RECORD = dict(zip(RECORD, ("string", "binary", "array", "timestamp", "string", "int", "long"), strict=True))


def _edges(flow: Flow) -> Iterator[Edge]:
    upstream = flow.upstream.name if flow.upstream else f"topic:{flow.feed.topic}"
    made, deciding = columns(flow), decided_by(flow)
    origins = [*(one for column in made.values() for one in column.made_of), *deciding]
    for lookup in dict.fromkeys(("", *(one.lookup for one in origins))):

        def of_it(found: Sequence[Origin], lookup: str = lookup) -> tuple[Source, ...]:
            return tuple(Source(one.column, one.how, one.by) for one in found if one.lookup == lookup)

        from_it = {name: sources for name, column in made.items() if (sources := of_it(column.made_of))}
        yield Edge(_lookup(flow, lookup) if lookup else upstream, flow.name, from_it, of_it(deciding))
    for topic in sorted(sink_of(flow).topics):
        written = {"value": tuple(Source(name, How.TRANSFORMATION, "JSON") for name in made)}
        yield Edge(flow.name, f"topic:{topic}", written, ())


def _lookup(flow: Flow, name: str) -> str:
    return f"{flow.feed.name}.lookups.{name}"
