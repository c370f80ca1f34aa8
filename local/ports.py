"""TCP ports of this machine."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"
_SEARCHED = 100


def is_free(port: int) -> bool:
    """Whether a program could listen on the port and none does."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((HOST, port)) == 0:
            return False
    with socket.socket() as server:
        # As Java's own server sockets do: connections that linger after the last broker are no hindrance.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError:
            return False
    return True


def next_free(port: int) -> int:
    """Return the first free port from `port` on, within reason, else any."""
    candidates = range(port, min(port + _SEARCHED, 65536))
    return next(filter(is_free, candidates), None) or any_free()


def any_free() -> int:
    """Return a free port of the system's choice."""
    with socket.socket() as server:
        server.bind((HOST, 0))
        return int(server.getsockname()[1])
