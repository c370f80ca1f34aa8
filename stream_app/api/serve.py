"""Serves the application until a signal ends it."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import uvicorn

from stream_app import logs
from stream_app.api.app import application
from stream_app.api.clients import PromptClients, cut_off_who_takes_nothing
from stream_app.api.settings import ApiSettings
from stream_app.errors import ConfigError
from stream_app.observe.answers import listen
from stream_app.settings import Settings

_GRACE_SECONDS = 2
_MOST_CONNECTIONS = 1000
_BACKLOG = 64
_SWITCH_SECONDS = 0.0005
"""How long a thread that makes an answer may hold up the one that serves all connections, each time that this waits.

Python's own 5 ms, several times a request, are most of what an answer takes then that is known already.
"""


def serve(settings: Settings, own: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError where the port is taken, or a feed file has a mistake."""
    app = application(settings, own)
    sys.setswitchinterval(_SWITCH_SECONDS)
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: None)  # uvicorn raises it once more when it has ended in order
    with _listener(own) as listener:
        _tell_where(own, listener)
        cut_off_who_takes_nothing(listener)
        logs.adopt("uvicorn.error")
        config = uvicorn.Config(
            app,
            http=PromptClients,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_SECONDS,  # an open stream of events would hold it back
        )
        uvicorn.Server(config).run([listener])


def _tell_where(own: ApiSettings, listener: socket.socket) -> None:
    if own.api_socket:
        logs.info("the API is up", socket=own.api_socket)
        return
    shown = f"[{own.api_host}]" if ":" in own.api_host else own.api_host
    port = listener.getsockname()[1]  # API_PORT=0 has the system choose one
    logs.info("the API is up", url=f"http://{shown}:{port}/", docs=f"http://{shown}:{port}/docs")


def _listener(own: ApiSettings) -> socket.socket:
    try:
        return _listen_at(own.api_socket) if own.api_socket else listen(own.api_host, own.api_port)
    except OSError as error:
        setting, place = (
            ("API_SOCKET", own.api_socket) if own.api_socket else ("API_PORT", f"{own.api_host}:{own.api_port}")
        )
        raise ConfigError(f"{setting}: cannot listen on {place}: {error.strerror or error}") from None


def _listen_at(path: Path) -> socket.socket:
    """Return a socket that listens there, for this user and group. What a killed process has left there makes way."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket() and not _is_listened_at(path):
            path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o660)  # before anybody can connect
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_listened_at(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asked:
        return asked.connect_ex(str(path)) == 0
