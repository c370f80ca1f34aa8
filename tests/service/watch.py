"""What shows of a service while it runs: its HTTP answers, its status; and records to watch."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.api_process import ApiProcess, Follower
from tests.service.harness import Service, transaction, wait_for
from tests.service.servers import KafkaBroker


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def send(broker: KafkaBroker, service: Service, first: int, count: int) -> None:
    now = time.time()
    broker.send(service.feed.topic, [transaction(first + i, now - count * 0.1 + i * 0.1) for i in range(count)])


def status(service: Service, sink: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = json.loads(service.op("status", FORMAT="json"))
    return next(row for row in rows if row["sink"] == sink)


def followed(api: ApiProcess) -> Follower:
    """A client of the API's events."""
    api.start()
    events = api.follow()
    wait_for(lambda: events.last_id, "the events to begin")
    return events


def obstacle(service: Service) -> Path:
    """Where a folder makes each batch of the CSV fail, whatever a restart clears away."""
    return service.flows["raw_csv"].checkpoint.path / ".last_file.tmp"


def fill(ballast: Path) -> None:
    """Fill the disk with a file, to the last block."""
    with ballast.open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(64 << 10))
            file.flush()
