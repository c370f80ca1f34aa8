"""The second feed, which is a declaration: windows, a lake, another topic and tables, each agreeing with silver."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from stream_app.feeds.sql import text
from tests.service.activity import check_topic
from tests.service.drained import COUNT, HOSTILE_PAGES, LATE, Drained
from tests.service.harness import Service
from tests.service.servers import DatabaseServer, KafkaBroker

WINDOWS = {
    "page_view_counts": "SELECT window_start, window_end, page_url, page_views FROM",
    "active_users": "SELECT window_start, window_end, active_users FROM",
}
SESSION = "session_id, user_id, session_start, session_end, duration_seconds, events, outcome"


@pytest.fixture(scope="module")
def service(drained: Drained) -> Service:
    """What became of records of a fixed seed, and of some hostile pages."""
    return drained["user_activity"]


def test_each_event_is_once_in_silver_and_the_audit_looks_at_every_table(service: Service) -> None:
    assert service.count("bronze") == COUNT + len(HOSTILE_PAGES) + LATE
    assert service.query("SELECT count(DISTINCT event_id) = count(*) FROM silver") == [(True,)]
    report = service.audit()
    assert report.wrong == []
    assert all(report.counts[f"postgres_{table}"] for table in (*WINDOWS, "user_sessions"))


@pytest.mark.proves("Nothing is lost and nothing is twice", "topic")
def test_a_consumer_of_the_topic_sees_silver(service: Service, broker: KafkaBroker) -> None:
    check_topic(service, broker)


def test_the_audit_names_a_table_that_was_tampered_with(
    service: Service, drained: Drained, database_server: DatabaseServer
) -> None:
    database = database_server.copy(drained.database)
    database.change("UPDATE active_users SET active_users = active_users + 1 WHERE final")
    database.change("DELETE FROM user_sessions WHERE final AND outcome = 'ended'")
    other = replace(service, environment=service.environment | {"DATABASE_URL": database.url})
    windows, sessions = other.audit().wrong
    assert windows.startswith("postgres_active_users is not what silver's final windows are")
    assert sessions.startswith("postgres_user_sessions is not what silver's final sessions are")


@pytest.mark.proves("Late rows are kept", "windows")
def test_what_comes_late_is_kept(service: Service) -> None:
    for window in WINDOWS:
        assert service.count(window) > 0
        late = f"SELECT count(DISTINCT event_id) FROM late_{window} WHERE session_id = 'late'"
        assert service.query(late) == [(LATE,)]
    missed = service.query("SELECT DISTINCT window_end - window_start, event_type FROM late_page_view_counts")
    assert [(str(length), event) for length, event in missed] == [("0:01:00", "page_view")]


@pytest.mark.proves("Nothing is lost and nothing is twice", "postgres")
def test_final_rows_of_the_tables_are_gold_s(service: Service, drained: Drained) -> None:
    """The others are of the windows that the watermark has not passed."""
    database = drained.database
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


@pytest.mark.proves("Nothing is lost and nothing is twice", "sessions", "postgres")
def test_a_session_is_once_in_its_table(service: Service, drained: Drained) -> None:
    """Of one that is final it holds what gold holds; the others are open."""
    database = drained.database
    final = database.query(f"SELECT {SESSION} FROM user_sessions WHERE final ORDER BY 1, 2, 3")
    assert final == service.query(f"SELECT {SESSION} FROM user_sessions ORDER BY 1, 2, 3")
    assert {row[-1] for row in final} == {"ended", "timed_out"}
    doubled = "SELECT session_id, user_id, session_end FROM user_sessions GROUP BY 1, 2, 3 HAVING count(*) > 1"
    assert database.query(doubled) == []


@pytest.mark.proves("Nothing is lost and nothing is twice", "lake")
def test_the_lake_has_silver_by_date(service: Service) -> None:
    assert service.query("SELECT * EXCLUDE (event_date) FROM lake ORDER BY ALL") == service.contents("silver")
    flow = service.flows["lake"]
    for file in flow.files():
        date = file.path.parent.name.removeprefix("event_date=")
        assert service.query(f"SELECT DISTINCT event_time::DATE::VARCHAR FROM {text(file.path)}") == [(date,)]
