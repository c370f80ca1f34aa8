"""The rows of datasets by the API: what is asked for, each row once, in every format, and no SQL of a client's."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from stream_app.settings import PROJECT
from stream_app.sinks.registry import load_flows
from tests.helpers import at, silver_row, value
from tests.outputs import Output, Record
from tests.tables import append
from tests.unit.served import merge, rows, served

SILVER = "/api/feeds/transactions/silver"


@pytest.fixture(scope="module")
def still(minutes: Output) -> Iterator[TestClient]:
    """A client of an output that no test changes."""
    with served(minutes.root) as client:
        yield client


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [row["txn_id"] for row in found]


def test_feeds_have_their_topic_datasets_columns_sinks_and_contract(still: TestClient) -> None:
    (feed,) = still.get("/api/feeds").json()
    assert (feed["name"], feed["topic"], feed["has_producer"]) == ("transactions", "transactions", True)
    told = {one["name"]: one for one in feed["datasets"]}
    assert [*told] == ["bronze", "quarantine", "silver", "gold"]
    assert told["silver"]["columns"]["amount"] == "decimal(18,2)"
    assert (told["gold"]["upstream"], told["gold"]["rows_are"], told["gold"]["time"]) == (
        "silver",
        "window",
        "window_start",
    )
    (sink,) = feed["sinks"]
    assert (sink["name"], sink["of"], sink["to"], sink["guarantee"]) == ("raw_csv", "silver", "csv", "exactly once")
    contract = still.get("/api/feeds/transactions").json()["contract"]
    assert contract["fields"]["status"]["allowed"] == ["approved", "declined", "pending"]


def test_the_newest_rows_come_first_and_a_time_range_is_half_open(still: TestClient) -> None:
    found = rows(still, "silver")
    assert len(found) == 24
    assert found[0]["txn_id"] == "t111"
    between = rows(still, "silver", **{"from": at(60).isoformat(), "to": at(180).isoformat()})
    assert sorted(ids(between)) == ["t10", "t11", "t20", "t21"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"txn_id": "t11"}, {"t11"}),
        ({"txn_id": ["t11", "t20"]}, {"t11", "t20"}),
        ({"amount.gte": "11", "status": "approved"}, {"t110"}),
        ({"amount.lt": "1"}, {"t0", "t1"}),
        ({"amount.eq": "0.15"}, {"t1"}),
        ({"event_time.lte": at(0).isoformat()}, {"t0", "t1"}),
        ({"status.ne": "approved", "offset": "0"}, {"t1"}),
        ({"txn_id.null": "true"}, set()),
        ({"user_id": "' OR 1=1 --"}, set()),
    ],
)
def test_columns_are_conditions(still: TestClient, conditions: dict[str, Any], expected: set[str]) -> None:
    assert {*ids(rows(still, "silver", **conditions))} == expected


def test_a_reason_is_looked_for_in_the_list_of_them(still: TestClient) -> None:
    assert len(rows(still, "quarantine", reasons="not_allowed:currency")) == 12
    assert rows(still, "quarantine", reasons="not_allowed") == []


@pytest.mark.parametrize("order", ["", "amount", "-amount", "status", "-card_id", "kafka_ts", "lat"])
@pytest.mark.parametrize("limit", [1, 5, 24])
def test_pages_have_each_row_once_in_order(still: TestClient, order: str, limit: int) -> None:
    found = rows(still, "silver", order=order, limit=limit)
    assert len({*ids(found)}) == len(found) == 24
    if order:
        keys = [Decimal(one) if order.endswith("amount") else one for one in (row[order.lstrip("-")] for row in found)]
        assert keys == sorted(keys, reverse=order.startswith("-"))


def test_a_row_is_on_one_page_while_files_are_merged_and_others_come(minutes: Output, tmp_path: Path) -> None:
    output = minutes.copied(tmp_path)
    before = {row["txn_id"] for row in pq.read_table([*output.paths("silver")]).to_pylist()}
    with served(tmp_path) as client:
        seen: list[str] = []
        cursor, page = "", 0
        while True:
            told = client.get(SILVER, params={"limit": 5, "cursor": cursor}).json()
            seen += ids(told["rows"])
            if (cursor := told["next"]) is None:
                break
            page += 1
            merge(output, 2 * page)
            output.take([Record(value(500 + page, 900), at(900 + page))], at(905 + page))
    assert len(seen) == len({*seen})
    assert {*seen} == before


def test_nulls_come_last_and_are_paged_through(minutes: Output, tmp_path: Path) -> None:
    output = minutes.copied(tmp_path)
    for file in output.flows["silver"].files():
        table = pq.read_table(file.path)
        cities = [None if one.endswith("0") else "Jena" for one in table["txn_id"].to_pylist()]
        pq.write_table(
            table.set_column(table.column_names.index("city"), "city", pa.array(cities, pa.string())), file.path
        )
    with served(tmp_path) as client:
        for order in ("city", "-city"):
            found = rows(client, "silver", order=order, limit=5)
            assert len({*ids(found)}) == 24
            assert [row["city"] for row in found] == ["Jena"] * 12 + [None] * 12
        assert len(rows(client, "silver", **{"city.null": "true"})) == 12


def test_every_format_has_the_same_rows(still: TestClient) -> None:
    parameters = {"columns": "txn_id,amount,event_time", "limit": "3", "order": "txn_id"}

    def get(accept: str, **more: str) -> Any:
        answer = still.get(SILVER, params={**parameters, **more}, headers={"Accept": accept})
        assert answer.headers["content-type"].startswith(accept.partition(";")[0])
        assert 'rel="next"' in answer.headers["link"]
        return answer

    found = get("application/json").json()["rows"]
    assert found[0] == {"txn_id": "t0", "amount": "0.05", "event_time": "2026-11-21T01:00:00Z"}
    assert [json.loads(line) for line in get("application/x-ndjson").text.splitlines()] == found
    assert [*csv.DictReader(io.StringIO(get("text/csv").text))] == found
    arrow = pa.ipc.open_stream(get("application/vnd.apache.arrow.stream").content).read_all()
    assert arrow["amount"].to_pylist() == [Decimal(row["amount"]) for row in found]
    assert get("application/json", numbers="float").json()["rows"][0]["amount"] == 0.05
    floats = get("application/vnd.apache.arrow.stream", numbers="float").content
    assert pa.ipc.open_stream(floats).read_all()["amount"].to_pylist()[0] == 0.05
    for accept in ("text/html", "*/*;q=0", "text/csv;q=x", "text/csv;q=0, text/csv"):
        assert still.get(SILVER, headers={"Accept": accept}).status_code == 406, accept
    for accept, media in {
        "TEXT/CSV": "text/csv; charset=utf-8",
        "text/*": "text/csv; charset=utf-8",
        "text/html, application/*;q=0.8": "application/json",
        "application/json;q=0, */*": "application/x-ndjson",
        "text/csv;q=0, */*": "application/json",
        "*/*, application/*;q=0": "text/csv; charset=utf-8",  # what is more exact counts, wherever it is
        "application/*, application/json;q=0.1": "application/x-ndjson",
        "*/*;q=0.1, text/csv;q=0.5": "text/csv; charset=utf-8",
        "text/csv, application/json": "text/csv; charset=utf-8",
    }.items():
        assert still.get(SILVER, headers={"Accept": accept}).headers["content-type"] == media


@pytest.mark.parametrize("parameter", ["limit", "order", "columns", "from", "cursor", "numbers", "version"])
def test_a_parameter_that_is_given_twice_is_named(still: TestClient, parameter: str) -> None:
    """Only the last one would be taken. A condition may be: either value will do."""
    answer = still.get(SILVER, params={parameter: ["1", "2"]})
    assert answer.status_code in {400, 422}, answer.text
    if answer.status_code == 400:
        assert answer.json()["detail"] == f"{parameter}: is given twice"
    assert still.get(SILVER, params={"status": ["approved", "declined"]}).status_code == 200
    both = still.get(SILVER, params={"version": 1, "timestamp": "2026-11-21"})
    assert (both.status_code, both.json()["detail"]) == (400, "version, timestamp: give one of them")


def test_a_parameter_of_nothing_is_named_where_there_are_none(still: TestClient) -> None:
    for path in ("/api/feeds", "/api/feeds/transactions", "/api/audit", "/api/audit/x"):
        answer = still.get(path, params={"limit": 1})
        assert (answer.status_code, answer.json()["detail"]) == (400, "limit: is no parameter here; there are none")
    twice = still.get("/api/late", params={"feed": ["transactions", "x"]})
    assert (twice.status_code, twice.json()["detail"]) == (400, "feed: is given twice")


def test_bronze_has_its_bytes_in_base64(still: TestClient) -> None:
    (row,) = rows(still, "bronze", partition="1", offset="0")
    assert base64.b64decode(row["value"]) == value(1, 0, amount=0.15, status="declined")


def test_a_formula_is_no_formula_in_csv(minutes: Output, tmp_path: Path) -> None:
    output = minutes.copied(tmp_path)
    output.take([Record(value(900, 700, merchant="=1+1"), at(700))], at(701))
    with served(tmp_path) as client:
        text = client.get(SILVER, params={"merchant": "=1+1"}, headers={"Accept": "text/csv"}).text
    assert next(csv.DictReader(io.StringIO(text)))["merchant"] == "'=1+1"


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/api/feeds/nobody", 404, "there is no feed nobody; there are transactions"),
        ("/api/feeds/transactions/nothing", 404, "it has bronze, quarantine, silver, gold"),
        ("/api/feeds/transactions/raw_csv", 404, "ask /api/feeds/transactions/silver"),
        (f"{SILVER}?nothing=1", 400, "nothing: transactions.silver has no column nothing"),
        (f"{SILVER}?amount.like=1", 400, "amount.like: there is no such operator"),
        (f"{SILVER}?amount.gte=x", 400, "amount: 'x' is no DECIMAL(18,2)"),
        (f"{SILVER}?offset=1.5", 400, "offset: '1.5' is no BIGINT"),
        (f"{SILVER}?amount.gt=0.001", 400, "amount: '0.001' is no DECIMAL(18,2)"),
        (f"{SILVER}?{'&'.join(['txn_id=a'] * 201)}", 400, "txn_id: there are more than 200 conditions"),
        (f"{SILVER}?from=yesterday", 400, "from: 'yesterday' is no time such as 2026-11-21T10:00:00Z"),
        (f"{SILVER}?from=2026-11-21T10:00:00+02:00", 400, "(in a URL, + is written %2B)"),
        (f"{SILVER}?event_time.gt=2026-13-01", 400, "event_time: '2026-13-01' is no time such as"),
        (f"{SILVER}?order=nothing", 400, "order: transactions.silver has no column nothing"),
        (f'{SILVER}?columns=txn_id,1;DROP TABLE "x"', 400, "columns: transactions.silver has no column"),
        (f"{SILVER}?cursor=x", 400, "cursor: is not one of"),
        (f"{SILVER}?limit=0", 422, "limit: "),
        (f"{SILVER}?limit=10001", 422, "limit: "),
        ("/api/feeds/transactions/quarantine?order=reasons", 400, "order: reasons is a VARCHAR[]"),
        ("/api/nowhere", 404, "there is no such path; /docs describes"),
        ("/api/replay", 405, "this path has OPTIONS, POST"),
    ],
)
def test_a_mistake_is_a_problem_that_names_it(still: TestClient, path: str, status: int, detail: str) -> None:
    answer = still.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize("held", ["5", "null", "{}", "[]", "[1]", "NaN", "[" * 3000, "9" * 3000, '"ab"', "\0"])
def test_what_is_no_cursor_is_a_mistake_of_the_client(still: TestClient, held: str) -> None:
    cursor = base64.urlsafe_b64encode(held.encode()).decode()
    assert still.get(SILVER, params={"cursor": cursor}).status_code == 400


@pytest.mark.parametrize(
    "last", [5, None, [], [1, 2, 3], [[], {}, None], ["infinity", "x", "2"], ["x\0", "1", "2"], [None] * 3]
)
def test_a_cursor_that_was_tampered_with_is_a_mistake_or_a_page(still: TestClient, last: Any) -> None:
    cursor = still.get(SILVER, params={"limit": 2}).json()["next"]
    asked, _ = json.loads(base64.urlsafe_b64decode(cursor + "==="))
    made = base64.urlsafe_b64encode(json.dumps([asked, last]).encode()).decode()
    assert still.get(SILVER, params={"cursor": made}).status_code in {200, 400}


def test_a_column_that_is_asked_for_twice_is_there_once(still: TestClient) -> None:
    told = still.get(SILVER, params={"columns": "amount,txn_id,amount", "limit": 1}).json()
    assert [*told["rows"][0]] == ["amount", "txn_id"]


def test_a_cursor_is_of_one_question(still: TestClient) -> None:
    cursor = still.get(SILVER, params={"limit": 2}).json()["next"]
    assert still.get(SILVER, params={"cursor": cursor, "limit": 3}).status_code == 200
    assert still.get(SILVER, params={"cursor": cursor, "status": "approved"}).status_code == 400
    assert still.get("/api/feeds/transactions/bronze", params={"cursor": cursor}).status_code == 400


def test_what_a_client_has_is_not_sent_again_until_a_batch_comes(minutes: Output, tmp_path: Path) -> None:
    output = minutes.copied(tmp_path)
    with served(tmp_path) as client:
        tag = client.get(SILVER).headers["etag"]
        for held in (tag, f"W/{tag}", f'"other", {tag}'):
            assert client.get(SILVER, headers={"If-None-Match": held}).status_code == 304
        assert client.get(SILVER, params={"limit": 3}).headers["etag"] != tag
        assert client.get(SILVER, headers={"Accept": "text/csv"}).headers["etag"] != tag
        merge(output, 6)
        assert client.get(SILVER, headers={"If-None-Match": tag}).status_code == 304, "the rows are the same"
        output.take([Record(value(500, 900), at(900))], at(905))
        answer = client.get(SILVER, headers={"If-None-Match": tag})
        assert answer.status_code == 200
        assert answer.json()["rows"][0]["txn_id"] == "t500"


def test_windows_are_paged_by_their_keys(still: TestClient) -> None:
    found = rows(still, "gold", limit=3)
    assert len(found) == len({(row["window_start"], row["card_id"]) for row in found}) == 10
    assert found[0]["window_start"] == max(row["window_start"] for row in found)


def test_the_description_lists_each_operation_by_what_it_does_and_needs_nothing_from_outside(still: TestClient) -> None:
    told = still.get("/openapi.json").json()
    found = [one["summary"] for operations in told["paths"].values() for one in operations.values()]
    assert "List the feeds, with their topics and outputs" in found
    assert all(" " in summary for summary in found)
    page = still.get("/docs").text
    parts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert parts
    assert [part for part in parts if still.get(f"/{part}").status_code != 200] == []
    assert "//" not in "".join(parts)


def test_a_delta_sink_is_read_as_it_is_and_as_it_was(minutes: Output, tmp_path: Path) -> None:
    minutes.copied(tmp_path / "out")
    feeds = Path(shutil.copytree(PROJECT / "conf" / "feeds", tmp_path / "feeds"))
    file = feeds / "transactions.toml"
    file.write_text(file.read_text() + '\n[sinks.table]\nof = "silver"\nto = "delta"\n')
    flow = next(one for one in load_flows(feeds, ["transactions"], tmp_path / "out") if one.sink == "table")
    with served(tmp_path / "out", service={"feeds_path": feeds}) as client:
        assert rows(client, "table") == [], "there is no table yet"
        append(flow, 0, [silver_row(0), silver_row(1)])
        first = client.get("/api/feeds/transactions/table?limit=1")
        append(flow, 1, [silver_row(2), silver_row(3)])
        assert sorted(ids(rows(client, "table", limit=1))) == ["t0", "t1", "t2", "t3"]
        tag = {"If-None-Match": first.headers["etag"]}
        assert client.get("/api/feeds/transactions/table?limit=1", headers=tag).status_code == 200
        assert sorted(ids(rows(client, "table", version=1, limit=1))) == ["t0", "t1"]
        assert sorted(ids(rows(client, "table", timestamp="2100-01-01T00:00:00", txn_id="t3"))) == ["t3"]
        assert client.get("/api/feeds/transactions/table?version=99").status_code == 409
        assert client.get("/api/feeds/transactions/table?timestamp=2000-01-01T00:00:00Z").status_code == 409
        assert client.get("/api/feeds/transactions/silver?version=1").status_code == 400
        (told,) = [one for one in client.get("/api/feeds").json()[0]["sinks"] if one["name"] == "table"]
        assert told["rows"] == "/api/feeds/transactions/table"
