"""What every sink that keeps rows by key does with totals: after each batch they are what silver adds up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest
from pyspark.errors import StreamingQueryException

from stream_app.admission import reset_journal
from stream_app.feeds.sql import view
from stream_app.ops import views
from stream_app.sinks.registry import SINKS
from tests.helpers import Row, silver_row
from tests.sinks.conftest import MODULES, Died, Target, dies_at

Targets = Callable[..., Target]
KEEPING = [name for name, sink in SINKS.items() if sink.keeps_by_key]


def sale(number: int, shop: str, amount: str, **changed: object) -> Row:
    return silver_row(number, number, merchant=shop, amount=Decimal(amount), **changed)


def check(target: Target) -> None:
    """The rows are those that silver adds up to, by DuckDB, each once."""
    running = target.flow.kind.running
    assert running
    with views.connected([target.flows["silver"], target.flow]) as database:
        target.sink.copy_into(database, target.flow, target.settings.servers)
        # PostgreSQL's texts hold no NUL
        texts = [name for name, kind in running.sql_columns.items() if kind == "VARCHAR"]
        shown = ", ".join(f"replace({name}, chr(0), chr(65533)) AS {name}" for name in texts)
        rows = (f"FROM {view('transactions', 'x')}", running.expected(view("transactions", "silver")))
        own, expected = (f"(SELECT * REPLACE ({shown}) FROM ({one}))" for one in rows)
        assert database.sql(running.differing(own, expected, alike=True)).fetchall() == []
        assert database.sql(f"SELECT count(*) FROM {own}").fetchall() == [
            *database.sql(f"SELECT count(*) FROM {expected}").fetchall()
        ]


@pytest.fixture(params=KEEPING)
def target_of_totals(request: pytest.FixtureRequest, target_of: Targets) -> Callable[[str], Target]:
    """Makes the sink of totals; a table of those by card is divided by it, so that a batch writes what it touches."""

    def of_totals(of: str) -> Target:
        is_divided = request.param == "delta" and of == "by_card"
        return target_of(request.param, of, **({"partition_by": "card_id"} if is_divided else {}))

    return of_totals


def drained(target: Target, batches: Sequence[Sequence[Row]]) -> None:
    with target.running() as take:
        for rows in batches:
            target.write(rows)
            take()
            check(target)


def test_each_batch_changes_the_totals_of_its_keys(target_of_totals: Callable[[str], Target]) -> None:
    target = target_of_totals("by_card")
    drained(target, [[sale(number, "a", f"{number}.05") for number in range(6)], [sale(7, "a", "0.01", city=None)]])
    declined = [sale(8, "a", "99", city=None, status="declined"), sale(9, "a", "1", city="none", status="declined")]
    hostile = [
        sale(10 + number, "a", "1", city=city) for number, city in enumerate(["", "a\0", "a\ufffd", "\U0001f600", "Z"])
    ]
    drained(target, [[], declined, hostile, [sale(20, "a", "2", city=None), *hostile[:2]]])
    (total,) = [row["total"] for row in target.rows() if row["city"] is None and row["card_id"] == "card-1"]
    assert total == Decimal("0.01")


def test_top_holds_exactly_the_first_rows_and_ties_go_by_the_key(target_of_totals: Callable[[str], Target]) -> None:
    target = target_of_totals("best")
    drained(
        target,
        [
            [sale(1, "b", "5"), sale(2, "a", "5")],  # fewer than it keeps
            [sale(3, "d", "5"), sale(4, "c", "5"), sale(5, "Z", "1")],  # as much as others
            [sale(6, "Z", "4"), sale(7, "\U0001f600", "5")],  # one from behind, and one behind by its bytes
            [sale(8, "d", "0.01")],  # that had to go, with all that it added up to
            [],
        ],
    )
    assert sorted(row["merchant"] for row in target.rows()) == ["Z", "a", "d"]


def test_a_batch_of_totals_that_is_run_again_adds_nothing(target_of_totals: Callable[[str], Target]) -> None:
    """As after a power cut that took back Spark's commit."""
    target = target_of_totals("by_card")
    drained(target, [[sale(1, "a", "1")], [sale(2, "a", "2"), sale(3, "a", "4")]])
    newest = max((target.flow.checkpoint.path / "commits").iterdir(), key=lambda path: path.name)
    newest.unlink()
    drained(target, [[sale(4, "a", "8")]])


POINTS = [
    "staged",
    "renamed",
    *(pytest.param(point, marks=pytest.mark.faults) for point in ("before_staging", "before_commit")),
]


@pytest.mark.parametrize("point", POINTS)
def test_a_death_anywhere_leaves_totals_exact(
    target_of_totals: Callable[[str], Target], point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_of_totals("best")
    drained(target, [[sale(1, "a", "1"), sale(2, "b", "2")]])
    target.write([sale(3, "a", "4"), sale(4, "c", "1"), sale(5, "d", "1")])
    with monkeypatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "reach", dies_at(point))
        with pytest.raises(StreamingQueryException, match=Died.__name__):
            target.drain()
    target.drain()
    check(target)


def test_a_reset_makes_totals_again(target_of_totals: Callable[[str], Target]) -> None:
    target = target_of_totals("by_card")
    drained(target, [[sale(1, "a", "1")], [sale(2, "a", "2")]])
    reset_journal.begin(target.flow, {})
    assert reset_journal.finish(target.flow) == ["x"]
    target.drain()
    check(target)
