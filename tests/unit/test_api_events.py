"""Events: each batch, state and trouble, as it happens, and from where a client was."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream_app.api import watch
from stream_app.api.context import Context
from stream_app.api.watch import Watcher
from stream_app.flows.flow import Flow
from stream_app.ops import events
from stream_app.ops.events import (
    AlertEvent,
    BatchEvent,
    Event,
    Position,
    StateEvent,
    UntoldEvent,
    now,
    position,
    since,
)
from stream_app.ops.status import status
from stream_app.sinks.kafka import KafkaSink
from stream_app.storage.row_counts import count_rows
from tests.api_process import ApiProcess
from tests.helpers import app_settings, at, value, wait_until
from tests.outputs import Output, Record
from tests.unit.served import MINUTES, merge, own, served


@pytest.fixture
def output(minutes: Output, tmp_path: Path) -> Output:
    return minutes.copied(tmp_path)


@pytest.fixture
def made(output: Output) -> tuple[Flow, ...]:
    return tuple(output.flows.values())


def test_each_batch_is_told_once_from_any_position(output: Output, made: tuple[Flow, ...]) -> None:
    told = list(since(Position(), made, status(output.root, made).sinks))
    batches = [event for event, _ in told if isinstance(event, BatchEvent)]
    assert {(one.sink, one.batch) for one in batches} == {(flow.sink, n) for flow in made for n in range(MINUTES)}
    assert len(batches) == len(made) * MINUTES
    assert {one.rows for one in batches if one.sink == "bronze"} == {3}
    for place, (_, after) in enumerate(told):
        back = position(after.id(made), made)
        assert back is not None
        rest = [event for event, _ in since(back, made, status(output.root, made).sinks)]
        assert rest == [event for event, _ in told[place + 1 :]]


def test_a_batch_of_a_sink_without_files_tells_how_many_rows_it_took(output: Output, made: tuple[Flow, ...]) -> None:
    """Or its box on the page would have no rate."""
    sink = next(flow for flow in made if flow.sink == "raw_csv")
    sink = replace(sink, to=KafkaSink.model_validate({"of": "silver", "to": "kafka", "topic": "cleaned"}))
    assert sink.upstream
    held = [count_rows(file.path) for file in sink.upstream.files()]
    assert held == [2] * MINUTES

    def told(known: int) -> dict[int, int | None]:
        sinks = status(output.root, [sink]).sinks
        before = Position().at(sink, replace(now([sink], sinks).of(sink), batch=known))
        found = _events(list(since(before, [sink], sinks)))
        return {one.batch: one.rows for one in found if isinstance(one, BatchEvent)}

    for known in (-1, 0, MINUTES - 2):
        assert told(known) == dict.fromkeys(range(known + 1, MINUTES), 2)
    _purge(sink, 1)
    assert told(-1) == {0: 2, 2: None} | dict.fromkeys(range(3, MINUTES), 2), "Spark has purged one"


def test_who_comes_back_after_more_batches_than_spark_keeps_is_told_of_each_or_that_nothing_is_known(
    output: Output, made: tuple[Flow, ...]
) -> None:
    """Not left in silence: Spark keeps the log of 20 batches, files are merged, and some sinks have none."""
    before = now(made, status(output.root, made).sinks)
    newest = MINUTES + 40
    for minute in range(MINUTES, newest):
        rows = [] if minute == MINUTES + 3 else [Record(value(10 * minute, 60 * minute), at(60 * minute))]
        output.take(rows, at(60 * minute + 5.5))
    sinks = status(output.root, made).sinks
    for flow in made:
        _purge(flow, *range(newest - 20))
    merge(output, MINUTES + 10)  # up to here silver has one file
    topic = KafkaSink.model_validate({"of": "silver", "to": "kafka", "topic": "cleaned"})
    csv = next(flow for flow in made if flow.sink == "raw_csv")
    of_flows, back = (*made[:-1], replace(csv, to=topic)), position(before.id(made), made)
    assert made[-1] == csv and back
    told = [event for event, _ in since(back, of_flows, sinks) if isinstance(event, BatchEvent | UntoldEvent)]

    def of(sink: str) -> list[tuple[int, int, int | None]]:
        """From which batch to which, and the rows where they are known."""
        found = [event for event in told if event.sink == sink]
        return [
            (one.batch, one.batch, one.rows) if isinstance(one, BatchEvent) else (one.first, one.last, None)
            for one in found
        ]

    for sink in output.flows:
        spans = of(sink)
        assert [first for first, _, _ in spans] == [MINUTES, *(last + 1 for _, last, _ in spans[:-1])], (
            "none is left out"
        )
        assert spans[-1][1] == newest - 1
    each = [(number, number, 1) for number in range(newest)]
    assert of("bronze") == [*each[MINUTES : MINUTES + 3], (MINUTES + 3, MINUTES + 3, None), *each[MINUTES + 4 :]]
    assert of("silver") == [(MINUTES, MINUTES + 10, None), *each[MINUTES + 11 :]]
    assert of("quarantine")[:2] == [(MINUTES, newest - 21, None), (newest - 20, newest - 20, 0)]
    assert of("raw_csv")[:2] == [(MINUTES, newest - 21, None), (newest - 20, newest - 20, None)]
    assert of("raw_csv")[2:] == each[newest - 19 :]
    times = {one.batch: one.time for one in told if isinstance(one, BatchEvent) and one.sink == "bronze"}
    assert times[MINUTES] == at(60 * MINUTES + 5), "to the second, as its file is called"
    assert times[newest - 1] == at(60 * (newest - 1) + 5.5)


def test_of_more_batches_than_are_looked_for_the_oldest_are_one_event(
    output: Output, made: tuple[Flow, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_OLDEST", 3)
    told = _events(list(since(Position(), made[:1], status(output.root, made[:1]).sinks)))
    assert told[0] == UntoldEvent("transactions", "bronze", 0, MINUTES - 4)
    assert [one.batch for one in told if isinstance(one, BatchEvent)] == [*range(MINUTES - 3, MINUTES)]


def _purge(flow: Flow, *batches: int) -> None:
    """As Spark does with what is old of its logs."""
    for batch in batches:
        for log in ("offsets", "commits"):
            (flow.checkpoint.path / log / str(batch)).unlink()


def test_states_and_trouble_are_told_when_they_come_and_go(output: Output, made: tuple[Flow, ...]) -> None:
    sinks = status(output.root, made).sinks
    broken = (*sinks[:2], replace(sinks[2], state="restarting", restarts=1, last_error="OSError: full"), *sinks[3:])
    found = list(since(now(made, sinks), made, broken))
    assert _events(found) == [
        StateEvent("transactions", "silver", "restarting", 1),
        AlertEvent("transactions", "silver", "restarting: OSError: full", is_over=False),
    ]
    mended = (*sinks[:2], replace(sinks[2], state="running", restarts=1), *sinks[3:])
    assert _events(list(since(now(made, broken), made, mended))) == [
        StateEvent("transactions", "silver", "running", 1),
        AlertEvent("transactions", "silver", "", is_over=True),
    ]


def _events(found: list[tuple[Event, Position]]) -> list[Event]:
    return [event for event, _ in found]


def test_batches_of_a_flow_that_was_reset_are_told_from_the_first_one(output: Output, made: tuple[Flow, ...]) -> None:
    sinks = status(output.root, made).sinks
    before = now(made, sinks)
    for log in ("commits", "offsets"):
        for number in range(2, MINUTES):
            (made[3].checkpoint.path / log / str(number)).unlink()
    told = _events(list(since(before, made, status(output.root, made).sinks)))
    assert [(one.sink, one.batch) for one in told if isinstance(one, BatchEvent)] == [("gold", 0), ("gold", 1)]


def test_of_one_that_was_reset_and_has_passed_its_old_batch_all_are_told(
    output: Output, made: tuple[Flow, ...]
) -> None:
    """Its query has another id, though its newest batch has a number that was there before, or a higher one."""
    before = position(now(made, status(output.root, made).sinks).id(made), made)
    assert before
    (made[3].checkpoint.path / "metadata").write_text('{"id": "another"}')
    told = _events(list(since(before, made, status(output.root, made).sinks)))
    assert [(one.sink, one.batch) for one in told if isinstance(one, BatchEvent)] == [
        ("gold", number) for number in range(MINUTES)
    ]


@pytest.mark.parametrize("text", ["", "x", "W10", "WyJhIl0", "é", "WzEsMiwzXQ", "a" * 5000, "W1tb" * 2000])
def test_an_id_that_is_none_of_ours_is_no_position(made: tuple[Flow, ...], text: str) -> None:
    assert position(text, made) is None


def test_an_id_of_a_thousand_flows_fits_into_a_header(output: Output, made: tuple[Flow, ...]) -> None:
    """nginx takes 8 KiB of one: a client whose id is longer would be refused each time that it comes back."""
    sinks, feed = status(output.root, made).sinks, made[0].feed
    many = [replace(made[i % len(made)], feed=feed.model_copy(update={"name": f"f{i}"})) for i in range(1000)]
    states = [
        replace(sinks[i % len(made)], last_batch=i * i, state="running" if i % 7 else "restarting") for i in range(1000)
    ]
    at = now(many, states)
    assert position(at.id(many), many) == at
    assert len(at.id(many)) < 8000


def test_an_id_that_unpacks_to_much_is_no_position(made: tuple[Flow, ...]) -> None:
    packed = zlib.compress(b'["' + b"a" * (8 << 20) + b'"]')
    assert position(base64.urlsafe_b64encode(packed).decode(), made) is None


def test_an_id_of_other_flows_is_no_position(output: Output, made: tuple[Flow, ...]) -> None:
    held = now(made, status(output.root, made).sinks).id(made)
    assert position(held, made) is not None
    assert position(held, made[:-1]) is None


@pytest.fixture
def api(output: Output) -> Iterator[ApiProcess]:
    api = ApiProcess(output.root)
    api.start()
    yield api
    api.end()


def test_a_client_that_comes_back_misses_nothing_and_a_stream_holds_no_end_back(
    api: ApiProcess, output: Output
) -> None:
    follower = api.follow()
    wait_until(lambda: follower.last_id)
    output.take([Record(value(500, 900), at(900))], at(905))
    wait_until(lambda: follower.of("batch", "raw_csv"), 60)
    assert api.end() == 0, "with an open stream"
    output.take([Record(value(501, 960), at(960))], at(965))
    api.start()
    wait_until(lambda: len(follower.of("batch", "raw_csv")) == 2, 60)
    follower.ended.set()
    for sink in output.flows:
        assert [one["batch"] for one in follower.of("batch", sink)] == [MINUTES, MINUTES + 1]
    assert follower.streams == 2
    port = api.port
    other = subprocess.run(
        [sys.executable, "-m", "stream_app", "api"],
        env=os.environ | {"OUTPUT_PATH": str(api.root), "API_PORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode == 2
    assert other.stderr == f"api: API_PORT: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_what_happens_is_written_once_for_all_who_listen(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.1)
    watcher = Watcher(Context(app_settings(output.root), own()))

    async def listen() -> None:
        async with watcher.watching():
            streams = [watcher.follow("") for _ in range(3)]
            assert all([(await anext(stream)).startswith(b"event: position") for stream in streams])
            output.take([Record(value(500, 900), at(900))], at(905))
            first, *others = [await anext(stream) for stream in streams]
            assert first.startswith(b"event: batch\ndata: {")
            assert all(other is first for other in others)

    asyncio.run(asyncio.wait_for(listen(), 60))


def test_who_follows_a_feed_is_told_of_that_alone_and_misses_nothing(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.1)
    watcher = Watcher(Context(app_settings(output.root, feeds=("transactions", "sales")), own()))

    async def listen() -> None:
        async with watcher.watching():
            whole, of_feed, other = (watcher.follow("", feed) for feed in ("", "transactions", "sales"))
            ids = [_last_id(await anext(stream)) for stream in (whole, of_feed, other)]
            assert len(set(ids)) == 3
            output.take([Record(value(500, 900), at(900))], at(905))
            assert b'"feed":"transactions"' in await anext(of_feed)
            assert b'"feed":"transactions"' in await anext(whole)
            assert all(queue.empty() for queue, feed in watcher._subscribers.items() if feed == "sales")
            while b'"sink":"raw_csv"' not in (told := await anext(watcher.follow(ids[1], "transactions"))):
                await asyncio.sleep(0.1)
            assert told.count(b"event: batch") == len(output.flows)

    asyncio.run(asyncio.wait_for(listen(), 60))


def test_all_that_has_happened_is_told_bit_by_bit(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many flows there is much: it is not held at once for each who comes back."""
    monkeypatch.setattr(watch, "_AT_ONCE", 7)
    watcher = Watcher(Context(app_settings(output.root), own()))

    async def listen() -> list[bytes]:
        async with watcher.watching():
            stream, told = watcher.follow("begin"), list[bytes]()
            while not (told and told[-1].startswith(b"event: position")):
                told.append(await anext(stream))
            return told[:-1]

    told = asyncio.run(asyncio.wait_for(listen(), 60))
    assert [one.count(b"event: ") for one in told[:-1]] == [7] * (len(told) - 1)
    assert b"".join(told).count(b"event: batch") == len(output.flows) * MINUTES


