"""The API as its own process, and a client that follows its events and comes back where it was cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stream_app.settings import PROJECT
from tests.helpers import wait_until
from tests.ports import free_port


@dataclass
class ApiProcess:
    """`python -m stream_app api` on a port of its own."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        own = {"OUTPUT_PATH": str(self.root), "API_PORT": str(self.port)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stream_app", "api"],
            cwd=PROJECT,
            env=os.environ | self.environment | own,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        wait_until(self.is_up, 60)

    def is_up(self) -> bool:
        try:
            return bool(self.get("/healthz")["ok"])
        except (urllib.error.URLError, OSError):
            return False

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:  # noqa: S310 - our own
            return json.loads(answer.read())

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Have it end by that signal; its exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(by)
        assert self.process.stderr
        self.process.stderr.close()
        return self.process.wait(300)

    def follow(self) -> Follower:
        """Follow its events in a thread, and again with the last id whenever the stream ends."""
        follower = Follower(f"{self.url}/api/events")
        threading.Thread(target=follower.run, daemon=True).start()
        return follower


@dataclass
class Follower:
    """The events that a client has had."""

    url: str
    found: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    last_id: str = ""
    ended: threading.Event = field(default_factory=threading.Event)
    streams: int = 0

    def run(self) -> None:
        while not self.ended.wait(0.1):
            headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
            request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 - our own
            try:
                with urllib.request.urlopen(request, timeout=30) as stream:  # noqa: S310 - as above
                    self.streams += 1
                    for event in _events(stream):
                        self.found.append((event["event"], json.loads(event["data"])))
                        self.last_id = event["id"]
                        if self.ended.is_set():
                            return
            except (urllib.error.URLError, OSError):
                continue

    def of(self, kind: str, sink: str) -> list[dict[str, Any]]:
        """What was told of a sink, in order."""
        return [data for event, data in [*self.found] if event == kind and data["sink"] == sink]


def _events(lines: Iterator[bytes]) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in lines:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            event[name] = value
        elif "data" in event:
            yield event
            event = {}
