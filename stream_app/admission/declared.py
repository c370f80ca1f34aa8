"""What a feed file declares of an output, and what the output was made by: the same, grown, or another one.

`_owner.json` keeps both: `depends_on` has what the state of the query depends on, `columns` what its files have
(flows/columns.py). What has grown takes effect with the start, after the newest batch that is written. All else is
refused, because files, tables and Spark's state would be of two declarations.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from stream_app.admission.rule_versions import halves_of, is_behind
from stream_app.admission.verdict import Code, Finding, Repair, to_reset
from stream_app.feeds.fields import Field
from stream_app.feeds.growth import changes
from stream_app.feeds.schema import COORDINATES
from stream_app.feeds.types import of_arrow
from stream_app.flows import chain, columns, rules
from stream_app.flows.columns import Version
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import replace_text
from stream_app.storage.checkpoint import damaged

Owner = Mapping[str, Any]


@dataclass(frozen=True)
class Note(Repair):
    """Note how an output is declared from now on."""

    owner: Owner
    said: str

    @property
    def sentence(self) -> str:
        """Say what is new."""
        return self.said

    def carry_out(self) -> None:
        """Write it, in one piece."""
        replace_text(self.flow.layout.owner, json.dumps(self.owner, indent=1))


def noted(flow: Flow) -> dict[str, Any]:
    """Return what `_owner.json` says of the declaration of a new output."""
    today = columns.first(flow)
    versions = [*(one for one in _made_before(flow) if one != today), today]
    return {"depends_on": _depends_on(flow), "columns": [one.as_json() for one in versions]}


def inspect(flow: Flow, owner: Owner) -> Iterator[Finding]:
    """Yield what to note of the flow's declaration beside what its `_owner.json` says, or why it is refused."""
    if "columns" not in owner:
        yield from _taken_over(flow, owner)
        return
    try:
        versions = columns.parsed(owner)
        last, new, sources = versions[-1], flow.kind.types, columns.sources_of(flow)
        old = last.columns
    except (ValueError, LookupError, TypeError, AttributeError):
        raise damaged(flow.layout.owner) from None
    found = list(changes(old, new, flow.kind.required))
    problems = [*_differences("", owner.get("depends_on"), _depends_on(flow))]
    problems += [change.sentence for change in found if not change.is_growth]
    if problems:
        problem = f"the feed file changed what {flow.name} keeps: {', and '.join(problems)}"
        yield to_reset(flow, Code.STATE_CHANGED, problem)
        return
    remade = last.remade(sources)
    if remade or [(name, one.name) for name, one in old.items()] != [(name, one.name) for name, one in new.items()]:
        newest = chain.newest_written(flow)
        written = newest.batch_id if newest else -1  # later batches have the columns of today
        # a version without a file is dropped, unless rows that earlier rules make may come yet: the audit needs it
        kept = [version for version in versions if version.after < written or is_behind(flow)]
        grown = [one.as_json() for one in (*kept, Version(written, new, sources))]
        said = [*(change.sentence for change in found), *(f"{path} is read or filled otherwise" for path in remade)]
        what = ", ".join(said) or "its fields are in another order"
        yield Note(flow, {**owner, "columns": grown}, f"{flow.name} has grown after batch {written}: {what}")
    elif last.sources != sources:
        noted_now = [one.as_json() for one in (*versions[:-1], replace(last, sources=sources))]
        yield Note(flow, {**owner, "columns": noted_now}, f"{flow.name} notes what its values are made of")


def first_digest(flow: Flow) -> str:
    """Return what versions up to 0.1 noted of such a declaration."""
    declared = flow.kind.depends_on if flow.derives else flow.kind.shape
    return hashlib.sha256(json.dumps(declared).encode()).hexdigest()[:16]


def _made_before(flow: Flow) -> Iterator[Version]:
    """Yield the columns of rows that a new output is to make by rules of before, since the other half has."""
    if is_behind(flow) and flow.upstream:
        noted_rules = (one for other in halves_of(flow.upstream) if other != flow for one in rules.noted(other))
        for feed in (one.feed for one in noted_rules if one.feed):
            kind = replace(flow.kind, feed=feed)
            yield Version(-1, kind.types, kind.sources)


def _taken_over(flow: Flow, owner: Owner) -> Iterator[Finding]:
    """Yield how an output of such a version is taken over, be the feed file as it was or grown since."""
    was = next((one for one in _as_it_was(flow) if owner.get("state") == first_digest(one)), None)
    if was is None:
        problem = f"the feed file, or a new version, changed what {flow.name} keeps in its state or its columns"
        yield to_reset(flow, Code.STATE_CHANGED, problem)
        return
    others = {key: value for key, value in owner.items() if key != "state"}
    known = {**others, **noted(was)}
    changed = list(inspect(flow, known))
    yield from changed or [Note(flow, known, f"{flow.name} notes its columns, to grow in place from now on")]


def _as_it_was(flow: Flow) -> Iterator[Flow]:
    """Yield the flow, and as it was with the fields that silver's newest file has: a digest tells which is right."""
    yield flow
    silver = next(one for one in flow.of_feed() if one.is_own and one.kind.takes_replayed)
    for file in silver.files()[-1:]:
        held = {one.name: of_arrow(one.type) for one in pq.read_schema(file.path) if one.name not in COORDINATES.names}
        fields = {
            name: flow.feed.fields.get(name, Field(type=one.name)).model_copy(update={"type": one.name})
            for name, one in held.items()
            if one
        }
        feed = flow.feed.model_copy(update={"fields": fields, "rules": {}, "lookups": {}})
        yield replace(flow, feed=feed, kind=replace(flow.kind, feed=feed))


def _depends_on(flow: Flow) -> dict[str, Any]:
    """Return what the query of the flow depends on, beside the columns; a follower on what a lake divides rows by."""
    declared = flow.kind.state if flow.derives else {"time": flow.to.divided_by(flow.kind)}
    found: dict[str, Any] = json.loads(json.dumps(declared))
    return found


def _differences(path: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(f"{path}.{key}" if path else key, old.get(key), new.get(key))
    elif old != new:
        was, now = ("nothing" if one is None else str(one) for one in (old, new))
        yield f"{path} was {was} and is {now}"
