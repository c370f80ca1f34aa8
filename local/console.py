"""The one-line messages that a person at the terminal reads."""

from __future__ import annotations

import contextlib
import sys

from stream_app.plain import plain


def say(name: str, text: str, *, trouble: bool = False) -> None:
    """Print a line of news to stdout, or of trouble to stderr.

    A reader who went away (a closed terminal, `| head`) must not keep the stack from being stopped in order, nor one
    that has not every letter.
    """
    with contextlib.suppress(OSError, UnicodeEncodeError):
        print(f"{name}: {plain(text)}", file=sys.stderr if trouble else sys.stdout, flush=True)
