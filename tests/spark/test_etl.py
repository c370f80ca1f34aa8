"""Gold is a function of what has landed, however that was divided into runs, and its audit finds what was changed."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected
from stream_app.errors import ConfigError, StreamAppError
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Dedupe
from stream_app.landing.lines import read
from stream_app.landing.zone import Zone
from tests.batch import FEEDS, NAMES, TABLES, Batch
from tests.daily import Row, by, product_days, user_days
from tests.helpers import UNUSUAL
from tests.landed import START, Topic

ORDER = {"user_daily": ["user_id"], "product_daily": ["product_id", "currency"]}
"""By what the rows of a day are in order."""


def rows_of(batch: Batch, table: str) -> list[Row]:
    found = duckdb.sql(f"FROM {batch.files(table)}")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def due(feed: Feed, landing: Path) -> list[tuple[int, int]]:
    """The places of the rows that gold must have, by the definition in the plainest way."""
    contract, first = Contract(feed), dict[tuple[object, object], tuple[int, int, int]]()
    assert feed.dedupe
    key, time = (contract.columns.index(name) for name in (*feed.dedupe.keys, feed.event_time.field))
    for file in Zone(landing, feed.topic).files():
        for line in (line for lines in read(file) for line in lines):
            verdict = contract.check(line.value_bytes, line.kafka_ms * 1000, line.landed_ms * 1000)
            if not isinstance(verdict, Rejected):
                day, place = verdict[time] // 86_400_000_000, (line.kafka_ms, line.partition, line.offset)
                first[verdict[key], day] = min(place, first.get((verdict[key], day), place))
    return sorted((partition, offset) for _, partition, offset in first.values())


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three landings of both topics, from before midnight to after the next one."""
    root = tmp_path_factory.mktemp("batch") / "landing: 100%"
    for name in NAMES:
        topic = Topic(name, root)
        for count, step in ((300, 20), (200, 20), (250, 600)):
            topic.land(count, step)
    return root


@pytest.fixture(scope="module")
def whole(spark: SparkSession, landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """Gold of one run over all that has landed; nobody changes it."""
    made = Batch(spark, landing, tmp_path_factory.mktemp("gold") / f"{UNUSUAL} [a]* {{b}}")
    assert made.etl() is not None
    return made


@pytest.fixture
def copied(whole: Batch, spark: SparkSession, tmp_path: Path) -> Batch:
    """A copy of it, to be changed."""
    for source, target in ((whole.landing, tmp_path / "landing"), (whole.gold, tmp_path / "gold")):
        shutil.copytree(source, target, symlinks=True)
    made = Batch(spark, tmp_path / "landing", tmp_path / "gold")
    made.tables = ()  # which take most of the time
    return made


def test_gold_has_each_valid_record_once_a_day_and_quarantine_the_others(whole: Batch) -> None:
    for name, feed in FEEDS.items():
        rows = duckdb.sql(f"FROM {whole.files(name)}")
        assert sorted(rows.select("partition", '"offset"').fetchall()) == due(feed, whole.landing)
        report = whole.audit()[name]
        assert report.wrong == []
        assert report.not_audited == []
        counts = report.counts
        assert counts["landed"] == counts["gold"] + counts["quarantine"] + counts["repeats"] == 750
        assert min(counts["quarantine"], counts["repeats"]) > 10, "the sample has all kinds"
        days = {path.name for path in (whole.gold / name).iterdir()}
        assert {"event_date=2026-11-20", "event_date=2026-11-21", "event_date=2026-11-22"} == days
    assert whole.etl() is None, "nothing is new"


@pytest.mark.faults
def test_the_order_and_number_of_runs_makes_no_difference_and_other_days_keep_their_files(
    spark: SparkSession, whole: Batch, tmp_path: Path
) -> None:
    batch = Batch(spark, tmp_path / "landing", tmp_path / "gold")
    files = [file for name in NAMES for file in Zone(whole.landing, name).files()]
    random.Random(5).shuffle(files)
    before: dict[Path, int] = {}
    for portion in (files[:5], files[5:9], files[9:]):
        for file in portion:
            target = batch.landing / file.path.relative_to(whole.landing)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.path.read_bytes())
        manifest = batch.etl()
        assert manifest is not None
        after = {path.resolve(): path.stat().st_ino for name in NAMES for path in (batch.gold / name).glob("*/*")}
        for path, inode in before.items():
            day = path.parent.name.partition("=")[2]
            if day not in manifest.days.get(path.parent.parent.name, []):
                kept = next(one for one in after if one.name == path.name and one.parent.name == path.parent.name)
                assert after[kept] == inode, "no day is written anew that has no new row"
        before = after
    for table in (*NAMES, *(f"quarantine/{name}" for name in NAMES), *(table.name for table in TABLES)):
        assert batch.rows(table) == whole.rows(table), table
        assert batch.rows(table)


