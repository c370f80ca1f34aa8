"""The producer's log: one line an event on stdout, `event name=value ...` or one JSON object."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Literal


class Log:
    """Writes events. A value goes out as it is, so no secret may be handed in."""

    def __init__(self, style: Literal["text", "json"]) -> None:
        self._style = style

    def __call__(self, event: str, **values: object) -> None:
        """Write one line now."""
        time = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        if self._style == "json":
            line = json.dumps({"time": time, "event": event, **values}, default=str)
        else:
            line = " ".join((time, event, *(f"{name}={_text(value)}" for name, value in values.items())))
        sys.stdout.write(line + "\n")
        sys.stdout.flush()  # who follows a log in a pipe or a file should see each line at once


def _text(value: object) -> str:
    text = str(value)
    return json.dumps(text) if " " in text or "\n" in text else text
