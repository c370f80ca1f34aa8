"""A topic falls silent: the last windows and sessions become final without a record, through kills and outages."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from stream_app.flows.completeness import complete_up_to
from stream_app.flows.flow import Flow
from stream_app.storage.offsets import in_layer
from tests.service.harness import Service, quick, wait_for
from tests.service.servers import Database, KafkaBroker

FEED = """
topic = "doors"
[fields.id]
type = "string"
[fields.at]
type = "timestamp"
[fields.door]
type = "string"
[event_time]
field = "at"
lateness = "2 hours"
future_tolerance = "1 minute"
idle = "5 seconds"
[windows.by_door]
key = "door"
window = "5 seconds"
watermark = "2 seconds"
measures = { opened = "count" }
where = { door = "north" }
[sessions.visits]
keys = ["door"]
gap = "4 seconds"
watermark = "2 seconds"
[sinks.fresh]
of = "by_door"
to = "postgres"
table = "doors"
[sinks.fresh_delta]
of = "by_door"
to = "delta"
fresh = true
"""
CLOCKED = ("by_door", "visits", "fresh", "fresh_delta")


def opened(first: int, ats: Sequence[float]) -> list[tuple[str, bytes, int]]:
    found = []
    for number, at in enumerate(ats, first):
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        door = "south" if number % 3 == 2 else "north"
        record = {"id": f"d{number}", "at": moment, "door": door}
        found.append((f"d{number}", json.dumps(record).encode(), int(at * 1000)))
    return found


def went_to(flow: Flow) -> int:
    committed = flow.checkpoint.last_committed()
    return in_layer(committed.end).idle_clock if committed else 0


def final_up_to(flow: Flow) -> float:
    done = complete_up_to(flow)
    return done.timestamp() if done else 0.0


def counted(service: Service) -> int:
    return int(str(service.query("SELECT coalesce(sum(opened), 0) FROM by_door")[0][0]))


@pytest.mark.proves("Late rows are kept", "windows", "sessions")
def test_the_last_windows_become_final_without_a_record(
    broker: KafkaBroker, database: Database, class_archive: Path, tmp_path: Path
) -> None:
    broker.create_topic("doors")
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    (feeds / "doors.toml").write_text(FEED)
    environment = quick(tmp_path, class_archive) | {"DATABASE_URL": database.url, "MAX_FAILURES": "1000"}
    service = Service(tmp_path / "output", feeds, broker.address, environment, "doors")
    flows = service.flows
    now = time.time()
    try:
        broker.send("doors", opened(0, [now - 60, now - 50, now - 40, now - 30, now - 20]))
        service.start()
        wait_for(lambda: service.count("silver") == 5, "silver to have all")
        # each window and each session, though no record came
        wait_for(lambda: counted(service) == 4 and service.count("visits") == 5, "the last windows and sessions")
        # its query may not have come to make it
        wait_for(lambda: database.query("SELECT 1 FROM pg_tables WHERE tablename = 'doors'"), "the table")
        wait_for(
            lambda: database.query("SELECT sum(opened), bool_and(final) FROM doors") == [(4, True)],
            "the table to have the same",
        )
        seen = "SELECT sum(opened), bool_and(final) FROM fresh_delta"
        wait_for(lambda: service.query(seen) == [(4, True)], "the Delta table to have the same")
        # as of a batch that is committed, which is a moment after its file is there
        wait_for(lambda: final_up_to(flows["by_door"]) > now - 20, "it to be told that they are final")
        assert final_up_to(flows["by_door"]) < time.time()
        assert service.audit().wrong == []

        service.kill()
        before = {name: went_to(flows[name]) for name in CLOCKED}
        assert all(before.values())
        # behind the watermark by now, and newer than all, also than where the clock went by itself
        sent = time.time()
        broker.send("doors", opened(5, [now - 31, now - 30, sent]))
        service.start()
        wait_for(lambda: service.count("silver") == 8, "the records that came meanwhile")
        wait_for(lambda: all(went_to(flows[name]) > before[name] for name in CLOCKED), "the clock to go on")
        service.kill()
        service.start(MAX_FILES_PER_SINK="2")
        wait_for(
            lambda: all(went_to(flows[name]) / 1e6 > sent + 15 and not flows[name].untaken() for name in CLOCKED),
            "the clock to go on after a kill",
        )
        report = service.audit()
        assert report.wrong == []
        late = service.query("SELECT count(*) FROM late_by_door UNION ALL SELECT count(*) FROM late_visits")
        assert [int(str(number)) for (number,) in late] == [1, 2]

        # while nobody knows what the topic has, the clock waits
        broker.stop()
        silent = time.time() - flows["silver"].files()[-1].time.timestamp()
        time.sleep(25)  # it would have gone on twice
        assert all(went_to(flows[name]) / 1e6 <= sent + silent for name in CLOCKED)
        broker.start()
        at = time.time()
        broker.send("doors", opened(8, [at - 1, at]))
        wait_for(lambda: counted(service) == 6, "what came after the outage is in time")
        service.stop()
        assert service.audit().wrong == []
    finally:
        service.kill()
        shutil.rmtree(feeds)
