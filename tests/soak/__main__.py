"""make soak - many small batches, then many random kills; progress as it goes, a verdict at the end.

SOAK_BATCHES (2000): micro-batches of 100 records that each sink writes, retention on; the curves of batch times and
memory, files and checkpoint sizes. SOAK_KILLS (200): kills at random moments (tests/faults/test_random_kills.py). 0
leaves one out.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time

from stream_app.flows.flow import Flow
from stream_app.settings import PROJECT
from stream_app.storage.batch_files import batch_files
from tests.bench import meter
from tests.service.harness import Service, broker_and_service, transaction

RECORDS_PER_BATCH = 100
MOST_FILES, MOST_COMPACTED = 48, 16
# Gold's most: what four partitions' RocksDB wrote since its maintenance, which runs once a minute.
MOST_IN_CHECKPOINT = 4000
SLOWER = 1.5
LINE = re.compile(r"transactions\.(\w+) batch=(\d+) .* seconds=([\d.]+)")


def main() -> int:
    batches, kills = int(os.environ.get("SOAK_BATCHES", "2000")), int(os.environ.get("SOAK_KILLS", "200"))
    wrong = endurance(batches) if batches else []
    if kills:
        command = [sys.executable, "-m", "pytest", "tests/faults/test_random_kills.py", "-s", "--timeout", "36000"]
        code = subprocess.run(
            command, cwd=PROJECT, env=os.environ | {"RANDOM_KILLS": str(kills)}, check=False
        ).returncode
        wrong += ["the random kills found something"] if code else []
    print("\n".join(f"WRONG {line}" for line in wrong) or "soak: all is well")
    return 1 if wrong else 0


def endurance(batches: int) -> list[str]:
    """Drain that many tiny batches; what was not as it should be."""
    with broker_and_service() as (kafka, service):
        start = time.time() - 3600
        count = batches * RECORDS_PER_BATCH
        kafka.send("transactions", [transaction(i, start + i * 3500 / count) for i in range(count)])
        service.start(TRIGGER_INTERVAL="available-now", MAX_OFFSETS_PER_TRIGGER=str(RECORDS_PER_BATCH))
        memory = follow(service)
        service.end()
        step = len(memory) // 10 + 1
        print(
            "memory in MiB, the most in each tenth:",
            [max(memory[i : i + step]) >> 20 for i in range(0, len(memory), step)],
        )
        return verdict(service)


def follow(service: Service) -> list[int]:
    """Print a line for each ten seconds that it runs; the memory of its processes at those times."""
    assert service.process
    memory: list[int] = []
    while service.process.poll() is None:
        time.sleep(10)
        memory.append(meter.memory(service.process.pid))
        shown = (
            f"{flow.sink} {committed.batch_id} ({len(batch_files(flow.layout.output, flow.sink))} files)"
            for flow in service.flows.values()
            if (committed := flow.checkpoint.last_committed())
        )
        print(time.strftime("%H:%M:%S"), ", ".join(shown), f"{memory[-1] >> 20} MiB", flush=True)
    return memory


def verdict(service: Service) -> list[str]:
    """Print the curves; what is not flat or not bounded, and what the audit says."""
    wrong = list(service.audit().wrong)
    times: dict[str, list[float]] = {}
    for sink, _batch, seconds in LINE.findall(service.log.read_text()):
        times.setdefault(sink, []).append(float(seconds))
    for flow in service.flows.values():
        seconds = times.get(flow.sink, [])
        parts = [seconds[i : i + 100] for i in range(0, len(seconds), max(100, len(seconds) // 10))]
        print(f"{flow.sink}: median seconds by hundreds", [round(statistics.median(part), 3) for part in parts])
        if len(seconds) >= 300:
            second, last = statistics.median(seconds[100:200]), statistics.median(seconds[-100:])
            print(f"  the last hundred takes {last / second:.2f} times the second hundred")
            if last > second * SLOWER:
                wrong.append(f"{flow.name} slowed down: {second} s, then {last} s")
        wrong += _bounds(flow)
    return wrong


def _bounds(flow: Flow) -> list[str]:
    wrong = []
    for folder, prefix in flow.folders:
        files = batch_files(folder, prefix)
        compacted = sum(file.is_compacted for file in files)
        print(f"  {folder.name}: {len(files) - compacted} micro-batch files, {compacted} compacted")
        if len(files) - compacted > MOST_FILES or compacted > MOST_COMPACTED:
            wrong.append(f"{folder} has {len(files)} files")
    entries = sum(1 for path in flow.checkpoint.path.rglob("*") if path.is_file())
    print(f"  its checkpoint: {entries} files")
    return wrong if entries <= MOST_IN_CHECKPOINT else [*wrong, f"{flow.checkpoint.path} has {entries} files"]


if __name__ == "__main__":
    sys.exit(main())
