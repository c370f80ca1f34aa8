"""A landing run that is killed at any point, or at any time, lands nothing twice and loses nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stream_app.kafka.broker import Broker
from stream_app.kafka.client import group
from stream_app.landing.zone import Zone, behind
from stream_app.settings import PROJECT, load_settings
from tests.landed import landed
from tests.service.servers import KafkaBroker

KILLS = int(os.environ.get("RANDOM_KILLS", "15"))
TIME_MS = 1_795_224_030_125
KILLED = -signal.SIGKILL


class Runs:
    """Runs over one topic and one landing zone, and the oracle over names and contents."""

    def __init__(self, broker: KafkaBroker, topic: str, root: Path) -> None:
        self._broker, self._topic, self._root = broker, topic, root
        self._sent = 0
        broker.create_topic(topic)

    def send(self, count: int) -> None:
        numbers = range(self._sent, self._sent + count)
        self._broker.send(self._topic, [(f"k{n % 31}", f'{{"n": {n}}}'.encode(), TIME_MS + n) for n in numbers])
        self._sent += count

    def start(self, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "stream_app", "land", f"--topic={self._topic}", f"--landing={self._root}"],
            cwd=PROJECT,
            env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": self._broker.address} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **environment: str) -> int:
        process = self.start(**environment)
        _, err = process.communicate()
        assert process.returncode in {0, KILLED}, err
        return process.returncode

    def check(self, *, all_of_it: bool) -> None:
        """Names tell the contents (reading sees to that), no place is twice, and each value is the topic's."""
        zone = Zone(self._root, self._topic)
        files = zone.files()  # refuses files that share an offset
        found = landed(zone)
        held = self._broker.records(self._topic)
        assert found.items() <= held.items()
        ends = behind(files)
        assert {place for place in held if place[1] < ends.get(place[0], 0)} == {*found}, "no gap before the last file"
        if all_of_it:
            assert found == held
            assert len({json.loads(value or b"")["n"] for value in found.values()}) == self._sent
        settings = load_settings(_env_file=None, kafka_bootstrap_servers=self._broker.address)
        asked = Broker(settings.kafka)
        committed = asked.group_offsets(group(f"land-{self._topic}"), asked.topic(self._topic))
        assert all(offset <= ends.get(partition, 0) for partition, offset in committed.items()), "files come first"


@pytest.mark.parametrize("point", ["staged", "renamed", "committed"])
def test_death_at_each_point(broker: KafkaBroker, tmp_path: Path, point: str) -> None:
    topic = f"die-{point}"
    runs = Runs(broker, topic, tmp_path)
    for _ in range(4):  # the first dies with the first partition's file
        runs.send(300)
        assert runs.run(FAIL_POINT=f"land.{topic}:{point}") == KILLED
        runs.check(all_of_it=False)
    assert runs.run() == 0
    runs.check(all_of_it=True)
    assert not list((tmp_path / topic).glob("_staging/*"))


def test_kills_at_random(broker: KafkaBroker, tmp_path: Path) -> None:
    runs, rng = Runs(broker, "random-kills", tmp_path), random.Random(7)
    ended = 0
    for _ in range(KILLS):
        runs.send(20_000)
        process = runs.start()
        time.sleep(rng.uniform(0.6, 2.5))  # of which most is the start
        process.kill()
        process.communicate()
        ended += process.returncode == 0
        runs.check(all_of_it=False)
    assert runs.run() == 0
    runs.check(all_of_it=True)
    assert ended < KILLS, "some were killed in the midst"
