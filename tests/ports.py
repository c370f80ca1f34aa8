"""TCP ports for the tests' servers."""

from __future__ import annotations

import os
import random
from pathlib import Path

from local.ports import is_free

_LOWEST = 15_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_HANDED_OUT = set[int]()
_PROCESS, _PROCESSES = (
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)
"""Which of the processes of tests this one is, and of how many: each has ports of its own."""


def free_port() -> int:
    """Return a port that is free, and that no other test is given until a server of ours listens on it.

    The system hands out ports too, to each connection and to each server that asks for any: some twenty in each start
    of the service. It would give away a port of its own range while a broker on it is down.
    """
    end = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    while True:
        port = random.SystemRandom().randrange(_LOWEST + _PROCESS, end, _PROCESSES)
        if port not in _HANDED_OUT and is_free(port):
            _HANDED_OUT.add(port)
            return port
