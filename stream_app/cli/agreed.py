"""Asking before something is deleted: --yes, or a person at the terminal."""

from __future__ import annotations

import argparse
import sys

from stream_app.cli.command import flag
from stream_app.errors import ConfigError

REFUSED = 1
"""The exit code where nobody agreed."""
REFUSAL = "as the answer was no, or --format=json came without --yes"


def yes_option(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add --yes."""
    flag(parser, "--yes", meaning)


def agreed(options: argparse.Namespace, question: str) -> bool:
    """Return whether --yes was given, or the person at the terminal says yes. With --format=json nobody is asked.

    Raises ConfigError where there is no terminal to ask at.
    """
    if options.yes or options.format == "json":
        return bool(options.yes)
    if not sys.stdin.isatty():
        raise ConfigError("--yes: there is no terminal to ask at; add it, or YES=1 to make, to go ahead")
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
