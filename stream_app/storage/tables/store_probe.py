"""Does a store honour conditional puts? That is all that keeps two commits from being one version of a table.

Asked one after another, some servers do, and lose races all the same. So several threads create each key at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from stream_app.errors import ConfigError

_KEYS, _AT_ONCE = 8, 8


def probe(place: str, store: Any) -> None:
    """Create keys in a store, several times each at once, and delete them again.

    Raises ConfigError, which names the place, where a key was created twice: commits would be lost there.
    """
    names = [f"race-{number}" for number in range(_KEYS)]
    with _deleted(store, names):
        twice = sum(_winners(store, name) > 1 for name in names)
    if twice:
        problem = f"{place}: the store does not honour conditional puts (If-None-Match)"
        raise ConfigError(
            f"{problem}: {twice} of {_KEYS} keys were created twice, so commits would be lost; use another"
        )


def _winners(store: Any, name: str) -> int:
    """Return how many of the threads were told that they had created the key."""
    begin = threading.Barrier(_AT_ONCE)

    def create(number: int) -> bool:
        from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 - most services have no store

        begin.wait()
        try:
            store.put(name, b"%d" % number, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return sum(threads.map(create, range(_AT_ONCE)))


@contextmanager
def _deleted(store: Any, names: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except BaseException:  # which says more than what comes of the deletes
        with suppress(Exception):
            _delete(store, names)
        raise
    _delete(store, names)


def _delete(store: Any, names: Sequence[str]) -> None:
    for name in names:
        store.delete(name)
