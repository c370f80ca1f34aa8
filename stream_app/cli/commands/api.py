"""The REST API and the dashboard page, on API_PORT."""

from __future__ import annotations

import argparse

from stream_app import logs
from stream_app.api.serve import serve
from stream_app.api.settings import ApiSettings, load_api_settings
from stream_app.cli.command import OF_FEEDS, Command
from stream_app.settings import load_settings


def _run(_options: argparse.Namespace) -> int:
    settings, own = load_settings(), load_api_settings()
    logs.configure(settings.log_format)
    serve(settings, own)
    return 0


COMMAND = Command(
    about="""
        Serves the page at /, the REST API below /api and its description at /docs, until SIGTERM or SIGINT. It needs
        the folder of the outputs, and neither Spark nor a running service. See docs/api.md.
    """,
    run=_run,
    exits={0: "it was asked to stop"},
    examples=("",),
    settings=(*OF_FEEDS, *ApiSettings.model_fields),
)
