"""The sales feed: reference data, totals and five Delta tables, which every reader reads alike."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.service.harness import Service
from tests.service.sales import COUNT, TABLES

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def sales(shop: dict[str, Service]) -> Service:
    return shop["sales"]


def _of_deltalake(table: str) -> Rows:
    return list(pa.table(DeltaTable(table).scan().read_all()).to_pylist())


def _of_polars(table: str) -> Rows:
    return polars.read_delta(table).to_dicts()


def _of_duckdb(table: str) -> Rows:
    opened = DeltaTable(table).scan()  # noqa: F841 - DuckDB finds it by its name
    return list(duckdb.sql("FROM opened").to_arrow_table().to_pylist())


@pytest.mark.parametrize("table", TABLES)
def test_each_table_reads_the_same_by_every_reader(sales: Service, table: str) -> None:
    folder = str(sales.root / "sales" / table)
    expected = _in_order(_of_deltalake(folder))
    assert expected
    readers: tuple[Callable[[str], Rows], ...] = (_of_polars, _of_duckdb)
    for read in readers:
        assert _in_order(read(folder)) == expected, read.__name__
    assert sales.query(f"SELECT count(*) FROM {table}") == [(len(expected),)]


def test_the_tables_add_up(sales: Service) -> None:
    read = {table: _of_deltalake(str(sales.root / "sales" / table)) for table in TABLES}
    clean = read["ventes_clean"]
    assert len(read["ventes_raw"]) == COUNT
    assert {row["value_text"] for row in read["ventes_raw"] if row["value"] is not None} > {""}
    total = sum(row["montant"] for row in clean)
    assert len(clean) > COUNT * 0.8
    by_country = read["ventes_aggreges"]
    assert sum(row["total_montant"] for row in by_country) == total
    assert sum(row["nombre_ventes"] for row in by_country) == len(clean)
    assert sum(row["total_montant"] for row in read["top_produits"]) == total  # of five products all are in the ten
    assert len(by_country) == 25
    hours = read["hourly_sales"]
    assert sum(row["total_quantite"] for row in hours) == sum(row["total_quantite"] for row in by_country)
    assert {row["final"] for row in hours} == {True, False}  # the running hour shows, too
    assert all(row["heure"] == row["window_start"] for row in hours)
    assert list(hours[0]) == ["window_start", "window_end", "heure", "total_montant", "total_quantite", "final"]


def test_records_are_judged_by_the_reference_data(sales: Service) -> None:
    (unknown,) = sales.query(
        "SELECT count(*) FILTER ('unknown:client_id' IN reasons), count(*) FILTER ('unknown:produit_id' IN reasons) "
        "FROM quarantine"
    )
    assert min(map(int, map(str, unknown))) > 5
    wrong = sales.query("SELECT montant, quantite * prix FROM silver WHERE warnings = ['montant_juste']")
    assert len(wrong) > 5
    assert all(montant != juste for montant, juste in wrong)
    assert sales.query("SELECT count(*) FROM silver WHERE warnings = [] AND montant <> quantite * prix") == [(0,)]
    assert sales.query("SELECT max(prix) FROM silver") == [(Decimal("899.99"),)]


def test_the_audit_proves_all_five(sales: Service) -> None:
    report = sales.audit()
    assert report.wrong == []
    assert report.not_audited == []
    assert {*TABLES} <= report.counts.keys()


def _in_order(rows: Rows) -> list[str]:
    return sorted(repr(sorted((key, _plain(value)) for key, value in row.items())) for row in rows)


def _plain(value: Any) -> Any:
    """Return a value as all readers have it: maps of headers, and times, which polars gives a zone of its own."""
    if hasattr(value, "isoformat") and hasattr(value, "timestamp"):
        return value.timestamp()
    return value
