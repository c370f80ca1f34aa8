"""The API behind a Unix socket: for its own user and group, again after it was killed, and never two at one."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import yaml

from stream_app.settings import PROJECT
from tests.helpers import wait_until


@contextmanager
def api(path: Path, root: Path) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"API_SOCKET": str(path), "OUTPUT_PATH": str(root), "API_HOST": "0.0.0.0"}  # noqa: S104
    environment |= {"TMPDIR": str(path.parent)}  # what a killed one leaves there
    command = [sys.executable, "-m", "stream_app", "api"]
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def status(path: Path, host: str = "127.0.0.1:8088") -> int:
    """What is answered to who asks for the feeds by that socket; 0 where nobody does."""
    with closing(http.client.HTTPConnection("x")) as client, socket.socket(socket.AF_UNIX) as asked:
        if asked.connect_ex(str(path)):
            return 0
        client.sock = asked
        client.request("GET", "/api/feeds", headers={"Host": host})
        return client.getresponse().status


def test_a_socket_is_for_its_user_and_group_and_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with api(path, tmp_path / "out") as process:
        wait_until(lambda: status(path) == 200, 60)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert status(path, "example.org") == 421, "whoever is before it hands the host on"
        with api(path, tmp_path / "out") as second:
            assert second.stderr
            assert second.wait(60) == 2
            assert second.stderr.read() == f"api: API_SOCKET: cannot listen on {path}: Address already in use\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.is_socket()
        with api(path, tmp_path / "out"):
            wait_until(lambda: status(path) == 200, 60)


def test_who_looks_after_it_in_the_stack_asks_for_this_machine(tmp_path: Path) -> None:
    """Docker by its health check and Prometheus through nginx, each by a Host that is answered without tokens."""
    path = tmp_path / "api.sock"
    service = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]["api"]
    *command, check = service["healthcheck"]["test"]
    assert command == ["CMD", "python3", "-c"]
    check = check.replace(service["environment"]["API_SOCKET"], str(path))
    nginx = (PROJECT / "deploy" / "nginx" / "container.conf").read_text()
    metrics = re.search(r"location = /metrics \{.*?proxy_set_header Host (\S+);.*?\}", nginx, re.DOTALL)
    assert metrics
    with api(path, tmp_path / "out"):
        wait_until(lambda: status(path) == 200, 60)
        subprocess.run([sys.executable, "-c", check], check=True)
        assert status(path, metrics[1]) == 200


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("mine")
    with api(path, tmp_path / "out") as process:
        assert process.wait(60) == 2
    assert path.read_text() == "mine"
