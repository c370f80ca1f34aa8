"""`make airflow` for real, with a broker, folders and a port of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from local.airflow import make_environment
from local.places import Places
from stream_app.settings import PROJECT
from tests.airflow_api import AirflowApi
from tests.ports import free_port
from tests.service.harness import wait_for

START = """
from pathlib import Path
from local.airflow import run_airflow
from local.places import Places
from stream_app.settings import load_settings
places = Places(Path({folder!r}))
places.make()
raise SystemExit(run_airflow(load_settings(), places, {broker!r}))
"""


@dataclass
class LocalAirflow:
    """The processes of `make airflow`, and what a person or a program asks of them."""

    folder: Path
    broker: str
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        return str(json.loads((self.folder / "airflow" / "passwords.json").read_text())["admin"])

    def start(self) -> float:
        """Return when it is healthy; how many seconds that took once its environment was there."""
        make_environment(Places(self.folder))
        settings = {"LANDING_PATH": str(self.folder / "landing"), "GOLD_PATH": str(self.folder / "gold")}
        began = time.monotonic()
        with (self.folder / "airflow.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START.format(folder=str(self.folder), broker=self.broker)],
                cwd=PROJECT,
                env=os.environ | settings | {"AIRFLOW_PORT": str(self.port)} | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(self._is_ready, "an Airflow that is healthy", 700)
        return time.monotonic() - began

    def _is_ready(self) -> bool:
        said = (self.folder / "airflow.log").read_text()
        assert self.process is not None
        assert self.process.poll() is None, said[-4000:]
        return "airflow: ready at" in said

    def end(self) -> int:
        """Ctrl-C, as SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(600)

    def processes(self) -> list[int]:
        """Return every process of it."""
        assert self.process is not None
        found = [self.process.pid]
        for pid in found:
            with suppress(OSError):  # it has ended
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found

    def megabytes(self) -> float:
        """Return the memory of all its processes, where each has its part of what they share."""
        rollups = list[str]()
        for pid in self.processes()[1:]:
            with suppress(OSError):  # it has ended
                rollups.append(Path(f"/proc/{pid}/smaps_rollup").read_text())
        return sum(int(line.split()[1]) for text in rollups for line in text.splitlines() if line[:4] == "Pss:") / 1024

    @property
    def api(self) -> AirflowApi:
        return AirflowApi(self.url, self.password)
