"""The pipeline by the API: status, quarantine, late rows, drift; replay, reset and audit; limits and the cache."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import redis
from fastapi.testclient import TestClient

from stream_app.api import answers, cache, engine, formats
from stream_app.api.cache import Answer, Cache, Shared
from stream_app.api.engine import Engine
from stream_app.kafka.broker import Broker
from stream_app.ops import reset
from stream_app.sinks.registry import flows
from stream_app.storage import lock
from tests.helpers import Deadline, app_settings, at, bronze_row, tree, value, wait_until, write_layer
from tests.outputs import Output, Record
from tests.unit.served import MINUTES, served


@pytest.fixture
def output(minutes: Output, tmp_path: Path) -> Output:
    return minutes.copied(tmp_path / "out")


@pytest.fixture
def client(output: Output, feeds: Path) -> Iterator[TestClient]:
    with served(output.root, service={"feeds_path": feeds}) as client:
        yield client


def mend(feeds: Path) -> None:
    """Have the rule that refuses a record a minute allow it."""
    file = feeds / "transactions.toml"
    file.write_text(file.read_text().replace('"ZAR"]', '"ZAR", "XXX"]'))


def test_status_says_how_each_flow_is_and_how_complete(client: TestClient) -> None:
    told = client.get("/api/status").json()
    assert told["is_running"] is False
    sinks = {one["sink"]: one for one in told["sinks"]}
    assert [*sinks] == ["bronze", "quarantine", "silver", "gold", "raw_csv"]
    assert sinks["bronze"]["rows"] == 3 * MINUTES
    assert sinks["gold"]["complete_up_to"] == "2026-11-21T01:05:00Z"
    assert sinks["silver"]["newest_taken"] == {"0": "2026-11-21T01:11:02Z", "1": "2026-11-21T01:11:01Z"}
    assert client.get("/api/status?feed=nobody").status_code == 404


def test_history_has_the_samples_of_this_process(client: TestClient) -> None:
    wait_until(lambda: client.get("/api/history").json()["samples"])
    told = client.get("/api/history").json()
    assert told["flows"][2] == "transactions.silver"
    assert told["samples"][0]["rows"][2] == 2 * MINUTES
    assert told["samples"][0]["lag_seconds"][3] > 0
    own = client.get("/api/history?feed=transactions").json()
    assert own["flows"] == told["flows"]
    assert own["samples"][: len(told["samples"])] == told["samples"]


def test_quarantine_has_reasons_samples_and_a_course_in_time(client: TestClient) -> None:
    (told,) = client.get("/api/quarantine").json()
    (reason,) = told["reasons"]
    assert (told["records"], reason["reason"], reason["records"]) == (MINUTES, "not_allowed:currency", MINUTES)
    assert '"currency": "XXX"' in reason["samples"][0]["value"]
    assert client.get("/api/quarantine?reason=late").json()[0]["reasons"] == []
    (course,) = client.get("/api/quarantine/history").json()
    assert course["seconds"] == 30
    assert sum(one["records"] for one in course["buckets"]) == MINUTES


def test_late_rows_and_drift_are_told(client: TestClient, output: Output) -> None:
    assert client.get("/api/late").json()[0]["rows"] == 0
    tag = client.get("/api/late").headers["etag"]
    output.take([Record(value(700, 0), at(100))], at(800))
    answer = client.get("/api/late", headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert (answer.json()[0]["rows"], answer.json()[0]["samples"][0]["txn_id"]) == (1, "t700")
    assert client.get("/api/drift").json() == [{"feed": "transactions", "unknown": "report", "fields": []}]


def test_a_replay_takes_what_was_shown_whatever_has_come_since(client: TestClient, feeds: Path, output: Output) -> None:
    mend(feeds)
    shown = client.post("/api/replay/preview", json={"feed": "transactions"}).json()
    assert (shown["records"], shown["ledger"]) == (MINUTES, None)
    output.take([Record(value(990, 720, currency="XXX"), at(720))], at(721))
    done = client.post("/api/replay", json={"feed": "transactions", "token": shown["token"]}).json()
    assert (done["records"], bool(done["ledger"])) == (MINUTES, True)
    again = client.post("/api/replay", json={"feed": "transactions", "token": shown["token"]})
    assert again.status_code == 409, "nothing is taken twice"
    left = client.post("/api/replay/preview", json={"feed": "transactions"}).json()
    assert left["records"] == 1


@pytest.mark.parametrize("token", ["x", "-2.x", "999999999999999999999.x", "0.0", "é"])
def test_a_replay_without_the_token_of_what_is_so_does_nothing(
    client: TestClient, feeds: Path, output: Output, token: str
) -> None:
    mend(feeds)
    before = tree(output.root)
    answer = client.post("/api/replay", json={"feed": "transactions", "token": token})
    assert answer.status_code == 409
    assert "look at it again" in answer.json()["detail"]
    assert {**tree(output.root), "transactions/_replay.lock": b""} == {**before, "transactions/_replay.lock": b""}
    assert client.post("/api/replay", json={"feed": "transactions"}).status_code == 422


def test_a_replay_is_refused_where_its_rules_have_changed_since_it_was_shown(client: TestClient, feeds: Path) -> None:
    mend(feeds)
    shown = client.post("/api/replay/preview", json={"feed": "transactions"}).json()
    file = feeds / "transactions.toml"
    file.write_text(file.read_text().replace("1_000_000", "5"))
    assert client.post("/api/replay", json={"feed": "transactions", "token": shown["token"]}).status_code == 409


def test_a_reset_deletes_what_was_shown_or_nothing(client: TestClient, output: Output) -> None:
    asked = {"feed": "transactions", "sink": "gold"}
    shown = client.post("/api/reset/preview", json=asked).json()
    assert [sink["name"] for sink in shown["sinks"]] == ["transactions.gold"]
    assert client.post("/api/reset", json={**asked, "token": "x"}).status_code == 409
    assert output.paths("gold")
    silver = {"feed": "transactions", "sink": "silver", "token": shown["token"]}
    assert client.post("/api/reset", json=silver).status_code == 409, "the token is of another reset"
    with lock.sole_user(output.root, 0):
        busy = client.post("/api/reset", json={**asked, "token": shown["token"]})
        assert busy.status_code == 409
        assert "is in use by process" in busy.json()["detail"]
    assert client.post("/api/reset", json={**asked, "token": shown["token"]}).status_code == 200
    assert output.paths("gold") == []
    assert output.paths("silver")
    wrong = client.post("/api/reset/preview", json={"feed": "transactions", "sink": "no"})
    assert (wrong.status_code, wrong.json()["detail"].partition(" is none of")[0]) == (422, 'sink: "no"')
    wrong = client.post("/api/reset/preview", json={"feed": "transactions", "to": "2026-99"})
    assert (wrong.status_code, wrong.json()["detail"].partition(" is neither")[0]) == (422, 'to: "2026-99"')


def test_a_resets_preview_says_where_no_broker_told_it_the_offsets(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brokers that do not answer are asked once, however many feeds there are, and for two seconds."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        kafka = app_settings(output.root, kafka_bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}").kafka
        both = [flow for name in "ab" for flow in flows([output.feed.model_copy(update={"name": name})], output.root)]
        asked: list[float] = []

        def broker(*given: Any) -> Broker:
            asked.append(given[1])
            return Broker(*given)

        monkeypatch.setattr(reset, "Broker", broker)
        with reset.planned(both, kafka, "earliest") as plan:
            said = [sink.reads_from for sink in plan.sinks if sink.name.endswith(".bronze")]
    assert asked == [2.0]
    told = f"no broker at {kafka.bootstrap_servers} has told the offsets within 2 s"
    assert said == [f"topic transactions, earliest ({told})"] * 2


def test_an_audit_is_started_followed_and_read(client: TestClient) -> None:
    answer = client.post("/api/audit", json={"feed": "transactions"})
    assert answer.status_code == 202
    place, deadline = answer.headers["location"], Deadline(60)
    while (run := client.get(place).json())["state"] == "running":
        assert not deadline.has_passed()
        time.sleep(0.1)
    assert (run["state"], run["verdict"], run["error"]) == ("done", "right", "")
    assert run["report"]["counts"]["bronze"] == 3 * MINUTES
    assert [one["id"] for one in client.get("/api/audit").json()] == [run["id"]]
    assert client.get("/api/audit/nothing").status_code == 404
    assert client.post("/api/audit", json={"feed": "transactions", "sink": "no"}).status_code == 404


def test_metrics_say_of_each_feed_whether_its_last_audit_was_wrong(client: TestClient, output: Output) -> None:
    """An alert of Prometheus waits for it."""
    assert "stream_app_api_audit_wrong{" not in client.get("/metrics").text, "there was none"
    for verdict in ("right", "wrong"):
        place = client.post("/api/audit", json={"feed": "transactions"}).headers["location"]
        wait_until(lambda place=place: client.get(place).json()["state"] != "running", 120)  # type: ignore[misc]
        assert client.get(place).json()["verdict"] == verdict
        number = 1.0 if verdict == "wrong" else 0.0
        assert f'stream_app_api_audit_wrong{{feed="transactions"}} {number}' in client.get("/metrics").text
        output.paths("silver")[3].unlink(missing_ok=True)


def test_a_feed_file_that_is_edited_is_read_again_and_a_mistake_waits(client: TestClient, feeds: Path) -> None:
    file = feeds / "transactions.toml"
    text = file.read_text()
    file.write_text(text + '\n[sinks.more]\nof = "gold"\nto = "csv"\n')
    assert [one["name"] for one in client.get("/api/feeds").json()[0]["sinks"]] == ["raw_csv", "more"]
    file.write_text(text + "\nwrong")
    assert client.get("/api/status").status_code == 200
    assert client.get("/api/feeds").status_code == 200
    assert client.post("/api/replay/preview", json={"feed": "transactions"}).status_code == 409


def test_a_query_that_takes_too_long_is_ended(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(seconds=0.01).cursor() as cursor, pytest.raises(duckdb.InterruptException):
        cursor.execute("SELECT count(*) FROM range(1000000000000)").fetchall()

    def select(*_: object) -> None:
        raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")

    monkeypatch.setattr("stream_app.api.feeds.select", select)
    with served(output.root) as client:
        answer = client.get("/api/feeds/transactions/silver")
    assert answer.status_code == 504
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("accept", [*formats.FORMATS])
def test_an_answer_that_is_too_large_is_refused_in_every_format(
    output: Output, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    with served(output.root) as client:
        path, headers = "/api/feeds/transactions/silver", {"Accept": accept}
        whole = client.get(f"{path}?limit=2", headers=headers)
        monkeypatch.setattr(answers, "LARGEST_BYTES", len(whole.content))
        assert client.get(f"{path}?limit=2&order=txn_id", headers=headers).status_code == 200
        answer = client.get(f"{path}?limit=20", headers=headers)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].startswith("limit: the answer is larger than")


def test_a_query_that_needs_too_much_memory_is_refused_and_the_next_one_is_answered(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_MEMORY", "16MB")
    long = [bronze_row(100 + i, random.randbytes(900_000), 800 + i) for i in range(30)]
    write_layer(output.flows["bronze"], MINUTES, long)
    with served(output.root) as client:
        answer = client.get("/api/feeds/transactions/bronze")
        assert answer.status_code == 507, answer.text[:200]
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "the query needs too much memory; ask for less"
        assert client.get("/api/feeds/transactions/bronze?offset.lt=100").status_code == 200


def test_no_more_queries_run_than_there_are_places(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine.__init__, "__defaults__", (10.0, 0))
    monkeypatch.setattr("stream_app.api.engine._PATIENCE_SECONDS", 0.01)
    with served(output.root) as client:
        for path in ("feeds/transactions/silver", "quarantine", "quarantine/history", "late"):
            answer = client.get(f"/api/{path}")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), path


def test_answers_survive_a_cache_that_is_away(output: Output) -> None:
    with served(output.root, redis_url="redis://127.0.0.1:1/0") as client:
        assert client.get("/api/feeds/transactions/silver").status_code == 200
        assert client.get("/api/feeds/transactions/silver").status_code == 200


def test_the_cache_holds_a_bounded_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST_BYTES", 100)
    monkeypatch.setattr(cache, "_ENTRY_BYTES", 0)
    held = Cache()
    for number in range(10):
        held.put(str(number), Answer(b"x" * 30, "", {}))
    held.get("7")
    held.put("10", Answer(b"x" * 30, "", {}))
    assert [number for number in map(str, range(11)) if held.get(number)] == ["7", "9", "10"]


def test_a_million_empty_answers_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST_BYTES", 20_000)
    held = Cache()
    for number in range(1000):
        held.put(str(number), Answer(b"", "", {}))
    assert len(held._held) < 20


def test_a_shared_cache_that_fails_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    shared, calls = Shared("redis://127.0.0.1:1/0"), list[str]()

    def get(key: str) -> bytes:
        calls.append(key)
        raise redis.ConnectionError

    monkeypatch.setattr(shared._client, "get", get)
    assert shared.get("a") is None
    assert shared.get("a") is None
    assert len(calls) == 1


def test_what_a_fault_of_ours_says_is_nothing_of_our_insides(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret insides")

    monkeypatch.setattr("stream_app.api.pipeline.drift", broken)
    with served(output.root) as client:
        client._transport.raise_server_exceptions = False  # type: ignore[attr-defined] # as a real server does
        answer = client.get("/api/drift")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert json.loads(answer.text)["status"] == 500


@pytest.mark.parametrize("path", ["status", "history", "quarantine", "quarantine/history", "late", "drift", "lineage"])
def test_a_misspelt_parameter_is_named(client: TestClient, path: str) -> None:
    """Left out, it would have all told where somebody asked for a part."""
    assert client.get(f"/api/{path}").status_code == 200
    answer = client.get(f"/api/{path}?fed=transactions")
    assert (answer.status_code, answer.json()["detail"].partition(";")[0]) == (400, "fed: is no parameter here")


def test_a_body_that_is_no_json_is_named(client: TestClient) -> None:
    for sent in (b"{", b"\xff\xfe", b""):
        answer = client.post("/api/reset/preview", content=sent, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (422, "body")


def test_the_status_of_a_feed_is_its_part_of_the_newest(output: Output) -> None:
    with served(output.root, service={"feeds": ("transactions", "sales")}) as client:
        whole = client.get("/api/status").json()["sinks"]
        for feed in ("transactions", "sales"):
            told = client.get(f"/api/status?feed={feed}").json()["sinks"]
            assert [one["sink"] for one in told] == [one["sink"] for one in whole if one["feed"] == feed]
            assert {one["feed"] for one in told} == {feed}
