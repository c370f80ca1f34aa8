"""Retention looks at a folder again when it has changed, as a lake has hundreds of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import cast

import pytest

from stream_app.feeds.load import load_feeds
from stream_app.runtime import retention
from stream_app.runtime.retention import Retention
from stream_app.settings import PROJECT
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.batch_files import batch_files as all_files
from stream_app.storage.filesystem import Hadoop
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
    for folder in folders:
        folder.mkdir(parents=True)
    tidy = Retention((lake,), cast(Hadoop, None), "compact", 48)
    tidy.run_once()
    tidy.run_once()
    assert sorted(listed) == sorted(folders * 2), "what changed just now may change again within a tick of the clock"
    for folder in folders:
        os.utime(folder, (time.time() - 10,) * 2)
    tidy.run_once()
    listed.clear()
    tidy.run_once()
    assert listed == []
    folders[7].joinpath("lake_20261121_010000_0000000000.parquet").touch()
    tidy.run_once()
    assert listed == [folders[7]]
