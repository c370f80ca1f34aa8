"""The second feed, which is a declaration: its windows agree with silver, and who came too late for one is kept."""

from __future__ import annotations

from collections.abc import Callable

from tests.service.harness import KafkaBroker, Service, produce

COUNT = 20_000


def test_windows_count_what_silver_holds_less_what_is_kept_as_late(
    broker: KafkaBroker, new_service: Callable[..., Service]
) -> None:
    service = new_service(broker, feed="user_activity")
    produce(service, COUNT=str(COUNT), SEED="7", MSGS_PER_SEC="0", BACKFILL="40 minutes")
    service.drain(MAX_OFFSETS_PER_TRIGGER="2000")
    assert service.count("bronze") == COUNT
    assert service.query("SELECT count(DISTINCT event_id) = count(*) FROM silver") == [(True,)]
    assert service.audit().wrong == []
    for window in ("page_view_counts", "active_users"):
        assert service.count(window) > 0
        assert service.count(f"late_{window}") > 0, "an event of three minutes ago misses a watermark of two"
    missed = service.query("SELECT DISTINCT window_end - window_start, event_type FROM late_page_view_counts")
    assert [(str(length), event) for length, event in missed] == [("0:01:00", "page_view")]
    assert service.query("SELECT count(*) FROM active_users WHERE window_end - window_start != INTERVAL 5 minutes") == [
        (0,)
    ]
