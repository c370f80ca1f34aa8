"""The snapshots of reference data that a feed's batches of bronze, and its replays, are pinned to.

A snapshot is taken when a batch is planned and the lookup's interval has passed. What has changed is a new file under
`_lookups/`, what has not is the same one. While the service runs, a source that cannot be read leaves the last one.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import SecretStr

from stream_app import logs
from stream_app.contract.references import first_hashes
from stream_app.errors import StreamAppError, UnavailableError
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.sources.lookup import Source
from stream_app.storage import pins, snapshots
from stream_app.storage.batch_files import REPLAY, batch_files, replace_text

_RETRY_SECONDS = 60.0
_TIDY_SECONDS = 3600.0
# A snapshot that nothing names yet may be of a replay that is under way.
_YOUNG_SECONDS = 86_400.0


@dataclass
class Lookups:
    """The lookups of one feed, from one start of the service to the next."""

    bronze: Flow
    folder: Path
    """That of the feed file, from which on the path of a file is."""
    database_url: SecretStr
    """Of the database that queries are of."""
    failures: Counter[str] = field(default_factory=Counter)
    """How often each lookup could not be read since the last batch."""
    _hashes: dict[str, str] = field(default_factory=dict)
    """The hash of each lookup's newest snapshot, by its name."""
    _due: dict[str, float] = field(default_factory=dict)
    _tidied: float = -math.inf

    def begin(self) -> None:
        """Take a snapshot of each lookup, and keep the first one of each declaration.

        Raises ConfigError, one line, where one cannot be read as it is declared. Where only the database is away, the
        snapshot of the newest batch of bronze stays; UnavailableError if there is none.
        """
        for name in self.bronze.feed.lookups:
            try:
                self._take(name)
            except UnavailableError as error:
                known = pins.hashes_of(newest_pin(self.bronze)).get(self.bronze.feed.pinned[name])
                if known is None:
                    raise
                self._hashes[name] = known
                self._failed(name, error)
        first = first_hashes(self.bronze.layout.first_lookups)
        if new := {one: of for one, of in self._by_identity().items() if one not in first}:
            replace_text(self.bronze.layout.first_lookups, json.dumps(first | new, indent=1))

    def pin(self) -> str:
        """Return the pin of a batch that is planned now, after what is due was taken again."""
        now = time.monotonic()
        for name in (name for name, due in self._due.items() if due <= now):
            try:
                self._take(name)
            except StreamAppError as error:
                self._failed(name, error)
        # what is in an archive is named for ever, also once bronze's files have gone
        if now - self._tidied > _TIDY_SECONDS and not self.bronze.archives:
            self._tidied = now
            for path in snapshots.delete_others(
                self.bronze.layout.lookups, {*_named(self.bronze), *self._hashes.values()}, time.time() - _YOUNG_SECONDS
            ):
                logs.info(f"{self.bronze.feed.name} deleted a snapshot that no batch names", file=path.name)
        return self.newest()

    def newest(self) -> str:
        """Return the pin of the snapshots that were taken last."""
        return pins.pin(self._by_identity())

    def _take(self, name: str) -> None:
        feed, before = self.bronze.feed, self._hashes.get(name)
        rows = Source.of(feed, name, self.folder, self.database_url.get_secret_value()).read()
        self._hashes[name] = snapshots.save(self.bronze.layout.lookups, name, rows)
        self._due[name] = time.monotonic() + feed.lookups[name].refresh.total_seconds()
        if self._hashes[name] != before:
            logs.info(f"{feed.name} has taken lookups.{name}", rows=rows.num_rows, snapshot=self._hashes[name])

    def _failed(self, name: str, error: StreamAppError) -> None:
        self.failures[name] += 1
        seconds = min(self.bronze.feed.lookups[name].refresh.total_seconds(), _RETRY_SECONDS)
        self._due[name] = time.monotonic() + seconds
        logs.warning(
            f"{self.bronze.feed.name} goes on with its last snapshot of lookups.{name}",
            snapshot=self._hashes[name],
            retry_in=round(seconds),
            error=error,
        )

    def _by_identity(self) -> dict[str, str]:
        return {identity: self._hashes[name] for name, identity in self.bronze.feed.pinned.items()}


def pin_of_now(bronze: Flow, folder: Path, database_url: SecretStr) -> str:
    """Return the pin of reference data that is taken now. Raises as `Lookups.begin`.

    It deletes no snapshot: the service, which may run beside, holds some that nothing on disk names yet.
    """
    lookups = Lookups(bronze, folder, database_url)
    lookups.begin()
    return lookups.newest()


def problems(feed: Feed, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (key of the feed file, what is wrong) for each lookup that is a file, and cannot be read as declared.

    `folder` is that of the feed file. Queries need their database, so they are looked at when the service starts.
    """
    for name, lookup in feed.lookups.items():
        if lookup.file:
            source = Source.of(feed, name, folder)
            try:
                source.read()
            except StreamAppError as error:
                yield f"lookups.{name}.file", str(error).removeprefix(f"{source.name}: ")


def newest_pin(bronze: Flow) -> str:
    """Return the pin of the newest batch of bronze that has records."""
    files = bronze.files()
    return list(pins.named(pq.read_metadata(files[-1].path)))[-1] if files else pins.NOTHING


def _named(bronze: Flow) -> Iterator[str]:
    """Yield the hash of each snapshot that something on disk is judged by."""
    yield from first_hashes(bronze.layout.first_lookups).values()
    for file in (*bronze.files(), *batch_files(bronze.layout.replay, REPLAY)):
        for one in {*pins.named(pq.read_metadata(file.path))}:
            yield from pins.hashes_of(one).values()
