"""Asking before something is deleted."""

from __future__ import annotations

import sys

from stream_app.errors import ConfigError


def agreed(question: str) -> bool:
    """Return whether the person at the terminal says yes. Raises ConfigError where there is none."""
    if not sys.stdin.isatty():
        raise ConfigError("--yes: there is no terminal to ask at; add it, or YES=1 to make, to go ahead")
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
