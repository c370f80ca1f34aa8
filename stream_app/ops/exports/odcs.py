"""A feed as a contract of the Open Data Contract Standard 3.1: its datasets, what their columns hold, and what is kept.

What the standard has no word for, as lateness, is in customProperties. Repeats are dropped for a span alone, so the key
of [dedupe] is no primary key: that of records is where they are in Kafka.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from stream_app.feeds.fields import Field
from stream_app.feeds.types import Type
from stream_app.flows.flow import Flow
from stream_app.kafka.connection import KafkaConnection
from stream_app.layers.kind import Kind
from stream_app.ops.exports.json_schema import held_range
from stream_app.ops.exports.pattern import ecma
from stream_app.sinks.protocol import sink_of

Part = dict[str, Any]
_LOGICAL = {
    **dict.fromkeys(("string", "binary", "uuid", "json"), "string"),
    "boolean": "boolean",
    **dict.fromkeys(("int", "long"), "integer"),
    **dict.fromkeys(("float", "double", "decimal"), "number"),
    "date": "date",
    "timestamp": "timestamp",
    "array": "array",
    **dict.fromkeys(("map", "struct"), "object"),
}


def odcs(flows: Sequence[Flow], kafka: KafkaConnection) -> Part:
    """Return the contract of a feed, whose flows these are; kafka is where its topic is."""
    feed, root = flows[0].feed, flows[0].root
    kinds = {flow.kind.name: flow.kind for flow in flows}
    files = {"server": "files", "type": "local", "path": str(root / feed.name), "format": "parquet"}
    topic = {"server": "topic", "type": "kafka", "host": kafka.bootstrap_servers, "format": "json"}
    time = feed.event_time
    semantics: Part = {
        "topic": feed.topic,
        "eventTime": time.field,
        "lateness": _span(time.lateness),
        "futureTolerance": _span(time.future_tolerance),
        "unknownFields": feed.wire.unknown,
    }
    if feed.dedupe:
        semantics |= {"dedupeKey": list(feed.dedupe.keys), "dedupeWithin": _span(feed.dedupe.within)}
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": f"urn:kafka-medallion:{feed.name}",
        "name": feed.name,
        "version": feed.verdict_digest(),
        "status": "active",
        "description": {
            "purpose": f"The valid records of the topic {feed.topic}, typed, and what they add up to.",
            "limitations": "Records that break it are in quarantine, with every reason. The version is a digest of the "
            "rules: it changes with what is valid.",
        },
        "servers": [files, topic],
        "schema": [_dataset(kind, _kept(kind, flows)) for kind in kinds.values()],
        "customProperties": _custom(semantics),
    }


def _dataset(kind: Kind, kept: Sequence[Part]) -> Part:
    """Return a dataset: its columns, its rules, and where else it is kept."""
    fields = kind.feed.values if kind.judges and not kind.counted else {}
    keys = kind.aggregate.identity if kind.aggregate else ("partition", "offset")
    properties = []
    for name, one in kind.types.items():
        made = _property(name, one, fields.get(name), required=kind.required, path=name)
        if name in keys:
            made |= {"primaryKey": True, "primaryKeyPosition": keys.index(name) + 1}
        properties.append(made)
    quality = list(_rules(kind)) if fields else []
    custom = {"sinks": [*kept]} if kept else {}
    custom |= _timing(kind)
    return {
        "name": kind.name,
        "logicalType": "object",
        "physicalType": "folder of Parquet files" if kind.has_folder else "rows by key",
        "properties": properties,
        **({"quality": quality} if quality else {}),
        **({"customProperties": _custom(custom)} if custom else {}),
    }


def _kept(kind: Kind, flows: Sequence[Flow]) -> list[Part]:
    found = [flow for flow in flows if flow.kind.name == kind.name and not flow.is_own]
    return [
        {"name": one.sink, "place": sink_of(one).place(one), "guarantee": str(sink_of(one).guarantee)} for one in found
    ]


def _timing(kind: Kind) -> Part:
    if not kind.stateful:
        return {}
    declared = kind.stateful.declared
    spans = {name: getattr(declared, name, None) for name in ("window", "slide", "gap", "watermark")}
    return {name: _span(value) for name, value in spans.items() if isinstance(value, timedelta)}


def _property(name: str, kind: Type, field: Field | None, required: frozenset[str], path: str) -> Part:
    """Return a column, or what is in one; `path` is as `required` has it."""
    logical = _LOGICAL[kind.name.partition("(")[0].partition("<")[0]]
    made: Part = {"name": name, "logicalType": logical, "physicalType": kind.name}
    if path in required:
        made["required"] = True
    if logical == "array":
        inner = _property("items", kind.parts["[]"], field.inner if field else None, required, f"{path}[]")
        made["items"] = inner
    elif kind.name.startswith("struct<"):
        members = (field.fields or {}) if field else {}
        made["properties"] = [
            _property(one, inner, members.get(one), required, f"{path}.{one}") for one, inner in kind.parts.items()
        ]
    if field:
        options = _options(field)
        made |= {"logicalTypeOptions": options} if options else {}
        made |= {"quality": [_allowed(field)]} if field.allowed else {}
        custom = _custom(_semantics(name, field))
        made |= {"customProperties": custom} if custom else {}
    return made


def _options(field: Field) -> Part:
    """Return the rules of a field that the standard has words for."""
    length = {"array": ("minItems", "maxItems"), "string": ("minLength", "maxLength")}.get(field.type)
    made: Part = dict(zip(length, field.length, strict=True)) if field.length and length else {}
    if field.number_range:
        made |= held_range(field)
    if field.type == "uuid":
        made["format"] = "uuid"
    if field.pattern and (pattern := ecma(field.pattern)):
        made["pattern"] = pattern
    return made


def _allowed(field: Field) -> Part:
    values = {"validValues": [*(field.allowed or ())]}
    return {"type": "library", "metric": "invalidValues", "arguments": values, "mustBe": 0, "dimension": "conformity"}


def _semantics(name: str, field: Field) -> Part:
    """Return what is to be known of a field beside that."""
    path = ".".join(field.path or (name,))
    found: Part = {"path": path} if path != name else {}
    bounds = field.range if field.range and not field.number_range else None
    found |= {"range": [str(bound) for bound in bounds]} if bounds else {}
    found |= {"length": list(field.length)} if field.length and field.type in {"binary", "map"} else {}
    found |= {"pattern": field.pattern} if field.pattern and not ecma(field.pattern) else {}
    found |= {"default": str(field.default)} if field.default is not None else {}
    found |= {"references": field.references} if field.references else {}
    found |= {"writtenAs": field.format or "number in a text"} if field.format or field.text else {}
    return found | ({"rounded": "to the nearest that the type holds"} if field.type in {"float", "double"} else {})


def _rules(kind: Kind) -> Iterator[Part]:
    """Yield the rules across fields: one that quarantines holds for every row, one that warns need not."""
    for name, rule in kind.feed.rules.items():
        if rule.severity == "warn":
            yield {
                "name": name,
                "type": "text",
                "description": f"Rows that break it are named in warnings: {rule.check}",
            }
        else:
            query = f"SELECT count(*) FROM {{object}} WHERE ({rule.check}) IS NOT TRUE"
            yield {"name": name, "type": "sql", "query": query, "mustBe": 0, "dimension": "consistency"}


def _custom(found: Mapping[str, Any]) -> list[Part]:
    return [{"property": name, "value": value} for name, value in found.items()]


def _span(span: timedelta) -> str:
    seconds = span // timedelta(seconds=1)
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds % size == 0:
            count = seconds // size
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{seconds} second{'s' if seconds != 1 else ''}"
