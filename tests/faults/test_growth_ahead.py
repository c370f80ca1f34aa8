"""A feed is changed again and again while its outputs are at different batches: each record is judged by one version.

kill -9 leaves silver, quarantine and what follows silver wherever they were. None of the starts asks for a reset.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stream_app.admission.rule_versions import _judged
from stream_app.flows import rules
from stream_app.flows.rules import version_of
from tests.service.harness import Service, quick, wait_for
from tests.service.servers import Database, KafkaBroker

TOPIC, FEED = "purchases-ahead", "purchases"
COUNT = 120
HOLD, DIE = "hold", "die"

BASE = """
topic = "{topic}"
[fields.id]
type = "string"
[fields.at]
type = "timestamp"
[fields.customer]
type = "string"
[fields.amount]
type = "{amount}"
range = [0, {limit}]
[fields.count]
type = "{count}"
{more}
[event_time]
field = "at"
lateness = "2 hours"
future_tolerance = "1 minute"
[dedupe]
key = "id"
within = "1 hour"
[windows.by_customer]
key = "customer"
window = "1 minute"
watermark = "1 minute"
measures = {{ purchases = "count" }}
[totals.per_customer]
keys = ["customer"]
measures = {{ purchases = "count" }}
[sinks.raw_csv]
of = "silver"
to = "csv"
[sinks.lake]
of = "silver"
to = "lake"
[sinks.delta]
of = "silver"
to = "delta"
[sinks.running]
of = "per_customer"
to = "delta"
[sinks.out]
of = "silver"
to = "kafka"
topic = "{topic}-out"
[sinks.purchases_table]
of = "silver"
to = "postgres"
table = "purchases"
[sinks.fresh]
of = "by_customer"
to = "postgres"
table = "by_customer"
"""


@dataclass(frozen=True)
class Step:
    """One declaration of the feed: what is valid, and which fields it has."""

    limit: int
    fields: int = 0
    """So many fields that a record may lack were added."""
    amount: str = "decimal(8,2)"
    count: str = "int"

    @property
    def text(self) -> str:
        """The feed file."""
        more = [f'[fields.note_{i}]\ntype = "string"\nrequired = false\nlength = [1, 4]\n' for i in range(self.fields)]
        return BASE.format(topic=TOPIC, amount=self.amount, limit=self.limit, count=self.count, more="".join(more))

    def takes(self, number: int) -> bool:
        """Whether the record of that number is valid."""
        return number % 50 <= self.limit and (self.fields < 2 or number % 7 != 0)


WIDE = {"amount": "decimal(12,4)", "count": "long"}
STEPS = [
    (HOLD, "silver", Step(10)),
    (HOLD, "quarantine", Step(20, 1)),
    (DIE, "raw_csv", Step(5, 2)),
    (HOLD, "silver", Step(40, 2, **WIDE)),
    (DIE, "delta", Step(20, 3, **WIDE)),
    (HOLD, "quarantine", Step(10, 4, **WIDE)),
]
"""In each start one is held at a batch until the other half is ahead and all are killed; or dies before a batch."""


def records(first: int, now: float) -> list[tuple[str, bytes | None, int]]:
    """Records with the notes that nobody may have declared yet; each seventh has one that is too long."""
    found: list[tuple[str, bytes | None, int]] = []
    for number in range(first, first + COUNT):
        at = now - 3600 + number
        record = {
            "id": f"p{number}",
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
            "customer": f"c{number % 5}",
            "amount": number % 50,
            "count": number,
            "note_0": "gift",
            "note_1": "gift" if number % 7 else "too long",
        }
        found.append((f"c{number % 5}", json.dumps(record).encode(), int(at * 1000)))
    return found


@pytest.mark.proves("Silver and quarantine judge by the same rules")
@pytest.mark.proves("Outputs grow in place", "silver", "windows", "csv", "lake", "delta", "topic", "postgres")
def test_a_feed_that_changes_with_each_death_judges_each_record_by_one_version(
    broker: KafkaBroker, database: Database, class_archive: Path, tmp_path: Path
) -> None:
    for topic in (TOPIC, f"{TOPIC}-out"):
        broker.create_topic(topic)
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    file = feeds / f"{FEED}.toml"
    more = {"DATABASE_URL": database.url, "MAX_OFFSETS_PER_TRIGGER": "50", "RETENTION": "keep", "MAX_FAILURES": "1000"}
    service = Service(tmp_path / "output", feeds, broker.address, quick(tmp_path, class_archive) | more, FEED)
    now, versions = time.time(), dict[str, Step]()
    for step, (how, sink, declared) in enumerate(STEPS):
        file.write_text(declared.text)
        versions[version_of(service.feed)] = declared
        broker.send(TOPIC, records(step * COUNT, now))
        if how == DIE:
            service.start(TRIGGER_INTERVAL="available-now", FAIL_POINT=f"{FEED}.{sink}:before_staging")
            service.end(-9)
        else:
            _kill_while_held(service, sink)
        assert service.audit().wrong == [], f"after {how} of {sink}"
    service.drain()
    assert service.audit().wrong == []
    noted = [rules.noted(service.flows[sink]) for sink in ("silver", "quarantine")]
    assert noted[0] == noted[1]
    assert len(noted[0]) > 1
    check_verdicts(service, noted[0], versions)
    service.environment |= {"RETENTION": "compact", "MAX_FILES_PER_SINK": "4"}
    service.drain()
    assert service.audit().wrong == []
    for output in ("raw_csv", "lake", "delta"):
        assert service.count(output) == service.count("silver")
    ((in_table,),) = database.query("SELECT count(*) FROM purchases")
    ((in_totals,),) = service.query("SELECT sum(purchases) FROM running")
    ((in_windows,),) = database.query("SELECT sum(purchases) FROM by_customer")
    assert in_table == in_totals == in_windows == service.count("silver")


def _kill_while_held(service: Service, sink: str) -> None:
    """Keep one half of the verdict at a batch, as a disk does that cannot be written, while the other goes on."""
    held = service.flows[sink]
    other = service.flows["quarantine" if sink == "silver" else "silver"]
    obstacle = held.checkpoint.path / ".last_file.tmp"
    before = len(service.log.read_bytes()) if service.log.exists() else 0
    service.start()
    wait_for(held.checkpoint.path.exists, "the checkpoint")
    _stand_in_the_way(obstacle)
    failed = f"{held.name} failed".encode()
    wait_for(lambda: failed in service.log.read_bytes()[before:], f"{sink} to be held")
    wait_for(lambda: _judged(other) > _judged(held), f"{sink} to be behind")
    service.kill()
    assert _judged(other) > _judged(held)
    obstacle.rmdir()


def _stand_in_the_way(obstacle: Path) -> None:
    """Make a folder, though the kill before may have left a file there, or the service is just writing one."""
    while not obstacle.is_dir():
        obstacle.unlink(missing_ok=True)
        with suppress(FileExistsError):
            obstacle.mkdir()


def check_verdicts(service: Service, noted: tuple[rules.Rules, ...], versions: dict[str, Step]) -> None:
    """Each record is in silver or in quarantine, as the version says that its batch of bronze was judged by."""
    expected: dict[str, set[str]] = {"silver": set(), "quarantine": set()}
    for written in service.flows["bronze"].files():
        assert not written.is_compacted
        declared = [one for one in noted if one.after is not None and one.after < written.last][-1]
        for value in pq.read_table(written.path, columns=["value"])["value"].to_pylist():
            name = json.loads(value)["id"]
            taken = versions[declared.version].takes(int(name[1:]))
            expected["silver" if taken else "quarantine"].add(name)
    assert {str(name) for (name,) in service.query("SELECT id FROM silver")} == expected["silver"]
    refused = service.query("SELECT value_text FROM quarantine")
    assert {json.loads(str(text))["id"] for (text,) in refused} == expected["quarantine"]
    assert len(refused) + service.count("silver") == len(STEPS) * COUNT
