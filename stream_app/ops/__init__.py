"""What the make targets call. Each reads the files; none needs Spark or a running service."""

from __future__ import annotations

import sys
from types import TracebackType


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing of Ctrl-C: who typed it knows. Python ends by the signal after this, as a shell expects."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


# Here, as most of a command's first seconds are imports, where no code of ours could catch it.
sys.excepthook = _without_traceback
