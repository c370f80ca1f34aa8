"""Serves the application until a signal ends it."""

from __future__ import annotations

import signal
import socket

import uvicorn

from stream_app import logs
from stream_app.api.app import application
from stream_app.api.settings import ApiSettings
from stream_app.errors import ConfigError
from stream_app.observe.answers import listen
from stream_app.settings import Settings

_GRACE_SECONDS = 2
_MOST_CONNECTIONS = 1000


def serve(settings: Settings, own: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError where the port is taken, or a feed file has a mistake."""
    app = application(settings, own)
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: None)  # uvicorn raises it once more when it has ended in order
    with _listener(own) as listener:
        shown = f"[{own.api_host}]" if ":" in own.api_host else own.api_host
        logs.info("the API is up", url=f"http://{shown}:{own.api_port}/", docs=f"http://{shown}:{own.api_port}/docs")
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_SECONDS,  # an open stream of events would hold it back
        )
        uvicorn.Server(config).run([listener])


def _listener(own: ApiSettings) -> socket.socket:
    try:
        return listen(own.api_host, own.api_port)
    except OSError as error:
        problem = f"API_PORT: cannot listen on {own.api_host}:{own.api_port}: {error.strerror}"
        raise ConfigError(problem) from None
