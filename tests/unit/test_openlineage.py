"""Lineage events: as OpenLineage's schemas have them, to a receiver that may be away, slow or wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openlineage.client.serde import Serde
from referencing import Registry, Resource

from stream_app.errors import ConfigError
from stream_app.feeds.load import feeds_in
from stream_app.observe import lineage_sender
from stream_app.observe.lineage_events import Events, Written
from stream_app.observe.lineage_settings import LineageSettings, load_lineage_settings
from stream_app.observe.monitor import Monitor, State
from stream_app.settings import PROJECT
from stream_app.sinks.registry import load_flows
from tests.helpers import app_settings, wait_until

FEEDS = PROJECT / "conf" / "feeds"
SPEC = [json.loads(file.read_text()) for file in sorted((PROJECT / "tests/fixtures/openlineage").glob("*.json"))]
REGISTRY: Registry[Any] = Registry().with_resources((one["$id"], Resource.from_contents(one)) for one in SPEC)
KEY = "a-key-that-nobody-may-see"
AT = datetime(2026, 11, 27, 12, tzinfo=UTC)


def check(event: dict[str, Any]) -> None:
    """Hold an event and each of its facets to the schema that it names."""
    named = [event["schemaURL"]]
    datasets = [*event.get("inputs", ()), *event.get("outputs", ())]
    parts = [event["job"], event.get("run", {}), *datasets]
    facets = [facet for part in parts for key in ("facets", "outputFacets") for facet in part.get(key, {}).values()]
    for one, url in [(event, named[0]), *((facet, facet["_schemaURL"]) for facet in facets)]:
        Draft202012Validator({"$ref": url}, registry=REGISTRY).validate(one)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without variables of the client's; it makes some of OPENLINEAGE_URL itself, which the end takes back.

    A receiver that answers may take its time: it is a thread of this process.
    """
    monkeypatch.setattr(lineage_sender, "_TIMEOUT_SECONDS", 60.0)
    monkeypatch.setattr(lineage_sender, "_LAST_SECONDS", 60.0)
    for name in ("OPENLINEAGE_URL", "OPENLINEAGE__TRANSPORT__TYPE", "OPENLINEAGE_CONFIG", "OPENLINEAGE_DISABLED"):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize("feed", feeds_in(FEEDS))
def test_every_event_of_every_flow_is_as_the_schemas_have_it(feed: str, tmp_path: Path) -> None:
    settings = app_settings(tmp_path, database_url="postgresql://me:secret@db.example:5433/shop")
    events, run = Events("ours", settings.servers, FEEDS), "01890f5b-0b5c-7c3e-8c1e-0123456789ab"
    for flow in load_flows(FEEDS, [feed], tmp_path):
        made = [
            events.declared(flow, AT),
            events.began(flow, run, AT),
            events.runs(flow, run, AT, Written(5, 100)),
            events.ended(flow, run, AT, Written(5, 100), ""),
            events.ended(flow, run, AT, Written(0, 0), "it broke"),
        ]
        for event in made:
            told = Serde.to_dict(event)
            check(told)
            assert "secret" not in json.dumps(told)


def test_datasets_are_named_as_the_spec_says(tmp_path: Path) -> None:
    settings = app_settings(tmp_path, database_url="postgresql://me:secret@db.example/shop")
    events = Events("ours", settings.servers, FEEDS)
    found = {
        flow.name: Serde.to_dict(events.declared(flow, AT))
        for flow in load_flows(FEEDS, ["user_activity", "sales"], tmp_path)
    }

    def of(name: str, side: str) -> list[tuple[str, str]]:
        return [(one["namespace"], one["name"]) for one in found[name][side]]

    broker = settings.servers.kafka.bootstrap_servers
    assert of("sales.bronze", "inputs") == [(f"kafka://{broker}", "ventes_stream")]
    assert (
        of("sales.bronze", "outputs") == of("sales.quarantine", "inputs")[:1] == [("file", f"{tmp_path}/sales/bronze")]
    )
    assert of("user_activity.enriched_activity", "outputs") == [(f"kafka://{broker}", "enriched_activity")]
    assert of("user_activity.postgres_active_users", "outputs") == [
        ("postgres://db.example:5432", "shop.public.active_users")
    ]
    assert ("file", str(PROJECT / "conf/reference/produits.csv")) in of("sales.silver", "inputs")
    lineage = found["sales.ventes_aggreges"]["outputs"][0]["facets"]["columnLineage"]
    (amount,) = lineage["fields"]["total_montant"]["inputFields"]
    assert (amount["name"], amount["field"]) == (f"{tmp_path}/sales/silver", "montant")
    assert [(one["type"], one["subtype"]) for one in amount["transformations"]] == [("DIRECT", "AGGREGATION")]


