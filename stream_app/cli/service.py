"""Run the service as a command: check what can be checked without Spark, become spark-submit, say why it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from stream_app import logs
from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow
from stream_app.kafka.client import check
from stream_app.plain import plain
from stream_app.runtime import submit
from stream_app.settings import Settings, load_settings
from stream_app.sinks.registry import load_flows
from stream_app.storage.lock import LOCK_PATIENCE_SECONDS, sole_user


def run(arguments: Sequence[str], adapt: Callable[[Settings], Settings], ended: Callable[[Sequence[Flow]], int]) -> int:
    """Serve with the settings that `adapt` makes, and return the exit code, which `ended` gives where all went well.

    This runs twice: as the process that becomes spark-submit, and in it, with those arguments. A refusal is one line
    on stderr, as LOG_FORMAT says.
    """
    log_format = os.environ.get("LOG_FORMAT", "")
    try:
        settings = adapt(load_settings())
        log_format = settings.log_format
        all_flows = load_flows(settings.feeds_path, settings.feeds, settings.output_path)
        if not submit.is_submitted():
            check(settings.kafka)
            with sole_user(settings.output_path, LOCK_PATIENCE_SECONDS):
                pass  # the service looks again; this is so that no JVM starts for nothing
            submit.become_spark_submit(settings, arguments)
        from stream_app.runtime.service import serve  # noqa: PLC0415 - Spark's second, which a wrong setting need not wait for

        serve(settings, all_flows)
    except StreamAppError as error:
        if log_format == "json":
            logs.configure(log_format)
            logs.error(f"stream_app: {error}", exit_code=error.exit_code)
        else:
            print(f"stream_app: {plain(error)}", file=sys.stderr)
        return error.exit_code
    return ended(all_flows)
