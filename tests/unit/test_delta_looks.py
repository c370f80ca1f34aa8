"""Looks at a Delta table cost what is new in it, and are of the table that is there now."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from stream_app.storage.tables.delta import Delta
from stream_app.storage.tables.delta_looks import look_at
from stream_app.storage.tables.delta_on_disk import DeltaOnDisk
from stream_app.storage.tables.on_disk import OnDisk
from stream_app.storage.tables.table import Look
from tests.tables import mark, new, numbered


@pytest.fixture
def table(tmp_path: Path) -> DeltaOnDisk:
    return new(tmp_path / "t")


def fresh(table: Delta) -> Look:
    """The same by a handle that has seen nothing."""
    opened = Delta(table.place)
    return Look(next(opened.versions(1)), tuple(opened.live()))


def as_text(look: Look | None) -> tuple[Any, ...]:
    assert look
    return (look.newest, *sorted(map(str, look.files)))


def commit(table: DeltaOnDisk, batch: int, *, replace: bool = False) -> None:
    table.refresh()
    table.commit(mark(batch), [numbered(table, batch, batch)], table.live() if replace else ())


def test_a_look_reads_only_what_is_new(table: DeltaOnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks each second, and the log of a week has half a million entries."""
    assert as_text(look_at(table.place)) == as_text(fresh(table))
    assert table.live() == []

    def listed(*_: Any, **__: Any) -> None:
        raise AssertionError

    for name in ("__init__", "update_incremental", "history", "is_deltatable"):
        monkeypatch.setattr(DeltaTable, name, listed)
    looks = []
    for batch in range(8):  # then comes a checkpoint
        commit(table, batch, replace=batch % 2 == 1)
        looks.append(look_at(table.place))
    monkeypatch.undo()
    assert as_text(looks[-1]) == as_text(fresh(table))
    assert [look.newest.batch for look in looks if look] == [*range(8)]


def test_a_table_that_was_made_anew_is_another_one(table: DeltaOnDisk) -> None:
    """As a reset makes it, with fewer, as many or more versions than the one before had."""
    root = Path(table.location)
    for versions in (3, 3, 5, 1, 6):
        for batch in range(versions):
            commit(table, batch)
        assert as_text(look_at(table.place)) == as_text(fresh(table))
        shutil.rmtree(root)
        table = new(root)
    shutil.rmtree(root)
    assert look_at(table.place) is None


def test_what_is_not_there_yet_is_found_once_it_is(tmp_path: Path) -> None:
    place = OnDisk(tmp_path / "t")
    assert look_at(place) is None
    table = new(place.folder)
    assert as_text(look_at(place)) == as_text(fresh(table))


def test_threads_that_look_while_batches_come_see_whole_versions(table: DeltaOnDisk) -> None:
    commit(table, 0)

    def looked(_: int) -> bool:
        found = [look for _ in range(50) if (look := look_at(table.place))]
        numbers = [look.newest.number for look in found]
        return numbers == sorted(numbers) and {len(look.files) for look in found} == {1}

    with ThreadPoolExecutor(4) as pool:
        seen = [pool.submit(looked, one) for one in range(4)]
        for batch in range(1, 40):
            commit(table, batch, replace=True)
        assert all(one.result() for one in seen)
