"""Up to 0.1 every feed had a CSV, which no feed file declared: it must not end without a word."""

from __future__ import annotations

from collections.abc import Iterator

from stream_app.admission.verdict import Code, Refusal
from stream_app.flows.flow import Flow
from stream_app.storage.layout import Layout

_CSV = "raw_csv"


def inspect(flow: Flow) -> Iterator[Refusal]:
    """Yield a refusal of bronze, with the lines to add, where its feed has such a CSV on disk and declares none."""
    layout = Layout(flow.root, flow.feed.name, _CSV)
    if flow.upstream is None and layout.owner.exists() and _CSV not in {each.sink for each in flow.of_feed()}:
        line = f'[sinks.{_CSV}] of = "silver", to = "csv"'
        problem = f"{layout.output} is a CSV of {flow.feed.name} that its feed file does not declare"
        sentence = f"{problem}; add {line} to go on with it, or move the folder away"
        yield Refusal(flow.name, Code.UNDECLARED, sentence)
