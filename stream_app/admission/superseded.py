"""What a merged file took the place of, while both stand: after a death in a merge, or where files were copied in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from stream_app.admission.verdict import Refusal, overlap
from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import BatchFile, standing


def covered(flow: Flow, prefix: str, files: Sequence[BatchFile]) -> list[BatchFile]:
    """Return the files of one of a flow's folders whose batches a merged one holds, oldest first.

    Raises ConfigError, naming both, where two hold one batch and the one was not merged into the other.
    """
    for conflict in conflicts(flow, prefix, files):
        raise ConfigError(conflict.sentence)
    kept = {file.path for file in standing(files)}
    return [file for file in files if file.path not in kept]


def conflicts(flow: Flow, prefix: str, files: Sequence[BatchFile]) -> Iterator[Refusal]:
    """Yield the files of one of a flow's folders that hold one batch though the one was not merged into the other."""
    kept = standing(files)
    for one, other in pairwise(kept):
        if other.first <= one.last:
            yield overlap(flow, one.path, other.path)
    paths = {file.path for file in kept}
    rest = [file for file in files if file.path not in paths]
    for merged, parts in groupby(rest, lambda file: next(one for one in kept if one.covers(file))):
        own = list(parts)
        form = flow.form_of(prefix)
        if form is None or not form.holds(merged.path, [file.path for file in own]):
            yield overlap(flow, merged.path, own[0].path)
