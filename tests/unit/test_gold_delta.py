"""Gold in Delta tables: a run is in each table once, whole, however often it dies or is shown. Without Spark."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql.types import DateType, LongType, StructField, StructType

from stream_app.errors import ConfigError
from stream_app.gold import delta, store
from stream_app.gold.files import prefix_of
from stream_app.gold.manifest import Manifest
from stream_app.gold.store import Gold
from tests.helpers import tree

COLUMNS = StructType([StructField("event_date", DateType()), StructField("run", LongType(), nullable=False)])
WIDER = StructType([*COLUMNS, StructField("more", LongType())])
Days = dict[str, list[int]]
"""By table, the days of November that a run makes anew."""


class DiedError(Exception):
    """As a run does."""


def commit(gold: Gold, run: int, made: Days, columns: StructType = COLUMNS, own: str = "id") -> Manifest:
    """Have a run write a row a day, which says the run."""
    version = gold.staging / "version"
    for table, days in made.items():
        (version / table).mkdir(parents=True)
        for day in days:
            folder = version / table / f"event_date=2026-11-{day:02}"
            folder.mkdir()
            values = {field.name: [run] for field in columns if field.name != "event_date"}
            pq.write_table(pa.table(values), folder / f"{prefix_of(table, run)}00000.parquet")
    days_of = {table: [f"2026-11-{day:02}" for day in days] for table, days in made.items()}
    told = {table: columns.json() for table in {*made, "a"}}
    manifest = Manifest(run, "test", "", "", {}, days_of, format="delta", gold=own, columns=told)
    gold.commit(manifest, version)
    return manifest


def seen(gold: Gold, table: str) -> dict[int, int]:
    """The run that a reader of a table finds on each day."""
    rows = pa.table(DeltaTable(str(gold.root / table)).scan().read_all()).to_pylist()
    assert len({row["event_date"] for row in rows}) == len(rows), "no row is there twice"
    return {row["event_date"].day: row["run"] for row in rows}


@pytest.fixture
def gold(tmp_path: Path) -> Gold:
    """After a run that has made three days of each table."""
    made = Gold(tmp_path / "gold 100% #1", 24)
    commit(made, 1, {"a": [1, 2, 3], "b": [1, 2, 3]})
    return made


def test_a_run_takes_out_and_puts_in_the_days_that_it_made_by_one_commit(gold: Gold) -> None:
    commit(gold, 2, {"a": [2, 4], "b": []})
    assert (seen(gold, "a"), seen(gold, "b")) == ({1: 1, 2: 2, 3: 1, 4: 2}, {1: 1, 2: 1, 3: 1})
    for table in ("a", "b"):
        opened = DeltaTable(str(gold.root / table))
        assert (opened.version(), opened.transaction_version("id")) == (2, 2), "a version a run"
    log = (gold.root / "a" / "_delta_log" / f"{2:020d}.json").read_text()
    actions = [next(iter(json.loads(line).items())) for line in log.splitlines()]
    added, removed = ([one["path"][:21] for kind, one in actions if kind == what] for what in ("add", "remove"))
    assert (added, removed) == (["event_date=2026-11-02", "event_date=2026-11-04"], ["event_date=2026-11-02"])
    (info,) = (one for kind, one in actions if kind == "commitInfo")
    assert (info["stream_app.batch"], info["stream_app.rows"]) == ("2", "2")


@pytest.mark.parametrize("point", ["prepared", "committed", "table", "shown"])
@pytest.mark.parametrize("run", [1, 2])
def test_a_run_that_dies_at_any_point_was_or_was_not(
    tmp_path: Path, point: str, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = Gold(tmp_path / "gold", 24)
    if run == 2:
        commit(gold, 1, {"a": [1, 2], "b": [1, 2]}, own="first")
    before = {1: 1, 2: 1} if run == 2 else {}
    after = before | {2: run, 3: run}

    def die(_flow: str, reached: str) -> None:
        if reached == point:
            raise DiedError

    with monkeypatch.context() as patch:
        patch.setattr(store, "reach", die)
        patch.setattr(delta, "reach", die)
        with pytest.raises(DiedError):
            commit(gold, run, {"a": [2, 3], "b": [2, 3]}, own="first")
    was = point != "prepared"
    if point == "committed" and (newest := gold.newest()):
        with pytest.raises(ConfigError, match=f"/a: is not as run {run} leaves it; .* type make etl"):
            gold.form("delta").files(newest, "a")
    by_now = {"prepared": [before, before], "committed": [before, before], "table": [after, before]}
    assert [seen(gold, table) for table in ("a", "b")] == by_now.get(point, [after, after])
    gold.recover()
    assert [seen(gold, table) for table in ("a", "b")] == ([after, after] if was else [before, before])
    once = tree(gold.root)
    gold.recover()
    assert tree(gold.root) == once, "what is shown is not shown again"
    if not was:  # the same run again, with other files; a first one knows nothing of the one that died
        again = before | {3: run}
        commit(gold, run, {"a": [3], "b": [3]}, own="first" if run == 2 else "second")
        assert [seen(gold, table) for table in ("a", "b")] == [again, again]


def test_first_runs_that_die_one_after_another_are_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = Gold(tmp_path / "gold", 24)

    def die(_flow: str, reached: str) -> None:
        if reached == "prepared":
            raise DiedError

    for number, own in enumerate(("first", "second", "third")):
        with monkeypatch.context() as patch:
            patch.setattr(store, "reach", die)
            with pytest.raises(DiedError):
                commit(Gold(gold.root, 24 + number), 1, {"a": [2, 3]}, own=own)
        assert gold.recover() is None
    commit(gold, 1, {"a": [3]}, own="fourth")
    assert seen(gold, "a") == {3: 1}
    (gold.root / "_runs").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="/a is a table that no run here has made"):
        commit(gold, 1, {"a": [4]}, own="fifth")
    assert seen(gold, "a") == {3: 1}, "the rows of a run are nobody else's"


def test_what_others_did_to_a_table_stays(gold: Gold) -> None:
    """The log is what counts: a deleted row is not made good, and a compacted table is gone on with."""
    opened = DeltaTable(str(gold.root / "a"))
    opened.delete("event_date = '2026-11-01'")
    opened.optimize.compact()
    newest = gold.newest()
    assert newest
    form = gold.form("delta")
    gold.staging.mkdir()
    folder = form.before(newest)
    assert sorted(path.name for path in (folder / "a").iterdir()) == ["event_date=2026-11-02", "event_date=2026-11-03"]
    assert len(form.files(newest, "a")) == 2
    commit(gold, 2, {"a": [3]})
    assert seen(gold, "a") == {2: 1, 3: 2}


def test_other_columns_come_with_all_days_alone(gold: Gold) -> None:
    with pytest.raises(ConfigError, match=r"/a: its columns were changed; make the table anew by --full"):
        commit(gold, 2, {"a": [3]}, WIDER)
    gold.recover()
    assert seen(gold, "a") == {1: 1, 2: 1, 3: 1}
    commit(gold, 2, {"a": [2, 3, 1]}, WIDER)
    assert seen(gold, "a") == {1: 2, 2: 2, 3: 2}
    opened = DeltaTable(str(gold.root / "a"))
    assert (opened.version(), [field.name for field in opened.schema().fields]) == (2, ["event_date", "run", "more"])


def _foreign(gold: Gold) -> None:
    table = pa.table({"event_date": [date(2026, 11, 1)], "run": [1]})
    DeltaTable.create(str(gold.root / "c"), table.schema)


def _in_the_way(gold: Gold) -> None:
    folder = gold.root / "c" / "event_date=2026-11-01"
    folder.mkdir(parents=True)
    (folder / "x.parquet").touch()


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (_foreign, "GOLD_PATH: .*/c is a table that no run here has made; move it away"),
        (_in_the_way, "GOLD_PATH: .*/c/event_date=2026-11-01 is in the way of a table of that name"),
    ],
)
def test_a_table_of_somebody_else_is_left_alone(gold: Gold, prepare: Callable[[Gold], Any], told: str) -> None:
    prepare(gold)
    before = tree(gold.root / "c")
    with pytest.raises(ConfigError, match=told):
        commit(gold, 2, {"c": [1]})
    assert tree(gold.root / "c") == before


def test_a_table_that_went_is_named(gold: Gold) -> None:
    (gold.root / "a").rename(gold.root / "moved")
    with pytest.raises(ConfigError, match=r"/a: is missing, and run 1 is committed; restore it"):
        gold.recover()
