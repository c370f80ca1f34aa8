"""What an answer depends on is asked of the files where something changed, by one thread; and made by one."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from stream_app.api import versions
from stream_app.api.cache import Answer, Cache
from stream_app.api.versions import _RACY_NS, Source, Versions, _Known
from stream_app.flows.flow import Flow
from tests.helpers import at, value
from tests.outputs import Output, Record


@pytest.fixture
def output(minutes: Output, tmp_path: Path) -> Output:
    return minutes.copied(tmp_path)


def test_files_are_looked_at_where_the_folder_changed(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, asked, ask = output.flows["silver"], list[str](), versions._version
    silver, late_of_gold = Source(flow), Source(output.flows["gold"], is_late=True)

    def noting(flow: Flow) -> str:
        asked.append(flow.name)
        return ask(flow)

    monkeypatch.setattr(versions, "_version", noting)
    held = Versions()
    os.utime(flow.layout.output, ns=(0, time.time_ns() - 10**9))
    before = {held.of(silver) for _ in range(10)}
    assert (len(before), len(asked)) == (1, 1)
    output.take([Record(value(500, 900), at(900))], at(905))
    assert held.of(silver) not in before
    late = held.of(late_of_gold)
    assert late not in before
    assert held.of(late_of_gold) == late


def test_a_change_in_the_same_step_of_the_clock_is_seen_a_moment_later(output: Output) -> None:
    flow, stamp = output.flows["silver"], ((1_000_000_000, 1), (0, 0))
    soon, later = 1_000_000_000 + _RACY_NS // 2, 1_000_000_000 + 2 * _RACY_NS
    assert _Known(flow, stamp, later, "v").holds(flow, stamp, later + 10**12)
    assert _Known(flow, stamp, soon, "v").holds(flow, stamp, soon + 1)
    assert not _Known(flow, stamp, soon, "v").holds(flow, stamp, soon + _RACY_NS)
    assert not _Known(flow, stamp, later, "v").holds(flow, ((1_000_000_001, 1), (0, 0)), later)
    assert not _Known(flow, stamp, later, "v").holds(output.flows["gold"], stamp, later)


def test_what_many_ask_for_at_once_is_made_once() -> None:
    cache, made = Cache(), list[int]()

    def ask(number: int) -> None:
        with cache.making("key"):
            if cache.get("key") is None:
                made.append(number)
                time.sleep(0.1)
                cache.put("key", Answer(b"", "", {}))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert cache._makers == {}
