"""What tables promise beside what every sink does: open rows kept by key, one owner, a mended log, growth."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.errors import StreamingQueryException

from stream_app.errors import ConfigError
from stream_app.ops import restore
from stream_app.sinks import table_writer
from tests.helpers import silver_row
from tests.sinks.conftest import Died, Target, dies_at
from tests.sinks.test_conformance import batch, check

Targets = Callable[..., Target]
POINTS = [
    "staged",
    "renamed",
    *(pytest.param(point, marks=pytest.mark.faults) for point in ("before_staging", "mid_staging")),
]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.proves("A Delta table has each batch exactly once", "delta")
def test_open_windows_are_kept_by_key_whatever_dies(
    target_of: Targets, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each window once, whether or not it is final, with what silver has of it by now."""
    target = target_of("delta", "gold", fresh=True)

    def write(minute: int, count: int) -> None:
        first = target.batches * 10
        target.write([silver_row(first + number, minute * 60, card_id="c") for number in range(count)])

    with target.running() as take:
        for count in (2, 1):
            write(0, count)
            take()
    write(3, 2)
    with monkeypatch.context() as patch:
        patch.setattr(table_writer, "reach", dies_at(point))
        with pytest.raises(StreamingQueryException, match=Died.__name__):
            target.drain()
    with target.running() as take:
        take()
        write(12, 1)  # makes the first ones final
        take()
    found = {row["window_start"].minute: (row["txn_count"], row["final"]) for row in target.rows()}
    assert len(target.rows()) == len(found) == 3
    assert found == {0: (3, True), 3: (2, True), 12: (1, False)}


@pytest.mark.proves("A Delta table has each batch exactly once", "delta")
def test_a_second_service_is_refused_and_a_reset_lets_it_have_the_table(target_of: Targets, tmp_path: Path) -> None:
    location = {"location": str(tmp_path / "shared")}
    first, second = target_of("delta", **location), target_of("delta", root="another", **location)
    for target in (first, second):
        target.write(batch(0))
    first.drain()
    with pytest.raises(ConfigError, match="make reset FEED=transactions SINK=x"):
        second.drain()
    check(first, range(3))
    second.flow.to.drop(second.flow)
    second.drain()
    check(second, range(3))
    first.write(batch(3))
    with pytest.raises(ConfigError, match="another checkpoint"):
        first.drain()


def test_an_entry_of_the_log_that_a_power_cut_tore_is_mended(target_of: Targets) -> None:
    target = target_of("delta")
    target.write(batch(0))
    target.drain()
    for commit in (target.flow.checkpoint.path / "commits").iterdir():
        commit.unlink()
    newest = max((target.flow.layout.output / "_delta_log").glob("*.json"))
    newest.write_text("")
    target.write(batch(3))
    target.drain()
    check(target, range(6))


@pytest.mark.proves("A Delta table has each batch exactly once", "delta")
def test_a_query_goes_on_from_a_checkpoint_that_its_table_made_again(target_of: Targets) -> None:
    target = target_of("delta")
    for first in (0, 3):
        target.write(batch(first))
        target.drain()
    shutil.rmtree(target.flow.checkpoint.path)
    target.write(batch(6))
    with pytest.raises(ConfigError, match="make restore FEED=transactions SINK=x"):
        target.drain()
    with restore.planned([target.flow], "x") as (plan,):
        restore.apply(plan)
    (report,) = target.drain()
    assert (report.batch_id, report.rows_in) == (2, 3)
    check(target, range(9))


def test_a_table_of_dates_is_whole_by_every_reader(target_of: Targets) -> None:
    target = target_of("delta", root="plain", partition_by="date(event_time)")
    target.write([silver_row(number, number * 43_200) for number in range(4)])
    target.drain()
    root = str(target.flow.layout.output)
    scanned = pa.table(DeltaTable(root).scan(predicate="event_date = '2026-11-22'").read_all())
    frame = polars.read_delta(root)
    assert sorted(scanned["txn_id"].to_pylist()) == ["t2", "t3"]
    assert Counter(frame["txn_id"].to_list()) == {f"t{number}": 1 for number in range(4)}
    check(target, range(4))