def test_a_full_run_twice_leaves_the_same_rows_in_the_same_order(copied: Batch) -> None:
    def rows() -> dict[str, list[pa.Table]]:
        files = sorted(copied.gold.glob("*/*/*.parquet")) + sorted(copied.gold.glob("quarantine/*/*/*.parquet"))
        found: dict[str, list[pa.Table]] = {}
        for path in files:
            found.setdefault(str(path.parent.relative_to(copied.gold)), []).append(pq.ParquetFile(path).read())
        return found

    copied.tables = TABLES
    before = rows()
    assert {"user_daily", "product_daily"} <= {folder.partition("/")[0] for folder in before}
    manifest = copied.etl(full=True)
    assert manifest is not None
    assert manifest.run == 2
    after = rows()
    assert after.keys() == before.keys()
    for folder, tables in before.items():
        assert [table.to_pylist() for table in after[folder]] == [table.to_pylist() for table in tables], folder
        if key := ORDER.get(folder.partition("/")[0]):
            places = [tuple(row[name] for name in key) for table in tables for row in table.to_pylist()]
            assert places == sorted(places), folder


def test_what_landed_in_some_hours_is_taken_again_and_nothing_else_changes(copied: Batch, whole: Batch) -> None:
    (first, *_, last) = sorted({file.hour for file in Zone(copied.landing, "user_events").files()})
    manifest = copied.etl("user_events", since=first, until=first + timedelta(hours=1))
    assert manifest is not None
    assert all(f"hour={first:%H}" in path for path in manifest.feeds["user_events"].files)
    assert copied.rows("user_events") == whole.rows("user_events")
    assert copied.audit()["user_events"].wrong == []
    strict = FEEDS["user_events"].fields["country"].model_copy(update={"pattern": "DE"})
    changed = {**FEEDS["user_events"].fields, "country": strict}
    copied.feeds["user_events"] = FEEDS["user_events"].model_copy(update={"fields": changed})
    with pytest.raises(ConfigError, match=r"rows of user_events are no longer valid, .* use --full"):
        copied.etl("user_events", since=last)
    assert copied.audit()["user_events"].not_audited, "other rules than today's have judged"
    copied.etl("user_events", full=True)
    assert {row[7] for row in copied.rows("user_events")} == {"DE"}
    assert copied.audit()["user_events"].not_audited == copied.audit()["user_events"].wrong == []


def test_the_joined_tables_are_what_the_rows_of_the_feeds_come_to(whole: Batch) -> None:
    """Each column of each row, by another computation: not by SQL, and not by Spark."""
    events, payments = (rows_of(whole, name) for name in NAMES)
    users = rows_of(whole, "user_daily")
    expected = user_days(events, payments)
    assert by(users, "event_date", "user_id") == {place: [row] for place, row in expected.items()}
    ranks = [row["rank_in_country"] for row in users]
    assert {1, 2, None} <= {*ranks}
    assert any(row["spend"] is not None and row["country"] is None for row in users), "the sample has all kinds"
    products = by(rows_of(whole, "product_daily"), "event_date", "product_id", "currency")
    assert products == {place: [row] for place, row in product_days(payments).items()}
    assert any(len({day for day, *other in products if other == [*place[1:]]}) > 1 for place in products)


