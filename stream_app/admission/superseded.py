"""What a merged file took the place of, while both stand: after a death in a merge, or where files were copied in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from stream_app.errors import ConfigError
from stream_app.flows import lineage
from stream_app.flows.flow import Flow, Layer
from stream_app.layers import raw_csv
from stream_app.storage import csv_files
from stream_app.storage.batch_files import BatchFile, standing


def covered(flow: Flow, files: Sequence[BatchFile]) -> list[BatchFile]:
    """The files of a folder whose batches a merged one holds, oldest first.

    Raises ConfigError, naming both, where two hold one batch and the one was not merged into the other.
    """
    kept = standing(files)
    for one, other in pairwise(kept):
        if other.first <= one.last:
            raise _conflict(flow, one, other)
    paths = {file.path for file in kept}
    rest = [file for file in files if file.path not in paths]
    for merged, parts in groupby(rest, lambda file: next(one for one in kept if one.covers(file))):
        own = list(parts)
        if not _holds(flow, merged, own):
            raise _conflict(flow, merged, own[0])
    return rest


def _holds(flow: Flow, merged: BatchFile, parts: Sequence[BatchFile]) -> bool:
    if flow.layer is Layer.RAW_CSV:
        return csv_files.ends_with(raw_csv.header(flow.feed).encode(), merged.path, [part.path for part in parts])
    return all(lineage.is_of_one_query(merged, part) for part in parts)


def _conflict(flow: Flow, one: BatchFile, other: BatchFile) -> ConfigError:
    return ConfigError(f"{one.path} and {other.path} are of one batch; move out what {flow.name} has not written")
