"""`python -m stream_app [<command>]`; without a command it is the service, which spark-submit runs by this file."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import NoReturn

if __package__ in {None, ""}:  # run by spark-submit as a file: its folder would shadow other packages
    sys.path[0] = str(Path(__file__).resolve().parents[1])


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing of Ctrl-C: who typed it knows. Python ends by the signal after this, as a shell expects."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def _end(code: int) -> NoReturn:
    """End as Python does, but without taking itself apart, as multiprocessing ends a process.

    A library's thread that asks for Python meanwhile is ended inside C++ code, which aborts: "terminate called without
    an active exception". A command that had done all would end with code 134. It also is a tenth of a command's CPU.
    """
    threading._shutdown()  # type: ignore[attr-defined] # waits for each thread that is not a daemon
    atexit._run_exitfuncs()
    if sys.stderr is not None:  # as where it was closed; main() has flushed stdout
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    # Before the imports, which take most of a command's first seconds.
    sys.excepthook = _without_traceback
    # What is imported is no garbage, and to look through it takes a tenth of a start. cli/main.py ends this.
    gc.disable()
    from stream_app.cli.main import main

    _end(main(sys.argv[1:]))
