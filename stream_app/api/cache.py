"""Answers by the state of the outputs that they were made of: in this process, and in Valkey where REDIS_URL names one.

A key holds the newest batches, so an entry is never wrong and nobody has to take it out.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import redis

from stream_app import logs

_MOST_BYTES, _LARGEST = 32 << 20, 2 << 20
_ENTRY_BYTES = 1 << 10
"""What an entry takes beside its body: its key, its headers, what holds them. Else a million empty answers fit in."""
_SHARED_SECONDS = 600
_TIMEOUT_SECONDS = 0.25
_AWAY_SECONDS = 5.0
_PATIENCE_SECONDS = 5.0
_PREFIX = "stream-app:"


class Answer(msgspec.Struct, frozen=True):
    """An answer as it is sent."""

    body: bytes
    media: str
    headers: dict[str, str]


@dataclass
class Cache:
    """Answers by their keys: a bounded number of bytes here, the newest used; the rest is where others share it."""

    shared: Shared | None = None
    _held: OrderedDict[str, Answer] = field(default_factory=OrderedDict)
    _makers: dict[str, tuple[threading.Lock, int]] = field(default_factory=dict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def held(self, key: str) -> Answer | None:
        """Return the answer of that key, if it is still in this process."""
        with self._lock:
            if found := self._held.get(key):
                self._held.move_to_end(key)
            return found

    def get(self, key: str) -> Answer | None:
        """Return the answer of that key, if it is still held, here or by the server that others share."""
        if found := self.held(key):
            return found
        if self.shared and (found := self.shared.get(key)):
            self._hold(key, found)
            return found
        return None

    @contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Have one thread make an answer, and others wait for it: after each batch, all clients ask for the same."""
        with self._lock:
            lock, waiting = self._makers.get(key, (threading.Lock(), 0))
            self._makers[key] = (lock, waiting + 1)
        got = lock.acquire(timeout=_PATIENCE_SECONDS)  # whoever waits longer makes its own
        try:
            yield
        finally:
            if got:
                lock.release()
            with self._lock:
                _, waiting = self._makers.pop(key)
                if waiting > 1:
                    self._makers[key] = (lock, waiting - 1)

    def put(self, key: str, answer: Answer) -> None:
        """Hold an answer, unless it is large."""
        if len(answer.body) > _LARGEST:
            return
        self._hold(key, answer)
        if self.shared:
            self.shared.put(key, answer)

    def _hold(self, key: str, answer: Answer) -> None:
        with self._lock:
            if key in self._held:
                return
            self._held[key] = answer
            self._bytes += len(answer.body) + _ENTRY_BYTES
            while self._bytes > _MOST_BYTES:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= len(oldest.body) + _ENTRY_BYTES


class Shared:
    """A Valkey or Redis. It may be away: then nothing is found in it, and it is left alone for some seconds."""

    def __init__(self, url: str) -> None:
        timeouts = {"socket_timeout": _TIMEOUT_SECONDS, "socket_connect_timeout": _TIMEOUT_SECONDS}
        self._client: Any = redis.Redis.from_url(url, **timeouts)
        self._away_until = 0.0

    def get(self, key: str) -> Answer | None:
        """Return the answer of that key, if it is there."""
        found = self._tried("get", _PREFIX + key)
        try:
            return msgspec.msgpack.decode(found, type=Answer) if found else None
        except msgspec.DecodeError:  # of another version
            return None

    def put(self, key: str, answer: Answer) -> None:
        """Hold it there for some minutes."""
        self._tried("set", _PREFIX + key, msgspec.msgpack.encode(answer), ex=_SHARED_SECONDS)

    def _tried(self, command: str, *arguments: object, **options: object) -> Any:
        if time.monotonic() < self._away_until:
            return None
        try:
            return getattr(self._client, command)(*arguments, **options)
        except (redis.RedisError, OSError) as error:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            self._tell(error)
            return None

    def _tell(self, error: Exception) -> None:
        refused = isinstance(error, redis.AuthenticationError | redis.ResponseError)
        what = "the server refuses its user or password" if refused else "no answer"
        logs.warning(f"REDIS_URL: {what}; each process has its own cache meanwhile", error=type(error).__name__)
