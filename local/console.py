"""The one-line messages that a person at the terminal reads."""

from __future__ import annotations

import contextlib
import sys


def say(name: str, text: str, *, trouble: bool = False) -> None:
    """Print a line of news to stdout, or of trouble to stderr.

    A reader who went away (a closed terminal, `| head`) must not keep the stack from being stopped in order.
    """
    with contextlib.suppress(OSError):
        print(f"{name}: {text}", file=sys.stderr if trouble else sys.stdout, flush=True)
