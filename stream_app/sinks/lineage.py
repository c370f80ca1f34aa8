"""Of what the columns of a flow's output are made, from the declaration alone: no data is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from stream_app.feeds.types import Type
from stream_app.flows.flow import Flow
from stream_app.layers.origin import How, Origin, Origins
from stream_app.sinks.protocol import sink_of

RECORD = ("key", "value", "headers", "timestamp", "topic", "partition", "offset")
"""What a record of Kafka has, as columns of its topic."""


class Column(NamedTuple):
    """A column that readers of an output find."""

    type: Type
    made_of: Origins
    """Columns of the upstream, which is the topic of bronze, or of lookups."""


def columns(flow: Flow) -> dict[str, Column]:
    """Return the columns of a flow's output, each with those of its upstream that it is made of."""
    kind = flow.kind
    made = {name: Column(one, made_of) for name, (one, made_of) in sink_of(flow).reader_columns(kind).items()}
    if not flow.derives:
        return made
    return {name: Column(one.type, tuple(_through(one.made_of, kind.origins))) for name, one in made.items()}


def decided_by(flow: Flow) -> Origins:
    """Return the columns of the upstream and of lookups that decide which rows there are."""
    return flow.kind.decided_by if flow.derives else ()


def _through(made_of: Origins, dataset: Mapping[str, Origins]) -> Iterator[Origin]:
    """Yield what columns of a dataset are made of that the flow derives itself."""
    for outer in made_of:
        for inner in dataset[outer.column]:
            yield inner if outer.how is How.IDENTITY else replace(inner, how=_stronger(outer, inner), by=outer.by)


def _stronger(outer: Origin, inner: Origin) -> How:
    return inner.how if inner.how is How.AGGREGATION else outer.how