@dataclass
class Receiver:
    """A server that takes lineage events; its own answer is given, and when it may answer."""

    status: int = 201
    may_answer: threading.Event = field(default_factory=threading.Event)
    events: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    asked: int = 0
    url: str = ""

    def of(self, job: str) -> list[str]:
        """What was told of a job, in order; JOB is what it is."""
        return [one.get("eventType", "JOB") for one in [*self.events] if one["job"]["name"] == job]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    found.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.asked += 1
            found.may_answer.wait()
            if found.status < 300 and self.path == "/api/v1/lineage":
                found.events.append(body)
                found.keys.append(self.headers["Authorization"])
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    yield found
    found.may_answer.set()
    server.shutdown()
    server.server_close()


Running = Callable[..., Any]


@pytest.fixture
def running(tmp_path: Path) -> Running:
    """A service of transactions as far as lineage goes: its monitor, and the events until the end of the block."""
    flows = load_flows(FEEDS, ["transactions"], tmp_path)

    @contextmanager
    def run(own: LineageSettings) -> Iterator[Monitor]:
        monitor = Monitor(flows)
        with lineage_sender.told(flows, monitor, app_settings(tmp_path), own):
            yield monitor
            for status in monitor.statuses.values():
                status.state = State.STOPPED

    return run


def own(**settings: Any) -> LineageSettings:
    return load_lineage_settings(_env_file=None, **settings)


def test_a_receiver_is_told_what_each_flow_is_that_it_runs_and_how_much_it_wrote(
    running: Running, receiver: Receiver
) -> None:
    with running(own(openlineage_url=receiver.url, openlineage_api_key=KEY, openlineage_minutes=0.002)) as monitor:
        monitor.statuses["transactions.silver"].rows_out = 42
        monitor.statuses["transactions.silver"].bytes = 4_200
        wait_until(lambda: receiver.of("transactions.raw_csv").count("RUNNING") > 1)
    for event in receiver.events:
        check(event)
    told = receiver.of("transactions.silver")
    assert (told[:2], told[-1]) == (["JOB", "START"], "COMPLETE")
    assert {*told[2:-1]} == {"RUNNING"}
    assert {*receiver.keys} == {f"Bearer {KEY}"}
    silver = [one for one in receiver.events if one["job"]["name"] == "transactions.silver" and "run" in one]
    assert len({one["run"]["runId"] for one in silver}) == 1
    (output,) = silver[-1]["outputs"]
    counted = output["outputFacets"]["outputStatistics"]
    assert (counted["rowCount"], counted["size"]) == (42, 4_200)


def test_what_a_flow_is_is_told_again_only_when_it_has_changed(running: Running, receiver: Receiver) -> None:
    for _ in range(2):
        with running(own(openlineage_url=receiver.url)):
            wait_until(lambda: "START" in receiver.of("transactions.raw_csv"))
    assert receiver.of("transactions.gold") == ["JOB", "START", "COMPLETE", "START", "COMPLETE"]
    with running(own(openlineage_url=receiver.url, openlineage_namespace="another")):
        wait_until(lambda: receiver.of("transactions.raw_csv").count("START") == 3)
    assert receiver.of("transactions.gold").count("JOB") == 2


