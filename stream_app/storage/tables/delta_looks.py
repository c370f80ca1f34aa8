"""What Delta tables hold by now, for those of a process that ask again and again.

To open a table on a disk costs more with each version. So it is opened once, and then the entries that are new are
read. A table in a store is opened for each look: nobody waits there for somebody else.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from threading import Lock

from deltalake.exceptions import TableNotFoundError

from stream_app.storage.tables.delta import Delta
from stream_app.storage.tables.delta_on_disk import DeltaOnDisk
from stream_app.storage.tables.on_disk import OnDisk
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.table import Look


@dataclass
class _Followed:
    """The table of one place, looked at by one thread at a time."""

    lock: Lock = field(default_factory=Lock)
    table: DeltaOnDisk | None = None

    def look(self, place: OnDisk) -> Look | None:
        with self.lock:
            table = self.table or DeltaOnDisk(place)
            try:
                table.refresh()
                self.table, look = table, Look(table.newest, tuple(table.live()))
            except TableNotFoundError:
                self.table = look = None
            return look


_FOLLOWED: defaultdict[str, _Followed] = defaultdict(_Followed)


def look_at(place: Place) -> Look | None:
    """Return the newest version of the table of that place, and its files; None where there is no table."""
    if isinstance(place, OnDisk):
        return _FOLLOWED[place.location].look(place)
    table = Delta(place)
    return Look(table.newest, tuple(table.live())) if table.exists() else None
