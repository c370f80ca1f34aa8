"""Prometheus and Alertmanager as `make` starts them, with what deploy/ has for them, on ports of the tests."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream_app.settings import PROJECT

PORTS = {
    "service": 9108,
    "api": 5000,
    "broker": 5556,
    "prometheus": 9090,
    "alertmanager": 9093,
    "receiver": 9099,
}
"""Where each is on a machine of its own."""
_PROMETHEUS, _RULES = "deploy/prometheus/prometheus.yml", "deploy/prometheus/rules.yml"
_ALERTMANAGER = "deploy/alertmanager/alertmanager.yml"
_TO_END_SECONDS = 60


def configure(folder: Path, ports: Mapping[str, int]) -> None:
    """Copy the Makefile and what its targets read, with the ports of the tests and seconds for its minutes."""
    texts = {name: (PROJECT / name).read_text() for name in ("Makefile", _PROMETHEUS, _RULES, _ALERTMANAGER)}
    for name, before in PORTS.items():
        at = f"127.0.0.1:{before}"
        assert any(at in text for text in texts.values()), at
        texts = {file: text.replace(at, f"127.0.0.1:{ports[name]}") for file, text in texts.items()}
    texts[_PROMETHEUS] = texts[_PROMETHEUS].replace(": 15s", ": 5s")  # no scrape may take longer
    texts[_RULES] = re.sub(r"for: \d+[mh]$", "for: 2s", texts[_RULES], flags=re.MULTILINE)
    texts[_ALERTMANAGER] = re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", texts[_ALERTMANAGER])
    for file, text in texts.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)


@contextmanager
def made(target: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have `make` run that target there; Ctrl-C ends it, or the test fails."""
    if not (shutil.which(target) or shutil.which(f"prometheus-{target}")):
        pytest.fail(f"make deploy-test: {target} is needed; install it, on Debian: prometheus, prometheus-alertmanager")
    # what a make around the tests was told is not for this one
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ALERTMANAGER"))}
    # where the tests run in the background, Ctrl-C's signal is ignored, and make leaves that so
    command = ["env", "--default-signal=INT", "make", target]
    with (
        (folder / f"{target}.log").open("ab") as log,
        subprocess.Popen(
            command,
            cwd=folder,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
            assert process.poll() is None, f"{target} has ended: {log.name}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            try:
                process.wait(_TO_END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
