"""What is done every few seconds beside the queries, until the service ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def regularly(
    do: Callable[[], object],
    seconds: float,
    name: str,
    *,
    at_once: bool = False,
    once_more: bool = False,
    patience: float | None = None,
) -> Iterator[None]:
    """Do it every so many seconds until the block ends, in a thread of that name.

    With `at_once` also at the start, with `once_more` also at the end. The end of the block waits for the thread, at
    most `patience` seconds.
    """
    ended = threading.Event()

    def loop() -> None:
        if at_once:
            do()
        while not ended.wait(seconds):
            do()
        if once_more:
            do()

    thread = threading.Thread(target=loop, daemon=True, name=name)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(patience)
