"""Supervision and draining, with the real Runner over a pipeline whose queries do as they are told."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from stream_app import logs
from stream_app.errors import ConfigError, StreamAppError, UnavailableError
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.observe.monitor import Monitor, State
from stream_app.runtime import runner
from stream_app.runtime.pipeline import Pipeline
from stream_app.runtime.query_errors import one_line
from stream_app.runtime.runner import Runner
from stream_app.sinks.registry import flows
from stream_app.sinks.report import Report
from stream_app.storage.checkpoint import Checkpoint
from tests.helpers import app_settings, commit, plan, wait_until, write_file

BatchFunction = Callable[[Any, int], None]


class Query:
    """A streaming query: `end` is what it does by itself, None to stay up."""

    def __init__(self, end: Exception | str | None = None) -> None:
        self.isActive = end is None
        self.stops = self.finished = 0
        self.status = {"message": "Waiting for data to arrive"}
        self._end = end

    def exception(self) -> Exception | None:
        return self._end if isinstance(self._end, Exception) else None

    def stop(self) -> None:
        self.stops += 1
        self.isActive = False

    def processAllAvailable(self) -> None:  # noqa: N802 - Spark's name
        self.finished += 1


LAYERS = ("bronze", "quarantine", "silver", "gold", "raw_csv")


class Queries:
    """The pipeline: each start of a flow takes its next scripted query; without a script it stays up."""

    def __init__(self) -> None:
        self.script: dict[str, list[Query | Exception]] = {}
        self.started: dict[str, list[Query]] = {layer: [] for layer in LAYERS}
        self.batch: dict[str, BatchFunction] = {}
        self.write: Callable[[Flow, Any, int], Report] = lambda _flow, _frame, batch_id: Report(batch_id, 1, 1)

    def start(self, flow: Flow, batch_function: BatchFunction) -> Query:
        script = self.script.get(flow.sink)
        step = script.pop(0) if script else Query()
        if isinstance(step, Exception):
            raise step
        self.started[flow.sink].append(step)
        self.batch[flow.sink] = batch_function
        return step

    @property
    def active(self) -> list[str]:
        return [str(layer) for layer, queries in self.started.items() if any(query.isActive for query in queries)]


class Service:
    """A Runner in a thread of its own."""

    def __init__(self, made: tuple[Flow, ...], max_failures: int = 3, **settings: Any) -> None:
        self.queries = Queries()
        self.monitor = Monitor(made)
        own = app_settings(made[0].root, max_failures=max_failures, **settings)
        self.stop = threading.Event()
        self.runner = Runner(
            cast(Pipeline, self.queries),
            self.monitor,
            self.stop,
            drains=own.trigger.drains,
            max_failures=own.max_failures,
        )
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(made,), daemon=True)

    def _run(self, made: tuple[Flow, ...]) -> None:
        try:
            self.runner.run(made)
        except Exception as error:  # it is what the test asks for
            self.error = error

    def begin(self) -> "Service":
        self._thread.start()
        return self

    def wait(self) -> None:
        self._thread.join(120)
        assert not self._thread.is_alive()

    def state(self, layer: str) -> State:
        return self.monitor.statuses[f"transactions.{layer}"].state


@pytest.fixture
def made(feed: Feed, tmp_path: Path) -> tuple[Flow, ...]:
    return flows([feed], tmp_path)


@pytest.fixture
def service(made: tuple[Flow, ...], monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service that looks often; a second of its backoff lasts a millisecond."""
    monkeypatch.setattr(runner, "_POLL_SECONDS", 0.005)
    monkeypatch.setattr(runner, "_TOLD_SECONDS", 0.005)
    monkeypatch.setattr(runner, "_BATCH_SECONDS", 120_000.0)
    monkeypatch.setattr(runner, "_COMMIT_SECONDS", 120_000.0)
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() * 1000, sleep=lambda _: time.sleep(0.002))
    monkeypatch.setattr(runner, "time", clock)
    logs.configure("text")
    service = Service(made)
    yield service
    service.stop.set()
    if service._thread.ident:
        service.wait()


def failures(*errors: str) -> Sequence[Query]:
    return [Query(RuntimeError(error)) for error in errors]


def test_all_queries_run_until_the_stop_and_are_stopped_once(service: Service) -> None:
    service.begin()
    wait_until(lambda: service.monitor.ready)
    assert len(service.queries.active) == 5
    service.stop.set()
    service.wait()
    assert service.error is None
    assert service.queries.active == []
    assert all(query.stops == 1 for queries in service.queries.started.values() for query in queries)
    assert {service.state(layer) for layer in LAYERS} == {State.STOPPED}