def test_the_sql_of_the_joined_tables_holds_for_ties_several_currencies_and_days_without_sales(
    spark: SparkSession,
) -> None:
    """Few users, times and amounts over two weeks: what a sample of a shop has seldom."""
    rng = random.Random(3)
    days = [START.date() + timedelta(day) for day in (0, 1, 2, 6, 7, 13)]
    kinds = ("login", "logout", "page_view", "search", "add_to_cart", "purchase")
    events = [
        {
            **{"event_date": rng.choice(days), "event_time": rng.randrange(20), "user_id": rng.choice("abcdefgh")},
            **{
                "event_type": rng.choice(kinds),
                "session_id": rng.choice("xyz"),
                "country": rng.choice(["DE", "DE", "FR"]),
            },
        }
        for _ in range(120)
    ]
    payments = [
        {
            **{"event_date": rng.choice(days), "event_time": rng.randrange(20), "user_id": rng.choice("abcdefghij")},
            **{"status": rng.choice(["completed", "failed"]), "currency": rng.choice(["EUR", "EUR", "GBP"])},
            "amount": Decimal(rng.randrange(4)),
            "items": [
                {"product_id": rng.choice("pq"), "quantity": rng.randrange(1, 4), "unit_price": Decimal(price) / 4}
                for price in range(rng.randrange(3))
            ],
        }
        for _ in range(120)
    ]
    own = "event_date date, event_time bigint, user_id string"
    items = "items array<struct<product_id string, quantity int, unit_price decimal(18,2)>>"
    for name, rows, columns in (
        ("user_events", events, f"{own}, event_type string, session_id string, country string"),
        ("transaction_events", payments, f"{own}, status string, currency string, amount decimal(18,2), {items}"),
    ):
        spark.createDataFrame(rows, columns).createOrReplaceTempView(name)
    made = {table.name: [row.asDict() for row in spark.sql(table.sql).collect()] for table in TABLES}
    users, products = made["user_daily"], by(made["product_daily"], "event_date", "product_id", "currency")
    expected = user_days(events, payments)
    assert by(users, "event_date", "user_id") == {place: [row] for place, row in expected.items()}
    assert products == {place: [row] for place, row in product_days(payments).items()}
    assert any(row["transactions"] > 1 and row["currency"] is None for row in users)
    assert any(row["spend"] is not None and row["country"] is None for row in users)
    ranked = by(users, "event_date", "country", "currency", "rank_in_country")
    assert any(len(rows) > 1 for (*_, rank), rows in ranked.items() if rank), "there are ties"


def test_a_feed_without_a_dedupe_key_keeps_every_valid_record(copied: Batch) -> None:
    copied.feeds["user_events"] = FEEDS["user_events"].model_copy(update={"dedupe": None})
    assert copied.etl("user_events", full=True) is not None
    report = copied.audit()["user_events"]
    assert (report.wrong, report.counts["repeats"]) == ([], 0)
    several = Dedupe.model_validate({"key": ["event_id", "user_id"], "within": "1 hour"})
    copied.feeds["user_events"] = FEEDS["user_events"].model_copy(update={"dedupe": several})
    assert copied.etl("user_events", full=True) is not None
    assert (report := copied.audit()["user_events"]).wrong == []
    assert report.counts["repeats"] > 0


Change = Callable[[pa.Table], pa.Table]


def _altered(table: pa.Table) -> pa.Table:
    column = table.column("user_id").to_pylist()
    return table.set_column(table.schema.get_field_index("user_id"), "user_id", pa.array([*column[:-1], "nobody"]))


