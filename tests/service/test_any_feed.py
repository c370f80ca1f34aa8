"""A feed is a file: one that nobody wrote code for has its windows and its lake."""

from __future__ import annotations

from tests.service.drained import Drained


def test_a_feed_needs_no_line_of_code(drained: Drained) -> None:
    service = drained["readings"]
    assert (service.count("silver"), service.count("quarantine"), service.count("archive")) == (540, 60, 540)
    assert service.query("SELECT sum(readings) > 300, max(warmest) FROM warmest") == [(True, 39.0)]
    assert service.audit().wrong == []
