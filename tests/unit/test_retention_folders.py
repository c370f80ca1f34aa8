"""Retention looks at a folder again when it has changed, as a lake has hundreds of them."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path
from typing import cast

import pytest

from stream_app.feeds.load import load_feeds
from stream_app.runtime import retention
from stream_app.runtime.retention import Retention
from stream_app.settings import PROJECT
from stream_app.storage.batch_files import BatchFile, batch_file
from stream_app.storage.batch_files import batch_files as all_files
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.layout import merge_staging
from tests.helpers import flow_of

FOLDERS = 50


def test_a_folder_that_has_not_changed_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])[0]
    lake = flow_of(feed, "lake", tmp_path)
    folders = [lake.layout.output / f"event_date=2026-01-{day:02d}" for day in range(FOLDERS)]
    listed: list[Path] = []

    def listing(folder: Path, prefix: str) -> list[BatchFile]:
        listed.append(folder)
        return all_files(folder, prefix)

    monkeypatch.setattr(retention, "batch_files", listing)
    monkeypatch.setattr(retention, "_TICK_NS", 3_600 * 10**9)  # the next lines may take seconds
    for folder in folders:
        folder.mkdir(parents=True)
    tidy = Retention((lake,), cast(Hadoop, None), "compact", 48)
    tidy.run_once()
    tidy.run_once()
    assert sorted(listed) == sorted(folders * 2), "what changed just now may change again within a tick of the clock"
    for folder in folders:
        os.utime(folder, (time.time() - 7_200,) * 2)
    tidy.run_once()
    listed.clear()
    tidy.run_once()
    assert listed == []
    folders[7].joinpath("lake_20261121_010000_0000000000.parquet").touch()
    tidy.run_once()
    assert listed == [folders[7]]


class _Deletes:
    """As Hadoop does."""

    def delete(self, path: Path) -> None:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_a_merge_that_died_is_taken_away_in_every_folder(tmp_path: Path) -> None:
    """A sink empties the staging of its own folder alone; those of dates and of late rows would stay for ever."""
    feed = load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])[0]
    lake, windows = flow_of(feed, "lake", tmp_path), flow_of(feed, "active_users", tmp_path)
    folders = [lake.layout.output / "event_date=2026-01-01", windows.layout.output, windows.layout.late]
    assert windows.stateful
    for folder in folders:
        merge_staging(folder).mkdir(parents=True)
        (merge_staging(folder) / "died.parquet").write_text("x")
    tidy = Retention((lake, windows), cast(Hadoop, _Deletes()), "keep", 48)
    tidy.run_once()
    assert not any(merge_staging(folder).exists() for folder in folders)


def test_a_merge_that_fails_leaves_nothing_on_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])[0]
    lake = flow_of(feed, "lake", tmp_path)
    folder = lake.layout.output / "event_date=2026-01-01"
    files = [batch_file(folder, "lake", "parquet", 0, batch, None) for batch in range(2)]

    def full(_self: Retention, _flow: object, _prefix: str, _parts: object, target: Path) -> None:
        target.write_text("a part of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Retention, "_concat", full)
    with pytest.raises(OSError, match="No space"):
        Retention((lake,), cast(Hadoop, _Deletes()), "compact", 48)._merge(lake, "lake", files)
    assert list(merge_staging(folder).iterdir()) == []