def test_a_query_that_fails_is_restarted_alone(service: Service) -> None:
    service.queries.script["silver"] = [*failures("disk full", "disk full")]
    service.begin()
    wait_until(lambda: len(service.queries.started["silver"]) == 3)
    wait_until(lambda: service.state("silver") is State.RUNNING)
    assert service.monitor.statuses["transactions.silver"].restarts == 2
    assert [len(service.queries.started[layer]) for layer in LAYERS if layer != "silver"] == [1] * 4


def test_a_query_that_cannot_start_is_restarted_alone(service: Service) -> None:
    service.queries.script["gold"] = [RuntimeError("no broker")]
    service.begin()
    wait_until(lambda: service.state("gold") is State.RUNNING)
    assert len(service.queries.active) == 5


@pytest.mark.parametrize(
    "error",
    [
        "PythonException: \nTraceback:\nstream_app.errors.UnavailableError: topic t: nothing came for 60 s",
        "[STREAM_FAILED] Query\nCaused by: org.apache.kafka.common.errors.UnknownTopicOrPartitionException: no",
        "[STREAM_FAILED]\nx.ExecutionException: org.apache.kafka.common.errors.TimeoutException: a node",
        "[STREAM_FAILED]\nx.ExecutionException: org.apache.kafka.common.errors.SaslAuthenticationException: no token",
        "[STREAM_FAILED] Query terminated: Failed to create new KafkaAdminClient",
        "[STREAM_FAILED]\nCaused by: org.apache.spark.SparkException: Python worker failed to connect back.",
    ],
)
def test_what_passes_by_itself_is_no_failure(service: Service, error: str) -> None:
    """Leaders that move, brokers that are away, a machine that is too busy to start Python in Spark's ten seconds."""
    # of three that may be; in a task, and where Spark plans a batch
    service.queries.script["bronze"] = [*failures(*[error] * 6)]
    service.begin()
    wait_until(lambda: len(service.queries.started["bronze"]) == 7)
    wait_until(lambda: service.state("bronze") is State.RUNNING)
    assert service.error is None
    assert service.monitor.statuses["transactions.bronze"].failures == 0


def test_a_drain_does_not_wait_for_a_broker_for_ever(service: Service, made: tuple[Flow, ...]) -> None:  # noqa: ARG001 - sets the pace
    drain = Service(made, trigger_interval="available-now")
    drain.queries.script["bronze"] = [*failures(*["UnavailableError: no answer"] * 3)]
    drain.begin().wait()
    assert str(drain.error).endswith("failed 3 times in a row, the last time with: no answer")


def test_after_max_failures_in_a_row_the_others_are_drained_and_the_service_fails(service: Service) -> None:
    service.queries.script["silver"] = [*failures("one", "two", "three")]
    service.begin().wait()
    assert isinstance(service.error, StreamAppError)
    assert service.error.exit_code == 1
    assert str(service.error).startswith("transactions.silver failed 3 times in a row")
    assert service.state("silver") is State.FAILED
    assert service.state("gold") is State.STOPPED
    assert service.queries.active == []


def test_the_last_error_is_the_one_that_is_told(service: Service) -> None:
    service.queries.script["silver"] = [*failures("one", "two", "three")]
    service.begin().wait()
    assert str(service.error).endswith("the last time with: three")


def test_a_batch_between_two_failures_begins_the_count_anew(service: Service) -> None:
    service.queries.script["silver"] = [*failures("one", "two"), Query()]
    service.begin()
    wait_until(lambda: service.state("silver") is State.RUNNING and len(service.queries.started["silver"]) == 3)
    status = service.monitor.statuses["transactions.silver"]
    status.failures = 0  # as the progress report of a batch does
    service.queries.script["silver"] = [*failures("three")]
    query = service.queries.started["silver"][-1]
    query._end, query.isActive = RuntimeError("again"), False
    wait_until(lambda: service.state("silver") is State.RUNNING and len(service.queries.started["silver"]) == 5)
    assert service.error is None
    assert status.failures == 2


def test_what_a_person_must_mend_is_not_tried_again(service: Service) -> None:
    service.queries.script["quarantine"] = [ConfigError("reset it with: make reset")]
    service.begin().wait()
    assert isinstance(service.error, ConfigError)
    assert service.state("quarantine") is State.FAILED
    assert service.monitor.statuses["transactions.quarantine"].last_error == "reset it with: make reset"
    assert service.queries.active == []
    assert not service.monitor.ready


def test_a_service_is_ready_once_every_query_has_been_started(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    silver = service.monitor.statuses["transactions.silver"]
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=time.sleep)
    monkeypatch.setattr(runner, "time", clock)  # which stands still: it is never time for the second start
    service.queries.script["silver"] = [UnavailableError("no database answers")]
    service.begin()
    wait_until(lambda: len(service.queries.active) == 4)
    assert not service.monitor.ready
    assert service.monitor.problems(1e9) == {"transactions.silver": "restarting: no database answers"}
    clock.monotonic = lambda: 100.0
    wait_until(lambda: service.monitor.ready)
    assert silver.state is State.RUNNING


