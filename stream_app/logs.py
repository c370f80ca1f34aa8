"""Log lines: one event with its fields, as readable text or as one JSON object a line, on stderr."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from stream_app.plain import plain

_log = logging.getLogger("stream_app")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        return plain(f"{_time(record)} {record.levelname} {record.getMessage()}{fields}")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname, "message": record.getMessage()}
        for key, value in _fields(record).items():
            free = key
            while free in line:
                free += "_"
            line[free] = value
        return json.dumps(line, default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    trace = {"trace": "".join(traceback.format_exception(record.exc_info[1]))} if record.exc_info else {}
    return {**getattr(record, "fields", {}), **trace}


def configure(log_format: str) -> None:
    """Send the service's log to stderr as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    _log.handlers = [handler]
    _log.setLevel(logging.INFO)
    _log.propagate = False


def adopt(name: str) -> None:
    """Have what a library logs by that name go where our lines go, from warnings on."""
    logging.getLogger(name).handlers = _log.handlers
    logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(name).propagate = False


def info(message: str, /, **fields: object) -> None:
    """Something that a person who follows the log wants to see."""
    _log.info(message, extra={"fields": fields})


def error(message: str, /, **fields: object) -> None:
    """Log what the service ends with."""
    _log.error(message, extra={"fields": fields})


def warning(message: str, /, **fields: object) -> None:
    """Something that a person on call will want to find."""
    _log.warning(message, extra={"fields": fields})
