"""Chooses a table's place from its location, once: a path is on a disk, a URL in an object store."""

from __future__ import annotations

from pathlib import Path

from stream_app.object_stores import TableRoot
from stream_app.storage.tables.in_store import InStore
from stream_app.storage.tables.on_disk import OnDisk
from stream_app.storage.tables.place import Place


def place_of(root: TableRoot, folder: str, spool: Path) -> Place:
    """Return the place of that folder, or with "" of the root itself.

    Files in the making wait in `spool` where they cannot in the folder.
    """
    if "://" in root.location:
        location = f"{root.location}/{folder}" if folder else root.location
        return InStore(location, root.access.options, root.access.hidden, spool, root.named_by)
    return OnDisk(Path(root.location).absolute() / folder)
