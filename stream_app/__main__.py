"""`python -m stream_app [<command>]`; without a command it is the service, which spark-submit runs by this file."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import TracebackType

if __package__ in {None, ""}:  # run by spark-submit as a file: its folder would shadow other packages
    sys.path[0] = str(Path(__file__).resolve().parents[1])


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing of Ctrl-C: who typed it knows. Python ends by the signal after this, as a shell expects."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    # Before the imports, which take most of a command's first seconds.
    sys.excepthook = _without_traceback
    # What is imported is no garbage, and to look through it takes a tenth of a start. cli/main.py ends this.
    gc.disable()
    from stream_app.cli.main import main

    sys.exit(main(sys.argv[1:]))