def _last_id(told: bytes) -> str:
    return told.rpartition(b"id: ")[2].split()[0].decode()


def test_a_look_that_fails_is_told_and_tried_again(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it fails by: else the status would be that of then for ever."""
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.05)
    looked, broken = status, [True]

    def status_of(*given: Any) -> Any:
        if broken:
            raise KeyError("odd")
        return looked(*given)

    with served(output.root) as client:
        assert client.get("/api/status").status_code == 200
        monkeypatch.setattr(watch, "status", status_of)
        wait_until(lambda: client.get("/api/status").status_code == 503, 30)
        assert "odd" in client.get("/api/status").json()["detail"]
        broken.clear()
        wait_until(lambda: client.get("/api/status").status_code == 200, 30)


def test_many_who_ask_at_first_wait_for_one_look(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, looks = status, [0]

    def slowly(*given: Any) -> Any:
        looks[0] += 1
        time.sleep(0.5)
        return looked(*given)

    monkeypatch.setattr(watch, "status", slowly)
    watcher = Watcher(Context(app_settings(output.root), own()))
    with ThreadPoolExecutor(8) as pool:
        assert len({id(one) for one in pool.map(lambda _: watcher.report(), range(8))}) == 1
    assert looks == [1]


def test_a_stream_in_which_nothing_happens_is_kept(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PING_SECONDS", 0.1)
    watcher = Watcher(Context(app_settings(output.root), own()))

    async def listen() -> None:
        async with watcher.watching():
            stream = watcher.follow("")
            await anext(stream)
            assert await anext(stream) == b": ping\n\n"
            await stream.aclose()  # type: ignore[attr-defined] # it is a generator
            assert not watcher._subscribers

    asyncio.run(asyncio.wait_for(listen(), 60))


def test_who_is_too_slow_ends_and_comes_back(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LONGEST_QUEUE", 2)
    watcher = Watcher(Context(app_settings(output.root), own()))

    async def listen() -> list[bytes]:
        async with watcher.watching():
            stream = watcher.follow("")
            await anext(stream)
            for told in (b"1", b"2", b"3"):
                watcher._tell({"": told})
            return [told async for told in stream]

    assert asyncio.run(asyncio.wait_for(listen(), 60)) == [b"2"]


def test_many_streams_are_open_at_once(api: ApiProcess, output: Output) -> None:
    streams = [socket.create_connection(("127.0.0.1", api.port), 30) for _ in range(200)]
    for stream in streams:
        stream.sendall(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    heard = [_until(stream, b"event: position") for stream in streams]
    assert all(heard)
    output.take([Record(value(500, 900), at(900))], at(905))
    assert all(_until(stream, b'"sink":"raw_csv","batch":12') for stream in streams)
    for stream in streams:
        stream.close()
    assert api.get("/api/status")["sinks"]


def _until(stream: socket.socket, wanted: bytes) -> bool:
    heard = b""
    while wanted not in heard:
        if not (more := stream.recv(65536)):
            return False
        heard += more
    return True
