"""The second feed, which is a declaration: windows, a lake, another topic and tables, each agreeing with silver."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from stream_app.ops.sql import text
from tests.service.activity import check_topic, event
from tests.service.harness import Service, produce
from tests.service.servers import Database, KafkaBroker

COUNT = 20_000
WINDOWS = {
    "page_view_counts": "SELECT window_start, window_end, page_url, page_views FROM",
    "active_users": "SELECT window_start, window_end, active_users FROM",
}
# One that PostgreSQL's texts cannot hold, and one that its indexes cannot.
HOSTILE_PAGES = ("a\0b", "".join(chr(0x4E00 + i * 7919 % 20_000) for i in range(2000)))
SESSION = "session_id, user_id, session_start, session_end, duration_seconds, events, outcome"


def test_every_sink_agrees_with_silver(
    broker: KafkaBroker, database: Database, new_service: Callable[..., Service]
) -> None:
    service = new_service(broker, feed="user_activity", DATABASE_URL=database.url)
    at = time.time() - 2400
    hostile = [event(10**9 + i, at, i, "hostile", "page_view", page) for i, page in enumerate(HOSTILE_PAGES)]
    broker.send(service.feed.topic, hostile)
    produce(service, COUNT=str(COUNT), SEED="7", MSGS_PER_SEC="0", BACKFILL="40 minutes")
    service.drain(MAX_OFFSETS_PER_TRIGGER="2000")
    assert service.count("bronze") == COUNT + len(HOSTILE_PAGES)
    assert service.query("SELECT count(DISTINCT event_id) = count(*) FROM silver") == [(True,)]
    report = service.audit()
    assert report.wrong == []
    assert all(report.counts[f"postgres_{table}"] for table in (*WINDOWS, "user_sessions"))
    _check_late(service)
    _check_tables(service, database)
    _check_sessions(service, database)
    _check_lake(service)
    check_topic(service, broker)
    database.change("UPDATE active_users SET active_users = active_users + 1 WHERE final")
    database.change("DELETE FROM user_sessions WHERE final AND outcome = 'ended'")
    windows, sessions = service.audit().wrong
    assert windows.startswith("postgres_active_users is not what silver's final windows add up to")
    assert sessions.startswith("postgres_user_sessions is not what silver's final sessions are")
    _lose_the_database(service, database)


def _lose_the_database(service: Service, database: Database) -> None:
    """It is refused, not filled with what comes from now on; a reset fills it from silver."""
    database.change("DROP TABLE stream_app_batches, page_view_counts, active_users, user_sessions")
    log = service.drain(expected=2)
    assert "lacks batches of user_activity.postgres_page_view_counts" in log.splitlines()[-1]
    for table in (*WINDOWS, "user_sessions"):
        assert f"postgres_{table}" in service.op("reset", SINK=f"postgres_{table}", YES="1")
    service.drain()
    report = service.audit()
    assert report.wrong == []
    assert all(report.counts[f"postgres_{table}"] for table in (*WINDOWS, "user_sessions"))


def _check_late(service: Service) -> None:
    for window in WINDOWS:
        assert service.count(window) > 0
        assert service.count(f"late_{window}") > 0, "an event of three minutes ago misses a watermark of two"
    missed = service.query("SELECT DISTINCT window_end - window_start, event_type FROM late_page_view_counts")
    assert [(str(length), event) for length, event in missed] == [("0:01:00", "page_view")]


def _check_tables(service: Service, database: Database) -> None:
    """Final rows are gold's; the others are the windows that the watermark has not passed."""
    for window, select in WINDOWS.items():
        final = database.query(f"{select} {window} WHERE final")
        gold = [
            tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row)
            for row in service.query(f"{select} {window}")
        ]
        assert Counter(final) == Counter(gold)
        (opened,) = database.query(f"SELECT min(window_end), count(*) FROM {window} WHERE NOT final")
        (newest,) = service.query(f"SELECT max(window_end) FROM {window}")
        assert opened[1] != 0
        assert str(opened[0]) > str(newest[0])


def _check_sessions(service: Service, database: Database) -> None:
    """Of a session that is final the table holds what gold holds; a session stands once, open or final."""
    final = database.query(f"SELECT {SESSION} FROM user_sessions WHERE final ORDER BY 1, 2, 3")
    assert final == service.query(f"SELECT {SESSION} FROM user_sessions ORDER BY 1, 2, 3")
    assert {row[-1] for row in final} == {"ended", "timed_out"}
    doubled = "SELECT session_id, user_id, session_end FROM user_sessions GROUP BY 1, 2, 3 HAVING count(*) > 1"
    assert database.query(doubled) == []


def _check_lake(service: Service) -> None:
    assert service.query("SELECT * EXCLUDE (event_date) FROM lake ORDER BY ALL") == service.contents("silver")
    flow = service.flows["lake"]
    for file in flow.files():
        date = file.path.parent.name.removeprefix("event_date=")
        assert service.query(f"SELECT DISTINCT event_time::DATE::VARCHAR FROM {text(file.path)}") == [(date,)]
