"""A feed is changed again and again while its outputs are at different batches: each record is judged by one version.

kill -9 leaves silver, quarantine and what follows silver wherever they were. None of the starts asks for a reset.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stream_app.admission.rule_versions import _judged
from stream_app.flows import rules
from stream_app.flows.rules import version_of
from tests.service.harness import Service, quick
from tests.service.servers import Database, KafkaBroker

TOPIC, FEED = "purchases", "purchases"
COUNT = 120
DIED = ("quarantine", "silver", "raw_csv", "by_customer", "lake", "purchases_table", "fresh", "running", "delta", "out")
"""What dies before its first batch of a start, one after the other."""
TRIES = 5

BASE = """
topic = "purchases"
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
topic = "purchases-out"
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
        return BASE.format(amount=self.amount, limit=self.limit, count=self.count, more="".join(more))

    def takes(self, number: int) -> bool:
        """Whether the record of that number is valid."""
        return number % 50 <= self.limit and (self.fields < 2 or number % 7 != 0)


WIDE = {"amount": "decimal(12,4)", "count": "long"}
STEPS = [
    Step(10),
    Step(20),
    Step(20, 1),
    Step(5, 1),
    Step(5, 2),
    Step(40, 2),
    Step(40, 2, **WIDE),
    Step(40, 3, **WIDE),
    Step(20, 3, **WIDE),
    Step(10, 4, **WIDE),
]


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


@pytest.mark.timeout(1800)
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
    more = {"DATABASE_URL": database.url, "MAX_OFFSETS_PER_TRIGGER": "50", "RETENTION": "keep"}
    service = Service(tmp_path / "output", feeds, broker.address, quick(tmp_path, class_archive) | more, FEED)
    now, apart, versions = time.time(), list[str](), dict[str, Step]()
    for step, (declared, dies) in enumerate(zip(STEPS, DIED, strict=True)):
        file.write_text(declared.text)
        versions[version_of(service.feed)] = declared
        broker.send(TOPIC, records(step * COUNT, now))
        for _ in range(TRIES):
            service.start(TRIGGER_INTERVAL="available-now", FAIL_POINT=f"{FEED}.{dies}:before_staging")
            service.end(-9)
            silver, quarantine = (_judged(service.flows[sink]) for sink in ("silver", "quarantine"))
            if dies != "silver" or silver < quarantine:
                break
        if silver != quarantine:
            apart.append(f"{dies}: silver {silver}, quarantine {quarantine}")
        assert service.audit().wrong == [], f"after the death of {dies}"
    print(*apart, sep="\n")
    assert apart, "no start has found silver and quarantine apart"
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


def check_verdicts(service: Service, noted: tuple[rules.Rules, ...], versions: dict[str, Step]) -> None:
    """Each record is in silver or in quarantine, as the version says that its batch of bronze was judged by."""
    expected: dict[str, set[str]] = {"silver": set(), "quarantine": set()}
    for held in service.flows["bronze"].files():
        assert not held.is_compacted
        declared = [one for one in noted if one.after is not None and one.after < held.last][-1]
        for value in pq.read_table(held.path, columns=["value"])["value"].to_pylist():
            name = json.loads(value)["id"]
            taken = versions[declared.version].takes(int(name[1:]))
            expected["silver" if taken else "quarantine"].add(name)
    assert {str(name) for (name,) in service.query("SELECT id FROM silver")} == expected["silver"]
    refused = service.query("SELECT value_text FROM quarantine")
    assert {json.loads(str(text))["id"] for (text,) in refused} == expected["quarantine"]
    assert len(refused) + service.count("silver") == len(STEPS) * COUNT
