"""Which columns the files of an output have. One that has grown has others from a batch on (feeds/growth.py).

`_owner.json` keeps them as `columns`: a list, oldest first, of {"after": 41, "columns": {"amount": "decimal(18,2)"}}.
Batch 41 was the newest one that had been written by then, so each file is of one version. Versions up to 0.1 kept none.
Silver's has `sources`, too: what the values are made of beside their types, as a default or a path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from stream_app.feeds.growth import Columns
from stream_app.feeds.types import of_name
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.checkpoint import damaged


@dataclass(frozen=True)
class Version:
    """What the columns were from a batch on."""

    after: int
    """The newest batch that was written before; -1 for the first version."""
    columns: Columns
    sources: Mapping[str, str] = field(default_factory=dict)
    """By path, what values were made of; nothing, where that was not noted."""

    def as_json(self) -> dict[str, object]:
        """Return what `_owner.json` has of it."""
        noted = {"after": self.after, "columns": {name: one.name for name, one in self.columns.items()}}
        return {**noted, "sources": dict(self.sources)} if self.sources else noted

    def remade(self, sources: Mapping[str, str]) -> list[str]:
        """Return the paths of values that these sources make of something else than the version did."""
        return [path for path, said in sources.items() if self.sources.get(path, said) != said]


def first(flow: Flow) -> Version:
    """Return the version of an output that has no file yet: as it is declared."""
    return Version(-1, flow.kind.types, sources_of(flow))


def sources_of(flow: Flow) -> dict[str, str]:
    """Return what the values of an output are made of, if they are made in it."""
    return flow.kind.sources if flow.is_own else {}


def versions(flow: Flow) -> list[Version]:
    """Return what is noted, oldest first; what is declared, where nothing is. Raises StreamAppError for garbage."""
    try:
        owner = json.loads(flow.layout.owner.read_text())
        return parsed(owner) or [first(flow)]
    except FileNotFoundError:
        return [first(flow)]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise damaged(flow.layout.owner) from None


def parsed(owner: Mapping[str, object]) -> list[Version]:
    """Return the versions in an `_owner.json`, oldest first; none where an older service wrote it."""
    noted = owner.get("columns", [])
    if not isinstance(noted, list):
        raise TypeError(noted)
    return [
        Version(
            int(one["after"]), {n: of_name(kind) for n, kind in one["columns"].items()}, dict(one.get("sources", {}))
        )
        for one in noted
    ]


def of_file(found: Sequence[Version], file: BatchFile) -> Version:
    """Return the version that a file is of."""
    return [one for one in found if one.after < file.last][-1]


def divided(flow: Flow, files: Sequence[BatchFile]) -> Iterator[tuple[Version, list[BatchFile]]]:
    """Yield each version with its files, in the order of the files."""
    found = versions(flow)
    for version, own in groupby(files, lambda file: of_file(found, file)):
        yield version, list(own)