def tamper(folder: Path, change: Change) -> None:
    path = sorted(folder.glob("*/*.parquet"))[0]
    table = change(pq.ParquetFile(path).read())
    path.unlink()
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("where", "change", "told", "more"),
    [
        ("user_events", lambda table: table.slice(1), "lost: due in gold, and not there: 1", -1),
        ("user_events", lambda table: pa.concat_tables([table, table.slice(0, 1)]), "doubled in gold: 1", 1),
        ("user_events", _altered, "altered in gold: 1", 0),
        ("quarantine/user_events", lambda table: table.slice(1), "lost: due in quarantine, and not there: 1", -1),
        (
            "quarantine/user_events",
            lambda table: pa.concat_tables([table, table.slice(0, 1)]),
            "doubled in quarantine: 1",
            1,
        ),
    ],
)
def test_the_audit_names_what_is_not_as_it_must_be(
    copied: Batch, where: str, change: Change, told: str, more: int
) -> None:
    tamper(copied.gold / where, change)
    report = copied.audit()["user_events"]
    assert any(line.startswith(told) for line in report.wrong), report.wrong
    kinds = r"([\d,]+) in gold, ([\d,]+) in quarantine, ([\d,]+) repeats"
    found = [re.fullmatch(rf"(\S+\.jsonl\.zst): ([\d,]+) landed, {kinds}", line) for line in report.wrong]
    balances = [match.groups() for match in found if match]
    assert len(balances) == abs(more), "one file's records do not come to its rows"
    for name, landed, *parts in balances:
        (file,) = (one for one in Zone(copied.landing, "user_events").files() if one.path.name == name)
        assert int(landed) == sum(len(lines) for lines in read(file))
        assert sum(map(int, parts)) == int(landed) + more


def test_the_audit_names_a_row_that_is_in_another_day_or_not_due(copied: Batch) -> None:
    first, second, *_ = sorted((copied.gold / "user_events").iterdir())
    path = next(iter(sorted(first.glob("*.parquet"))))
    path.rename(second / path.name)
    wrong = copied.audit()["user_events"].wrong
    assert any(line.startswith("altered in gold: ") for line in wrong), wrong


def test_what_cannot_be_judged_again_is_not_audited_and_a_damaged_file_is_wrong(copied: Batch) -> None:
    gone, damaged, *_ = Zone(copied.landing, "user_events").files()
    gone.path.unlink()
    report = copied.audit()["user_events"]
    assert report.wrong == []
    assert any("whose landed files are gone" in line for line in report.not_audited)
    damaged.path.write_bytes(damaged.path.read_bytes()[:-7])
    assert any(damaged.path.name in line for line in copied.audit()["user_events"].wrong)
    with pytest.raises(ConfigError, match="--full: offsets"):
        copied.etl("user_events", full=True)


def test_a_damaged_file_stops_the_run_and_changes_nothing(copied: Batch) -> None:
    before = copied.rows("user_events")
    topic = Topic("user_events", copied.landing, seed=9, ends={0: 10_000, 1: 10_000})
    files: Sequence[Any] = topic.land(50)
    files[0].path.write_bytes(files[0].path.read_bytes()[:-7])
    with pytest.raises(StreamAppError, match=f"{files[0].path.name}: is damaged"):
        copied.etl()
    assert copied.rows("user_events") == before
    files[0].path.unlink()
    assert copied.etl() is not None
    assert copied.audit()["user_events"].wrong == []


def test_times_at_the_edges_have_a_day(spark: SparkSession, tmp_path: Path) -> None:
    """By the shape of the folders' names: before 1970, and at the first microsecond of a day."""
    batch = Batch(spark, tmp_path / "landing", tmp_path / "gold")
    batch.tables = ()
    topic = Topic("user_events", batch.landing)
    base = b'{"event_id":"%d","user_id":"u","event_type":"login","timestamp":"%s","session_id":"s","country":"DE"}'
    made = []
    for i, time in enumerate((b"1969-12-31T23:59:59.999999Z", b"1970-01-01T00:00:00Z", b"1969-12-31T00:00:00Z")):
        text = time.decode()[:23].rstrip("Z")
        at = (START.fromisoformat(f"{text}+00:00") - START.fromtimestamp(0, START.tzinfo)) // timedelta(milliseconds=1)
        made.append(topic._message(0, b"k", base % (i, time), at))
    topic.write(made, START)
    batch.etl("user_events")
    found = duckdb.sql(f"SELECT event_date::VARCHAR, count(*) FROM {batch.files('user_events')} GROUP BY 1")
    assert sorted(found.fetchall()) == [("1969-12-31", 2), ("1970-01-01", 1)]
    assert batch.audit()["user_events"].wrong == []