def test_a_receiver_that_fails_costs_a_warning_and_is_told_all_once_it_is_well(
    running: Running, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stream_app")
    receiver.status = 500
    with running(own(openlineage_url=receiver.url, openlineage_api_key=KEY, openlineage_minutes=0.002)):
        wait_until(lambda: receiver.asked > 3)
        receiver.status = 200
        wait_until(lambda: "RUNNING" in receiver.of("transactions.raw_csv"))
    assert receiver.of("transactions.bronze")[:2] == ["JOB", "START"]
    warned = [one for one in caplog.records if one.levelname == "WARNING"]
    assert [one.fields for one in warned] == [{"error": "the receiver answers 500"}]  # type: ignore[attr-defined]
    assert [one.getMessage() for one in caplog.records if one.levelname == "INFO"] == ["lineage events are taken again"]
    assert KEY not in caplog.text


@pytest.mark.parametrize("is_slow", [True, False])
def test_a_receiver_that_is_slow_or_away_keeps_nothing_waiting(
    running: Running,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    is_slow: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lineage_sender, "_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(lineage_sender, "_LAST_SECONDS", 0.5)
    receiver.may_answer.clear()  # before the end of the test
    senders: set[str] = set()
    tell = lineage_sender._Sender._tell

    def noted(*given: Any, **how: Any) -> None:
        senders.add(threading.current_thread().name)
        tell(*given, **how)

    monkeypatch.setattr(lineage_sender._Sender, "_tell", noted)
    with running(own(openlineage_url=receiver.url if is_slow else "http://127.0.0.1:9")):
        wait_until(lambda: [one for one in caplog.records if one.levelname == "WARNING"])
    assert senders == {"lineage"}, "nobody else waits for an answer"
    warned = [one for one in caplog.records if one.levelname == "WARNING"]
    assert len(warned) == 1
    assert warned[0].fields["error"].startswith("no answer: ")  # type: ignore[attr-defined]


def test_a_service_that_fails_says_so(running: Running, receiver: Receiver) -> None:
    with pytest.raises(ValueError, match="no room"), running(own(openlineage_url=receiver.url)) as monitor:
        monitor.statuses["transactions.gold"].state = State.FAILED
        monitor.statuses["transactions.gold"].last_error = "its state is gone"
        raise ValueError("no room")
    ends = {one["job"]["name"]: one for one in receiver.events if one.get("eventType") == "FAIL"}
    errors = {name: one["run"]["facets"]["errorMessage"]["message"] for name, one in ends.items()}
    assert errors["transactions.gold"] == "its state is gone"
    assert errors["transactions.bronze"] == "no room"


@pytest.mark.parametrize(
    "transport",
    [
        {"__TYPE": "file", "__LOG_FILE_PATH": "events.jsonl", "__APPEND": "true"},
        {"": '{"type": "file", "log_file_path": "events.jsonl", "append": true}'},  # as Compose hands it on
    ],
)
def test_there_are_none_unless_they_are_asked_for(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: dict[str, str]
) -> None:
    assert not own().is_on
    before = {*threading.enumerate()}  # of which some may end meanwhile
    with running(own()):
        assert {*threading.enumerate()} <= before
    for name, value in transport.items():
        monkeypatch.setenv(
            f"OPENLINEAGE__TRANSPORT{name}", value.replace("events.jsonl", str(tmp_path / "events.jsonl"))
        )
    assert own().is_on
    with running(own()):
        pass
    told = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [one.get("eventType", "JOB") for one in told if one["job"]["name"] == "transactions.gold"] == [
        "JOB",
        "START",
        "COMPLETE",
    ]
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    assert not own().is_on


def test_what_is_set_wrongly_is_one_line_that_names_it_and_no_secret(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("localhost:5000", "ftp://x", f"http://me:{KEY}@host"):
        with pytest.raises(ConfigError, match="OPENLINEAGE_URL: ") as refused:
            own(openlineage_url=url)
        assert KEY not in str(refused.value)
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "pigeon")
    with pytest.raises(ConfigError, match="OPENLINEAGE__TRANSPORT: its variables make no transport"), running(own()):
        pass
