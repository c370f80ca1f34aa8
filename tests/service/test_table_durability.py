"""What is on PostgreSQL's disk once a batch counts, on a real one that is told to flush nothing."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from stream_app.feeds.load import load_feeds
from stream_app.settings import PROJECT
from stream_app.sinks.postgres_batch import MARKERS
from stream_app.sinks.registry import flows
from tests.helpers import app_settings, at, claim
from tests.service.servers import Database
from tests.service.table_rows import WINDOWS, prepare, write

ASKED = """
CREATE TABLE asked (batch bigint, flushes text);
CREATE FUNCTION ask() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO asked VALUES (NEW.batch_id, current_setting('synchronous_commit'));
    RETURN NEW;
END $$;
CREATE TRIGGER ask BEFORE INSERT ON stream_app_batches FOR EACH ROW EXECUTE FUNCTION ask();
"""


@pytest.mark.parametrize(("set_to", "flushes"), [("off", "on"), ("local", "local"), ("on", "on")])
def test_what_a_batch_has_written_is_flushed_whatever_the_server_is_told(
    tmp_path: Path, database: Database, set_to: str, flushes: str
) -> None:
    """Or a server that crashes loses batches that Spark counts as written, and the next start asks for a reset."""
    with psycopg.connect(database.url) as connection:
        alter = sql.SQL("ALTER DATABASE {} SET synchronous_commit = {}")
        connection.execute(alter.format(sql.Identifier(connection.info.dbname), sql.Literal(set_to)))
        connection.execute(MARKERS)
        connection.execute(ASKED)
    found = {flow.sink: flow for flow in flows(load_feeds(PROJECT / "conf" / "feeds", ["user_activity"]), tmp_path)}
    for name in ("bronze", "silver", "postgres_page_view_counts"):
        claim(found[name], "topic" if name == "bronze" else None)
    flow = found["postgres_page_view_counts"]
    prepare(flow, app_settings(tmp_path, database_url=SecretStr(database.url)), WINDOWS)
    write(flow, database, 0, WINDOWS.names, [(at(0), at(60), "/", 1)])
    assert database.query("SELECT batch, flushes FROM asked ORDER BY batch") == [(-1, flushes), (0, flushes)]
