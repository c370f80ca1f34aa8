"""The three reports of the sales system's clients: from the feed's tables, or from silver where these do not tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from stream_app.ops.sales import SalesQuery
from tests.unit.served import served
from tests.unit.sold import sold


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    root = tmp_path_factory.mktemp("sales")
    sold(root)
    with served(root, service={"feeds": ("sales",)}) as client:
        yield client


def get(client: TestClient, path: str, **parameters: Any) -> list[dict[str, Any]]:
    answer = client.get(f"/api/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return list(answer.json())


def test_sales_by_product_and_country(client: TestClient) -> None:
    assert get(client, "aggregated_sales") == [
        {"produit_nom": "Clavier", "pays": "France", "total_montant": "150.00", "total_quantite": 2},
        {"produit_nom": "Souris", "pays": "Spain", "total_montant": "20.20", "total_quantite": 2},
        {"produit_nom": "Souris", "pays": "France", "total_montant": "10.10", "total_quantite": 1},
    ]
    assert [row["produit_nom"] for row in get(client, "aggregated_sales", pays="Spain")] == ["Souris"]
    assert get(client, "aggregated_sales", limit=1, numbers="float")[0]["total_montant"] == 150.0


def test_the_best_products_come_by_amount_of_all_countries_or_of_one(client: TestClient) -> None:
    assert get(client, "top_products") == [
        {"produit_nom": "Clavier", "total_montant": "150.00"},
        {"produit_nom": "Souris", "total_montant": "30.30"},
    ]
    assert get(client, "top_products", pays="Spain") == [{"produit_nom": "Souris", "total_montant": "20.20"}]
    assert get(client, "top_products", limit=1)[0]["produit_nom"] == "Clavier"


def test_hourly_sales_come_newest_first_within_a_span(client: TestClient) -> None:
    assert get(client, "hourly_sales") == [
        {"heure": "2025-12-22 12:00:00", "total_montant": "75.00", "total_quantite": 1},
        {"heure": "2025-12-22 11:00:00", "total_montant": "75.00", "total_quantite": 1},
        {"heure": "2025-12-22 10:00:00", "total_montant": "30.30", "total_quantite": 3},
    ]
    span = {"from": "2025-12-22T10:00:00", "to": "2025-12-22 12:00:00"}
    assert [row["heure"][11:13] for row in get(client, "hourly_sales", **span)] == ["11", "10"]


@pytest.mark.parametrize("report", ["aggregated_sales", "top_products", "hourly_sales"])
def test_silver_tells_the_same_where_a_span_holds_all(client: TestClient, report: str) -> None:
    assert get(client, report, **{"from": "2000-01-01T00:00:00Z"}) == get(client, report)


def test_a_span_and_a_country_choose_the_sales_themselves(client: TestClient) -> None:
    span = {"from": "2025-12-22T12:00:00Z"}
    assert [row["total_montant"] for row in get(client, "aggregated_sales", **span)] == ["75.00"]
    assert get(client, "top_products", pays="Spain", **span) == []
    assert get(client, "hourly_sales", pays="Spain") == [
        {"heure": "2025-12-22 10:00:00", "total_montant": "20.20", "total_quantite": 2}
    ]


@pytest.mark.parametrize(
    ("span", "hours"),
    [
        ({"from": "2025-12-22T10:15:00Z"}, ["12", "11", "10"]),
        ({"from": "2025-12-22T10:30:00Z", "to": "2025-12-22T11:30:00Z"}, ["10"]),
        ({"from": "2025-12-22T10:30:00.000001Z", "to": "2025-12-22T11:30:00.000001Z"}, ["11"]),
        ({"from": "2025-12-22T16:00:00+05:30"}, ["12", "11", "10"]),
        ({"from": "2025-12-22T12:00:00+01:00", "to": "2025-12-22T12:00"}, ["11"]),
        ({"to": "2025-12-22 10:15"}, []),
    ],
)
def test_a_span_is_of_the_sales_own_times_whatever_answers(
    client: TestClient, span: dict[str, str], hours: list[str]
) -> None:
    """Each hour has a sale at half past, all of them in France or Spain."""
    found = get(client, "hourly_sales", **span)
    assert [row["heure"][11:13] for row in found] == hours
    of_one = [row for pays in ("France", "Spain") for row in get(client, "hourly_sales", pays=pays, **span)]
    assert sum(row["total_quantite"] for row in of_one) == sum(row["total_quantite"] for row in found)
    assert {row["heure"] for row in of_one} == {row["heure"] for row in found}
    whole = get(client, "aggregated_sales", **span)
    assert sum(row["total_quantite"] for row in whole) == sum(row["total_quantite"] for row in found)


def test_a_table_answers_for_whole_hours(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silver may be long."""
    asked: list[str] = []
    run = SalesQuery.run

    def noted(query: SalesQuery, *given: Any) -> list[dict[str, Any]]:
        asked.append(query.source)
        return run(query, *given)

    monkeypatch.setattr(SalesQuery, "run", noted)
    get(client, "hourly_sales", **{"from": "2025-12-22T08:00:00Z", "to": "2025-12-22T17:30:00+05:30"})
    get(client, "hourly_sales", **{"from": "2025-12-22T08:00:01Z", "to": "2025-12-22T17:30:00+05:30"})
    assert asked == ["hourly_sales", "silver"]


def test_values_are_no_sql_and_a_mistake_is_named(client: TestClient) -> None:
    assert get(client, "aggregated_sales", pays="x' OR true --") == []
    answer = client.get("/api/hourly_sales?from=yesterday")
    assert (answer.status_code, "from, to: 'yesterday'" in answer.json()["detail"]) == (400, True)
    misspelt = client.get("/api/top_products?pay=Spain")
    known = "pay: is no parameter here; there are from, limit, numbers, pays, to"
    assert (misspelt.status_code, misspelt.json()["detail"]) == (400, known)
    tag = client.get("/api/top_products").headers["etag"]
    assert client.get("/api/top_products", headers={"If-None-Match": "*"}).status_code == 304
    assert client.get("/api/top_products", headers={"If-None-Match": tag}).status_code == 304


def test_without_the_feed_it_is_not_there(tmp_path: Path) -> None:
    with served(tmp_path) as client:
        answer = client.get("/api/top_products")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no feed sales; there are transactions")
