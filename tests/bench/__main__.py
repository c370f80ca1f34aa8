"""make bench - what the service costs beside what tutorials teach and what the machine can do.

BENCH_RECORDS (2000000): records of the topic. BENCH_ROUNDS (1): how often each contender drains it, in turns.
BENCH_JSON (data/bench.json): where the figures go. PLOT=1: a picture of them beside it, as PNG.
Exit 1 where the contenders' outputs do not agree: then the figures say nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.bench import agreement, report
from tests.bench.contenders import Topic
from tests.bench.drain import CONTENDERS, Drain, drained
from tests.bench.machine import machine
from tests.bench.topic import filled


def main() -> int:
    records, rounds = int(os.environ.get("BENCH_RECORDS", "2000000")), int(os.environ.get("BENCH_ROUNDS", "1"))
    result = Path(os.environ.get("BENCH_JSON", "data/bench.json"))
    figures: dict[str, object] = {"machine": machine(), "records": records}
    drains: list[Drain] = []
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with filled(folder / "broker", records) as topic:
            for number in range(1, rounds + 1):
                print(f"bench: round {number} of {rounds}", flush=True)
                wrong += _round(topic, folder / "round", drains)
    report.print_drains(drains)
    print("\n".join(f"WRONG {line}" for line in wrong) or "bench: the outputs agree")
    figures["drain"] = report.as_json(drains) | {"wrong": wrong}
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(figures, indent=2) + "\n")
    if os.environ.get("PLOT", "0") not in {"", "0"}:
        report.plot(drains, result.with_suffix(".png"))
    return 1 if wrong else 0


def _round(topic: Topic, folder: Path, drains: list[Drain]) -> list[str]:
    """One drain of each contender, added to `drains`; in what their outputs differ."""
    outputs = {}
    for contender in CONTENDERS:
        drain = drained(contender, topic, folder / contender.__name__)
        print(f"bench: {drain.contender} {drain.seconds:.1f} s, {drain.records_per_second:,.0f} records/s", flush=True)
        drains.append(drain)
        outputs[drain.contender] = folder / contender.__name__ / "output"
    wrong = agreement.disagreements(outputs, topic.records)
    shutil.rmtree(folder)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
