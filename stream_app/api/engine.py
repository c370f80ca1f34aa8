"""The DuckDB behind what is read, and what a query may take of it: memory, time, and how many run beside each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import duckdb

from stream_app.api.problems import Problem
from stream_app.ops.views import database

_MEMORY, _THREADS = "192MB", 2
_SECONDS, _AGAIN_SECONDS = 10.0, 0.1
_AT_ONCE, _PATIENCE_SECONDS = 4, 5.0


class Engine:
    """Lends a cursor for each query: a connection of its own would cost as much as a query (docs/benchmark.md)."""

    def __init__(self, seconds: float = _SECONDS, at_once: int = _AT_ONCE) -> None:
        self._database = database()
        self._database.execute(f"SET memory_limit = '{_MEMORY}'; SET threads = {_THREADS}")
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(at_once)

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a cursor; after some seconds what runs on it is interrupted. Raises Problem while too many run."""
        if not self._places.acquire(timeout=_PATIENCE_SECONDS):
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many queries run; try again", {"Retry-After": "2"})
        try:
            with self._database.cursor() as cursor:
                done = threading.Event()
                threading.Thread(target=self._interrupt, args=(cursor, done), daemon=True, name="limit").start()
                try:
                    yield cursor
                finally:
                    done.set()
        finally:
            self._places.release()

    def _interrupt(self, cursor: duckdb.DuckDBPyConnection, done: threading.Event) -> None:
        """End what runs on a cursor once its time is over, and what its user runs after that."""
        if not done.wait(self._seconds):
            while not done.wait(_AGAIN_SECONDS):
                cursor.interrupt()
