"""Reference data by a query of a real PostgreSQL: its rows, its mistakes, and a database that is away."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from stream_app.errors import ConfigError, UnavailableError
from stream_app.feeds.feed import Feed
from stream_app.sinks.registry import flows
from stream_app.sources.lookup import Source
from stream_app.sources.lookups import Lookups
from stream_app.storage import pins
from stream_app.storage.snapshots import KEY
from tests.outputs import Output, Record
from tests.service.servers import Database
from tests.unit.audited import at

FEED = """
topic = "sales"
[fields.id]
type = "uuid"
references = "things"
[fields.at]
type = "timestamp"
[lookups.things]
key = "id"
query = "SELECT 1"
[lookups.things.columns]
price = "decimal(18,2)"
weight = "double"
name = "string"
is_new = "boolean"
since = "timestamp"
day = "date"
[event_time]
field = "at"
lateness = "1 hour"
future_tolerance = "1 hour"
[dedupe]
key = "id"
within = "1 hour"
"""
ID = "0190f0c4-7d1e-7c3a-9f00-00000000000a"
ROW = f"""SELECT '{ID.upper()}' AS id, 12.50 AS price, 0.1::float8 AS weight, E'a\\n"b",\\u2028 %s' AS name,
 true AS is_new, '2026-01-01 01:00:00+01'::timestamptz AS since, date '0044-03-15' AS day, 7 AS more"""


def feed(query: str) -> Feed:
    declared = tomllib.loads(FEED, parse_float=Decimal) | {"name": "sales"}
    declared["lookups"]["things"]["query"] = query
    return Feed.model_validate(declared)


def rows(database: Database, query: str) -> list[dict[str, Any]]:
    table = Source.of(feed(query), "things", Path(), database.url).read()
    return list(table.drop_columns(["_index"]).to_pylist())


def test_the_rows_of_a_query_are_those_of_the_database(database: Database) -> None:
    (one,) = rows(database, ROW)
    assert one.pop(KEY) == ID
    assert one.pop("since").isoformat() == "2026-01-01T00:00:00+00:00"
    assert one.pop("day").isoformat() == "0044-03-15"
    assert one == {"price": Decimal("12.50"), "weight": 0.1, "name": 'a\n"b",\u2028 %s', "is_new": True}
    empty = "SELECT gen_random_uuid()::text AS id, NULL AS price, NULL AS weight, '' AS name, NULL AS is_new, "
    (one,) = rows(database, f"{empty} NULL AS since, NULL AS day -- an end that a person types")
    assert one["name"] == ""
    assert {one[name] for name in ("price", "weight", "is_new", "since", "day")} == {None}


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("SELECT * FROM nowhere", 'relation "nowhere" does not exist'),
        ("SELECT 1 AS x", "there is no column"),
        (ROW.replace("12.50", "'dear'"), 'price of row 1 is "dear", which is no decimal'),
        (ROW.replace(ID.upper(), "x"), 'id of row 1 is "x", which is no uuid'),
        (f"{ROW} UNION ALL {ROW}", "is there more than once"),
        (f"{ROW} WHERE false", "has no rows"),
        ("WITH gone AS (DELETE FROM things RETURNING *) SELECT * FROM gone", "things"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_lookup(database: Database, query: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        rows(database, query)
    assert str(raised.value).startswith("lookups.things of sales: ")
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_query_writes_nothing(database: Database) -> None:
    database.change("CREATE TABLE things (id text)")
    with pytest.raises(ConfigError, match="read-only transaction"):
        rows(database, "WITH gone AS (INSERT INTO things VALUES ('a') RETURNING id) SELECT id FROM gone")


def test_a_database_that_is_away_leaves_the_last_snapshot_and_refuses_a_first_start(
    database: Database, tmp_path: Path
) -> None:
    away = SecretStr("postgresql://somebody:secret@127.0.0.1:9/db")
    made = feed(ROW)
    bronze = flows([made], tmp_path)[0]
    with pytest.raises(UnavailableError, match=r"lookups.things of sales: DATABASE_URL gives no rows") as raised:
        Lookups(bronze, Path(), away).begin()
    assert "secret" not in str(raised.value)
    lookups = Lookups(bronze, Path(), SecretStr(database.url))
    lookups.begin()
    output = Output(made, tmp_path, pin=lookups.pin())
    output.take([Record(f'{{"id": "{ID}", "at": "{at(0).isoformat()}"}}'.encode(), at(0))], at(1))
    again = Lookups(bronze, Path(), away)
    again.begin()
    assert again.pin() == output.pin
    assert again.failures == {"things": 1}
    assert pins.hashes_of(output.pin).keys() == {made.pinned["things"]}
