"""The second feed under faults: death at named points, a database that is killed; and a feed that nobody coded for."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.service.activity import check_topic, event
from tests.service.fixtures import running_database_server
from tests.service.harness import Service, wait_for
from tests.service.servers import Database, DatabaseServer, KafkaBroker

# A point each sink has of its own; those that all share are tried in test_fail_points.py.
STEPS = [
    ("user_sessions", "renamed"),
    ("lake", "staged"),
    ("enriched_activity", "before_commit"),
    ("lake", "renamed"),
    ("postgres_page_view_counts", "staged"),
    ("postgres_page_view_counts", "renamed"),
    ("postgres_user_sessions", "before_commit"),
]
COMPARED = ("silver", "raw_csv", "page_view_counts", "active_users", "user_sessions", "lake")
TABLES = {
    "page_view_counts": "SELECT window_start, page_url, page_views, final FROM page_view_counts ORDER BY 1, 2",
    "active_users": "SELECT window_start, active_users, final FROM active_users ORDER BY 1",
    "user_sessions": "SELECT * FROM user_sessions ORDER BY session_id, user_id, session_start",
}
EVENTS = ("session_start", "page_view", "page_view", "click", "session_end")
KILLED = -9


def _events(step: int, first: float) -> list[tuple[str, bytes | None, int]]:
    """Twelve minutes of ten sessions; one step lies on both sides of midnight."""
    start = first + step * 720
    records: list[tuple[str, bytes | None, int]] = []
    for session, (number, event_type) in itertools.product(range(10), enumerate(EVENTS)):
        if session % 5 == 4 and event_type == "session_end":
            continue  # this one just leaves
        at = start + session * 60 + number * 20
        unique = step * 1000 + session * 10 + number
        records.append(event(unique, at, session, f"s{step}-{session}", event_type, number))
    return records


def _midnight() -> float:
    """Some steps before the last midnight after which a dozen more have passed, UTC: none is of the future."""
    now = time.time() - 12 * 720
    return now - now % 86_400 - 720 * 3.5


@pytest.mark.proves(
    "Nothing is lost and nothing is twice", "silver", "windows", "sessions", "csv", "lake", "topic", "postgres"
)
@pytest.mark.proves("PostgreSQL has each batch exactly once")
@pytest.mark.proves("A lake has each row exactly once")
@pytest.mark.proves("Another topic has each row at least once")
def test_death_at_the_points_of_each_sink_loses_and_doubles_nothing(
    broker: KafkaBroker, database: Database, new_service: Callable[..., Service]
) -> None:
    disturbed = new_service(broker, feed="user_activity", DATABASE_URL=database.url)
    first = _midnight()
    for step, (sink, point) in enumerate(STEPS):
        broker.send(disturbed.feed.topic, _events(step, first))
        disturbed.start(TRIGGER_INTERVAL="available-now", FAIL_POINT=f"user_activity.{sink}:{point}")
        disturbed.end(KILLED)
    disturbed.drain()
    assert disturbed.audit().wrong == []
    check_topic(disturbed, broker)
    assert len({file.path.parent for file in disturbed.flows["lake"].files()}) == 2, "the lake has two dates"
    found = {name: disturbed.contents(name) for name in COMPARED}
    tables = {name: database.query(sql) for name, sql in TABLES.items()}
    assert all(found.values())
    assert all(tables.values())
    disturbed.op("reset", SINK="silver", YES="1")  # and all that follows it, read again without a fault
    disturbed.drain()
    assert {name: disturbed.contents(name) for name in COMPARED} == found
    assert {name: database.query(sql) for name, sql in TABLES.items()} == tables


@pytest.mark.proves("Nothing is lost and nothing is twice", "postgres")
def test_a_database_that_is_killed_is_waited_for_and_loses_and_doubles_nothing(
    broker: KafkaBroker, new_service: Callable[..., Service]
) -> None:
    with running_database_server() as server:
        _kill_a_database(server, broker, new_service)


def _kill_a_database(server: DatabaseServer, broker: KafkaBroker, new_service: Callable[..., Service]) -> None:
    database = server.create()
    service = new_service(broker, feed="user_activity", DATABASE_URL=database.url)
    first = _midnight()
    service.start()
    broker.send(service.feed.topic, _events(0, first))
    wait_for(lambda: _count(database, "page_view_counts"), "the first rows")
    server.kill()
    for step in (1, 2):
        broker.send(service.feed.topic, _events(step, first))
        wait_for(partial(_holds, service, (step + 1) * 48), "the other sinks to go on")
    server.start()
    for table in ("page_view_counts", "active_users", "user_sessions"):
        wait_for(partial(_agrees, service, database, table), f"the final rows of {table}")
    service.stop()
    views = "SELECT sum(page_views) FROM page_view_counts"
    assert database.query(views) == service.query("SELECT count(*) FROM silver WHERE event_type = 'page_view'")
    assert service.audit().wrong == []


def _count(database: Database, table: str) -> int:
    if not database.query(f"SELECT 1 FROM pg_tables WHERE tablename = '{table}'"):
        return 0
    return int(str(database.query(f"SELECT count(*) FROM {table}")[0][0]))


def _agrees(service: Service, database: Database, table: str) -> bool:
    if not _count(database, table):  # its query had not come to make it when the database was killed
        return False
    final = database.query(f"SELECT count(*) FROM {table} WHERE final")
    return final != [(0,)] and final == service.query(f"SELECT count(*) FROM {table}")


def _holds(service: Service, rows: int) -> bool:
    return service.count("silver") == service.count("raw_csv") == rows
