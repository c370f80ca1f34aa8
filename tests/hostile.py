"""A feed whose every name is a word of SQL, of Spark or of our own; and what its records look like."""

import json

from tests.helpers import at

FEED = """
topic = "order"
[fields]
user = { type = "string", path = "user's id" }
end = { type = "timestamp", path = "@timestamp" }
window = { type = "string", path = ["a.b"] }
first = { type = "string", path = "größe" }
last = { type = "string", path = "$ref" }
ended = { type = "string", path = "with-dash" }
events = { type = "string", path = "a b" }
final = { type = "string", path = "[/x]" }
select = { type = "long", range = [0, 1000000] }
group = { type = "decimal(18,2)" }
table = { type = "double" }
all = { type = "boolean" }
key = { type = "string" }
value = { type = "string" }
headers = { type = "string" }
reasons = { type = "string" }
processing_time = { type = "string" }
session_start = { type = "string" }
current_user = { type = "string" }
input_file_name = { type = "string" }
[event_time]
field = "end"
lateness = "1 day"
future_tolerance = "1 day"
[dedupe]
key = "user"
within = "1 hour"
[windows.from]
key = "window"
window = "1 minute"
watermark = "1 second"
where = { current_user = "me" }
[windows.from.measures]
end = "count"
start = "sum(select)"
group = "avg(group)"
order = "max(table)"
key = "distinct(first)"
[windows.window]
window = "1 minute"
slide = "30 seconds"
watermark = "1 second"
measures = { window = "count", last = "min(select)", final = "sum(group)" }
[windows.gold]
key = "final"
window = "1 minute"
watermark = "1 second"
measures = { count = "count", struct = "distinct(window)" }
[sessions.user]
keys = ["first", "last", "ended", "final", "value"]
ends = { window = "bye", key = "k" }
gap = "1 minute"
watermark = "1 second"
[sinks.raw_csv]
of = "silver"
to = "csv"
[sinks.table]
of = "silver"
to = "lake"
"""
"""Without a topic and tables, which leave some of these names no room."""

MORE = """
[sinks.select]
of = "silver"
to = "kafka"
topic = "order-out"
key = "window"
headers = ["first", "key"]
[sinks.postgres_excluded]
of = "from"
to = "postgres"
table = "excluded"
[sinks.postgres_incoming]
of = "window"
to = "postgres"
table = "incoming"
[sinks.postgres_user]
of = "user"
to = "postgres"
table = "user"
"""


def elsewhere(topic: str) -> str:
    """Return the feed with a topic and tables, and without those names."""
    text = FEED.replace('processing_time = { type = "string" }\n', "").replace('"ended", "final"', '"ended"')
    text = text.replace(', final = "sum(group)"', ', order = "sum(group)"')
    return (text + MORE).replace('"order', f'"{topic}')


def record(number: int, seconds: float, **changed: object) -> bytes:
    texts = dict.fromkeys(("key", "value", "headers", "reasons", "processing_time", "session_start"), "k")
    keys = {"user's id": f"u{number}", "@timestamp": at(seconds).isoformat(), "a.b": "w"}
    wires = dict.fromkeys(("größe", "$ref", "with-dash", "a b", "[/x]", "input_file_name"), "s")
    rest = {"select": 3, "group": 1.5, "table": 0.5, "all": True, "current_user": "me"}
    return json.dumps({**texts, **keys, **wires, **rest, **changed}).encode()
