"""A table in an object store while its writer and the store are killed, and while the store is in any mood.

A writer in a process of its own commits by the service's own code. Reads are by deltalake alone, straight from the
store.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from stream_app.settings import PROJECT
from tests.service.harness import wait_for
from tests.store_servers import FLAKY, LOST, READ_ONLY, SLOW, WELL, Gateway, Proxy
from tests.store_writer import ROWS
from tests.stores import KEY, SECRET, Bucket

KILLS = 8


class Writer:
    """The writer of a bucket, and what it has told in all its lives."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self._bucket, self._folder, self._log = bucket, folder, folder / "writer.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.store_writer", self._bucket.endpoint, self._bucket.name]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, str(self._folder)], cwd=PROJECT, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self._process
        assert self._process.poll() is None, self.told
        self._process.kill()
        self._process.wait()

    @property
    def told(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def acknowledged(self) -> list[int]:
        return [int(batch) for batch in re.findall(r"^batch (\d+)$", self.told, re.MULTILINE)]

    def wait(self, more: int, what: str) -> None:
        """Wait until so many more batches are acknowledged."""
        before = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) >= before + more, what)


@pytest.fixture
def writers() -> Iterator[list[Writer]]:
    """What is left running at the end is killed."""
    made: list[Writer] = []
    yield made
    for writer in made:
        if writer._process and writer._process.poll() is None:
            writer.kill()


def check(writer: Writer, store: Bucket, folder: Path) -> None:
    """Hold the table against what was acknowledged: every row once, and every batch in one version."""
    root = store.root(folder)
    table = DeltaTable(f"{root.location}/t", storage_options=dict(root.access.options))
    numbers = pa.table(table.scan(columns=["number"]).read_all())["number"].to_pylist()
    assert sorted(numbers) == [*range(len(numbers))], "a row is lost or twice"
    assert len(numbers) >= (max(writer.acknowledged) + 1) * ROWS > 0, "an acknowledged batch is lost"
    batches = Counter(one["stream_app.batch"] for one in table.history() if "stream_app.batch" in one)
    assert set(batches.values()) == {1}, "a batch is in several versions"
    assert len(batches) == len(numbers) // ROWS
    assert SECRET not in writer.told
    assert KEY not in writer.told
    assert "Traceback" not in writer.told


@pytest.mark.faults
@pytest.mark.proves("A Delta table has each batch exactly once")
def test_kills_of_writer_and_store_lose_and_double_nothing(
    gateway: Gateway, writers: list[Writer], tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    bucket = gateway.bucket("kills")
    writers.append(writer := Writer(bucket, tmp_path))
    writer.start()
    for kill in range(KILLS):
        writer.wait(2, f"progress before kill {kill}")
        time.sleep(chance.uniform(0, 0.3))  # the moment of the kill is the point of the test
        victim: Writer | Gateway = gateway if kill % 2 else writer
        victim.kill()
        victim.start()
    writer.wait(2, "progress after the kills")
    writer.kill()
    check(writer, bucket, tmp_path)


@pytest.mark.faults
@pytest.mark.proves("A Delta table has each batch exactly once")
def test_a_store_in_any_mood_has_each_batch_once(gateway: Gateway, writers: list[Writer], tmp_path: Path) -> None:
    """Of a store that refuses, bucket and key are named; when it is well again, the writer goes on."""
    with Proxy(gateway.port).running() as proxy:
        store = gateway.bucket("moods")
        writers.append(writer := Writer(Bucket(f"http://127.0.0.1:{proxy.port}", store.name), tmp_path))
        writer.start()
        for mood, faults in ((WELL, {""}), (SLOW, {"slow"}), (FLAKY, {"500", "503", "dropped"}), (LOST, {"lost"})):
            proxy.mood = mood
            writer.wait(3, f"progress while the store is {mood}")
            assert faults <= {*proxy.faults}
        proxy.mood = READ_ONLY
        named = (
            rf"^ConfigError: DELTA_PATH: s3://{store.name}/lake/tables/t: PUT http://\S+/{store.name}/lake/\S+: 403 "
        )
        wait_for(lambda: re.search(named, writer.told, re.MULTILINE), "a refusal that names bucket and key")
        proxy.mood = WELL
        writer.wait(3, "progress when the store is well again")
        writer.kill()
        check(writer, store, tmp_path)
