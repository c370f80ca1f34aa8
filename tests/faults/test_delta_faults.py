"""Delta tables under faults: death at named points, of batches and of merges, leaves them what silver adds up to."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.faults.test_activity_faults import KILLED, _events, _midnight
from tests.service.activity import with_delta_tables
from tests.service.harness import Service
from tests.service.servers import Database, KafkaBroker

STEPS = [
    ("activity_table", "mid_staging", "48"),
    ("views_now", "staged", "48"),
    ("sessions_now", "renamed", "48"),
    ("activity_table", "renamed", "48"),
    ("views_now", "renamed", "48"),
    ("sessions_now", "mid_staging", "48"),
    ("users_now", "staged", "48"),
    ("users_now", "renamed", "48"),
    ("liveliest_now", "renamed", "48"),
    ("activity_table", "merged", "2"),
    ("activity_table", "swapped", "2"),
]
TABLES = ("activity_table", "views_now", "sessions_now", "users_now", "liveliest_now")


@pytest.mark.faults
@pytest.mark.proves("Nothing is lost and nothing is twice", "delta")
@pytest.mark.proves("A Delta table has each batch exactly once")
def test_death_at_the_points_of_delta_tables_loses_and_doubles_nothing(
    broker: KafkaBroker, database: Database, new_service: Callable[..., Service]
) -> None:
    service = with_delta_tables(new_service, broker, database)
    first = _midnight()
    for step, (sink, point, most) in enumerate(STEPS):
        broker.send(service.feed.topic, _events(step, first))
        fails = f"user_activity.{sink}:{point}"
        service.start(TRIGGER_INTERVAL="available-now", FAIL_POINT=fails, MAX_FILES_PER_SINK=most)
        service.end(KILLED)
    service.drain()
    assert service.audit().wrong == []
    assert service.contents("activity_table") != []
    assert service.query("SELECT * EXCLUDE (event_date) FROM activity_table ORDER BY ALL") == service.contents("silver")
    for table, dataset in (("views_now", "page_view_counts"), ("sessions_now", "user_sessions")):
        final = f"SELECT * EXCLUDE (final) FROM {table} WHERE final ORDER BY ALL"
        assert service.query(final) == service.contents(dataset) != []
    by_user = "SELECT user_id, count(*) AS events, max(event_time) AS last FROM silver GROUP BY user_id ORDER BY ALL"
    assert service.query("SELECT user_id, events, last FROM users_now ORDER BY ALL") == service.query(by_user) != []
    rows = pa.table(DeltaTable(service.flows["activity_table"].layout.output).scan(columns=["event_id"]).read_all())
    assert rows.num_rows == service.count("silver")
    found = {name: service.contents(name) for name in TABLES}
    service.op("reset", SINK="silver", YES="1")  # and all that follows it, read again without a fault
    service.drain()
    assert {name: service.contents(name) for name in TABLES} == found
