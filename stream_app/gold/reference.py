"""The reference data of gold: each run judges by snapshots that it takes, and the manifest says which.

    _lookups/sales/clients_0a1b2c3d4e5f6071.arrow

Snapshots are kept beside gold for as long as it has rows that they judged. So the audit judges by the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path, PurePath

from pydantic import SecretStr

from stream_app import logs
from stream_app.contract.references import Snapshots
from stream_app.feeds.feed import Feed
from stream_app.gold.manifest import Manifest
from stream_app.sources.lookup import Source
from stream_app.storage import pins, snapshots
from stream_app.storage.layout import FeedLayout
from stream_app.storage.snapshots import Opener, Snapshot


def take(gold: Path, feed: Feed, folder: Path, database_url: SecretStr) -> str:
    """Keep what a feed's lookups have now as snapshots; return their pin, which is "" for a feed without lookups.

    `folder` is that of the feed file. Raises ConfigError where a lookup cannot be read as it is declared, and
    UnavailableError where its database is away.
    """
    hashes = {}
    for name, identity in feed.pinned.items():
        rows = Source.of(feed, name, folder, database_url.get_secret_value()).read()
        hashes[identity] = snapshots.save(_folder(gold, feed), name, rows)
        logs.info(f"{feed.name} is judged by lookups.{name}", rows=rows.num_rows, snapshot=hashes[identity])
    return pins.pin(hashes)


def snapshots_of(gold: Path, feed: Feed, kind: Opener = Snapshot) -> Snapshots | None:
    """Return the snapshots of a feed, by their pins; None for a feed without lookups."""
    folder = _folder(gold, feed).absolute()
    first = folder / FeedLayout.first_lookups.under(FeedLayout.lookups)
    return Snapshots(folder, first, feed.pinned, kind) if feed.lookups else None


def tidy(gold: Path, feeds: Iterable[Feed], manifest: Manifest) -> None:
    """Delete the snapshots that no row of gold was judged by any more."""
    for feed in feeds:
        named = {one for pin in manifest.pins.get(feed.topic, {}) for one in pins.hashes_of(pin).values()}
        snapshots.delete_others(_folder(gold, feed), named, time.time())


def _folder(gold: Path, feed: Feed) -> Path:
    return gold / PurePath(FeedLayout.lookups.path).name / feed.name
