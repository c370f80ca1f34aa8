"""Whose table it is: what the sink of a table does before its first batch, on a real PostgreSQL and without Spark."""

from __future__ import annotations

from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from pydantic import SecretStr
from pyspark.sql.types import IntegerType, LongType, StringType, StructType, TimestampType

from stream_app.errors import ConfigError, UnavailableError
from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import Flow
from stream_app.settings import PROJECT, Settings
from stream_app.sinks.registry import flows
from tests.helpers import app_settings, claim, commit, plan
from tests.service.servers import Database
from tests.service.table_rows import prepare, run

COLUMNS = StructType().add("window_start", TimestampType()).add("window_end", TimestampType())
COLUMNS = COLUMNS.add("active_users", LongType())
FEED = load_feeds(PROJECT / "conf" / "feeds", ("user_activity",))[0]
ROW: LiteralString = "INSERT INTO active_users VALUES (now(), now(), 7)"


@pytest.fixture
def settings(tmp_path: Path, database: Database) -> Settings:
    return app_settings(tmp_path / "first", database_url=SecretStr(database.url))


def bound(root: Path) -> Flow:
    """The table's flow of a service on that OUTPUT_PATH, which has just begun."""
    found = {flow.sink: flow for flow in flows([FEED], root)}
    for name in ("bronze", "silver", "postgres_active_users"):
        claim(found[name], "topic" if name == "bronze" else None)
    return found["postgres_active_users"]


def committed(flow: Flow, database: Database) -> None:
    """The flow's first batch is done."""
    plan(flow, 0, {"batch": 0})
    commit(flow, 0)
    with psycopg.connect(database.url) as connection:
        connection.execute("UPDATE stream_app_batches SET batch_id = 0 WHERE sink = %s", [flow.name])


def test_a_table_of_someone_else_is_refused_and_left_alone(settings: Settings, database: Database) -> None:
    database.change("CREATE TABLE active_users (name text)")
    database.change("INSERT INTO active_users VALUES ('Ada')")
    with pytest.raises(ConfigError, match=r"has a table active_users that .* has not made; rename or drop it"):
        prepare(bound(settings.output_path), settings, COLUMNS)
    assert database.query("SELECT name FROM active_users") == [("Ada",)]


def test_a_table_goes_on_and_one_that_is_begun_anew_is_empty(settings: Settings, database: Database) -> None:
    flow = bound(settings.output_path)
    prepare(flow, settings, COLUMNS)
    database.change(ROW)
    prepare(flow, settings, COLUMNS)
    committed(flow, database)
    prepare(flow, settings, COLUMNS)
    assert database.query("SELECT active_users, final FROM active_users") == [(7, False)]
    (settings.output_path / "user_activity").rename(settings.output_path / "gone")  # as a reset of all
    prepare(bound(settings.output_path), settings, COLUMNS)
    assert database.query("SELECT count(*) FROM active_users") == [(0,)]


def test_a_wider_column_that_a_view_uses_is_refused_until_the_view_has_gone(
    settings: Settings, database: Database
) -> None:
    flow, narrow = bound(settings.output_path), StructType([*COLUMNS.fields[:2]]).add("active_users", IntegerType())
    prepare(flow, settings, narrow)
    committed(flow, database)
    database.change(ROW)
    database.change("CREATE VIEW most AS SELECT max(active_users) FROM active_users")
    grown = StructType([*COLUMNS.fields]).add("device", StringType())
    with pytest.raises(
        ConfigError, match=r"cannot make active_users.active_users bigint: .*; drop what uses the column"
    ):
        prepare(flow, settings, grown)
    database.change("DROP VIEW most")
    for _ in range(2):
        prepare(flow, settings, grown)
        assert database.query("SELECT active_users, pg_typeof(active_users)::text, device FROM active_users") == [
            (7, "bigint", None)
        ]


@pytest.mark.parametrize("lost", ["active_users", "stream_app_batches"])
def test_what_the_database_lost_is_refused(settings: Settings, database: Database, lost: str) -> None:
    flow = bound(settings.output_path)
    prepare(flow, settings, COLUMNS)
    committed(flow, database)
    with psycopg.connect(database.url) as connection:
        connection.execute(psycopg.sql.SQL("DROP TABLE {}").format(psycopg.sql.Identifier(lost)))
    with pytest.raises(ConfigError, match=r"lacks batches of .*: make reset .* SINK=postgres_active_users"):
        prepare(flow, settings, COLUMNS)


def test_a_checkpoint_older_than_the_table_is_refused(settings: Settings, database: Database) -> None:
    """As from a backup: its next batch would be taken for one that was done, with other rows in it."""
    flow = bound(settings.output_path)
    prepare(flow, settings, COLUMNS)
    committed(flow, database)
    plan(flow, 1, {"batch": 1})
    prepare(flow, settings, COLUMNS)
    with psycopg.connect(database.url) as connection:
        connection.execute("UPDATE stream_app_batches SET batch_id = 1 WHERE sink = %s", [flow.name])
    prepare(flow, settings, COLUMNS)  # died between the two commits
    (flow.checkpoint.path / "offsets" / "1").unlink()
    with pytest.raises(ConfigError, match=r"has batches of .*: make reset .* SINK=postgres_active_users"):
        prepare(flow, settings, COLUMNS)


@pytest.mark.proves("PostgreSQL has each batch exactly once")
def test_of_two_services_on_one_database_the_first_is_refused(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """Once the second has taken the table over: no service goes on with half of its rows."""
    first, second = bound(settings.output_path), bound(tmp_path / "second")
    prepare(first, settings, COLUMNS)
    committed(first, database)
    prepare(second, settings, COLUMNS)
    plan(first, 1, {"batch": 1})
    with pytest.raises(ConfigError, match="was taken over by another query"):
        run(first, database, 1, COLUMNS.names, [])
    with pytest.raises(ConfigError, match="lacks batches"):
        prepare(first, settings, COLUMNS)


def test_a_reader_that_holds_the_table_is_not_waited_for_without_end(settings: Settings, database: Database) -> None:
    flow = bound(settings.output_path)
    prepare(flow, settings, COLUMNS)
    (settings.output_path / "user_activity").rename(settings.output_path / "gone")
    again = bound(settings.output_path)
    with psycopg.connect(database.url) as reader:
        reader.execute("SELECT * FROM active_users")
        with pytest.raises(UnavailableError, match="lock timeout"):
            prepare(again, settings, COLUMNS)
    prepare(again, settings, COLUMNS)