def test_a_query_that_waits_for_its_restart_is_stopped_too(service: Service) -> None:
    service.queries.script["silver"] = [UnavailableError("no database answers")] * 99
    service.begin()
    wait_until(lambda: len(service.queries.active) == 4)
    service.stop.set()
    service.wait()
    assert {service.state(layer) for layer in LAYERS} == {State.STOPPED}


def test_backoff_grows_to_a_minute_with_jitter(
    made: tuple[Flow, ...], service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service(made, max_failures=9)
    logs.configure("text")
    service.queries.script["silver"] = [*failures(*["disk full"] * 9)]
    service.begin().wait()
    lines = [line for line in capsys.readouterr().err.splitlines() if "transactions.silver failed" in line]
    waits = [float(line.split("restart_in=")[1].split()[0]) for line in lines]
    assert len(waits) == 8
    assert any(wait < min(60, 2**failure) for failure, wait in enumerate(waits, 1)), "no jitter"
    for failure, wait in enumerate(waits, 1):
        assert min(60, 2**failure) / 2 - 0.1 <= wait <= min(60, 2**failure) + 0.1


def test_a_drain_ends_by_itself_when_every_query_has_read_all(service: Service, made: tuple[Flow, ...]) -> None:  # noqa: ARG001 - sets the pace
    drain = Service(made, trigger_interval="available-now")
    drain.queries.script = {layer: [Query("done")] for layer in LAYERS}
    drain.begin().wait()
    assert drain.error is None
    assert {drain.state(layer) for layer in LAYERS} == {State.DONE}


def test_a_query_that_is_told_to_have_ended_is_looked_at_at_once(
    drain: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(lambda: len(drain.queries.active) == 5)
    monkeypatch.setattr(runner, "_POLL_SECONDS", 20_000_000.0)
    drain.monitor.query_ended.set()
    wait_until(lambda: not drain.monitor.query_ended.is_set())  # it waits for the long time by now, or soon will
    drain.queries.started["bronze"][-1].isActive = False
    drain.monitor.query_ended.set()
    wait_until(lambda: drain.state("bronze") is State.DONE)


def test_a_query_that_ends_by_itself_is_started_again(service: Service) -> None:
    """Outside of a drain nothing is ever done."""
    service.queries.script = {"silver": [Query("done")]}
    service.begin()
    wait_until(lambda: len(service.queries.started["silver"]) == 2)
    assert service.monitor.statuses["transactions.silver"].last_error == "its query ended by itself"


@pytest.fixture
def drain(service: Service, made: tuple[Flow, ...]) -> Iterator[Service]:  # noqa: ARG001 - sets the pace
    """The same with TRIGGER_INTERVAL=available-now."""
    drain = Service(made, trigger_interval="available-now")
    drain.begin()
    yield drain
    drain.stop.set()
    drain.wait()


def done(service: Service, layer: str) -> None:
    service.queries.started[layer][-1].isActive = False
    wait_until(lambda: service.state(layer) is State.DONE)


def test_a_drain_ends_a_layer_only_when_that_before_has_ended_and_all_of_it_is_taken(
    drain: Service, made: tuple[Flow, ...]
) -> None:
    bronze, silver = made[0], made[2]
    wait_until(lambda: len(drain.queries.active) == 5)
    query = drain.queries.started["silver"][0]
    write_file(bronze, 0)
    done(drain, "bronze")
    wait_until(lambda: query.finished > 2)
    assert query.isActive, "it has not taken the last file"
    plan(silver, 0, {"batch": 0})
    commit(silver, 0)
    wait_until(lambda: drain.state("silver") is State.DONE)
    wait_until(lambda: {drain.state(layer) for layer in ("gold", "raw_csv")} == {State.DONE})
    assert drain.queries.active == ["quarantine"]
    plan(made[1], 0, {"batch": 0})
    commit(made[1], 0)
    drain.wait()
    assert drain.error is None


def test_a_stop_in_the_midst_of_the_start_starts_nothing_more(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not started yet need not be drained; with many flows a start takes longer than a stop may."""
    monkeypatch.setattr(runner, "_SOURCE_SECONDS", 20_000.0)
    silver = Query()
    silver.status = {"message": "Initializing sources"}
    service.queries.script["silver"] = [silver]
    service.begin()
    wait_until(lambda: service.queries.started["silver"])
    service.stop.set()
    service.wait()
    started = [layer for layer in LAYERS if service.queries.started[layer]]
    assert started == ["bronze", "quarantine", "silver"]
    assert service.queries.active == []
    assert not service.monitor.ready


def test_a_stop_before_the_start_starts_nothing(service: Service, made: tuple[Flow, ...]) -> None:
    service.stop.set()
    service.runner.run(made)
    assert not any(service.queries.started.values())


def batch_under_way(service: Service) -> tuple[Query, threading.Thread, threading.Event]:
    """Begin, and have silver run batch 7 until the event is set."""
    in_batch, go_on = threading.Event(), threading.Event()

    def write(_flow: Flow, _frame: object, batch_id: int) -> Report:
        in_batch.set()
        assert go_on.wait(120)
        return Report(batch_id, 1, 1)

    service.queries.write = write
    service.begin()
    wait_until(lambda: service.monitor.ready)
    query = service.queries.started["silver"][0]
    batch = threading.Thread(target=service.queries.batch["silver"], args=(None, 7), daemon=True)
    batch.start()
    assert in_batch.wait(120)
    return query, batch, go_on


def test_a_stop_waits_for_the_running_batch_and_for_its_commit(
    service: Service, made: tuple[Flow, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    silver = made[2]
    query, batch, go_on = batch_under_way(service)

    service.stop.set()
    wait_until(lambda: service.runner._is_stopping)
    with pytest.raises(runner._Stopping):  # one that begins now must not
        service.queries.batch["gold"](None, 1)
    assert query.stops == 0
    go_on.set()
    batch.join(120)
    assert 7 in service.monitor[silver].reports
    look = Mock(side_effect=silver.checkpoint.last_committed)
    monkeypatch.setattr(Checkpoint, "last_committed", look)
    wait_until(lambda: look.call_count > 3 or query.stops)
    assert query.stops == 0  # Spark has yet to commit it
    plan(silver, 7, {"batch": 7})
    commit(silver, 7)
    service.wait()
    assert query.stops == 1
    assert service.error is None


def test_a_batch_that_does_not_end_holds_up_neither_the_stop_nor_the_other_queries(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query, batch, go_on = batch_under_way(service)
    monkeypatch.setattr(runner, "_BATCH_SECONDS", 50.0)
    logs.configure("text")
    monkeypatch.setattr(query, "stop", Mock(side_effect=TimeoutError("it runs still")))
    service.stop.set()
    service.wait()
    assert service.error is None
    told = capsys.readouterr().err
    assert "draining: waiting for transactions.silver" in told
    assert "transactions.silver did not stop" in told
    assert service.queries.active == ["silver"]
    query.isActive = False
    go_on.set()
    batch.join(120)


def test_a_stop_does_not_wait_for_a_batch_whose_query_has_ended(service: Service, made: tuple[Flow, ...]) -> None:  # noqa: ARG001 - sets the pace
    drain = Service(made, trigger_interval="available-now")
    query, batch, go_on = batch_under_way(drain)
    query.isActive = False
    wait_until(lambda: drain.state("silver") is State.DONE)
    drain.stop.set()
    drain.wait()
    assert drain.error is None
    go_on.set()
    batch.join(120)


def test_a_failing_batch_is_told_by_its_own_error(service: Service) -> None:
    def write(_flow: Flow, _frame: object, _batch_id: int) -> Report:
        raise OSError("disk full")

    service.queries.write = write
    service.begin()
    wait_until(lambda: service.monitor.ready)
    with pytest.raises(OSError, match="disk full"):
        service.queries.batch["silver"](None, 0)
    query = service.queries.started["silver"][0]
    query._end, query.isActive = RuntimeError("STREAM_FAILED\n  a stack of 300 lines"), False
    wait_until(lambda: service.monitor.statuses["transactions.silver"].restarts == 1)
    assert service.monitor.statuses["transactions.silver"].last_error == "OSError: disk full"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("", "unknown"),
        ("\n  first line\nsecond", "first line"),
        (
            'Traceback:\n  File "x", line 1\nValueError: one\n\nOSError: [Errno 28] No space\n',
            "OSError: [Errno 28] No space",
        ),
        (
            "org.x.Wrapper: a\n\tat b\nCaused by: java.io.IOException: No space left\n\tat c",
            "java.io.IOException: No space left",
        ),
        ("x" * 10_000, "x" * 500),
        (
            "PythonException: \n  An exception was thrown\nTraceback (most recent call last):\n"
            "stream_app.errors.StreamAppError: topic t, offsets 3 to 9: the batch is damaged (CRC); go on\n"
            "\nJVM stacktrace:\norg.apache.spark.SparkException: [x] y\nCaused by: java.io.IOException: none of it",
            "topic t, offsets 3 to 9: the batch is damaged (CRC); go on",
        ),
        ("UnavailableError: KAFKA_BOOTSTRAP_SERVERS: no answer", "KAFKA_BOOTSTRAP_SERVERS: no answer"),
    ],
)
def test_a_stack_becomes_the_line_that_matters(error: str, expected: str) -> None:
    assert one_line(error) == expected
