"""The files of a query are a chain: each says which query wrote it, and the batch of the file before it.

Batch ids alone do not tell that a file was deleted, because a batch without rows has no file. Nor do they tell that one
was copied in, of a batch that had none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import BatchFile, batch_files, parse, replace_text
from stream_app.storage.checkpoint import PlannedBatch, damaged
from stream_app.storage.parquet import QUERY, is_of_one_query, said

_FOLLOWS = b"follows_batch"


def remember(flow: Flow, file: Path) -> None:
    """Keep the name of the newest file beside the checkpoint: a start notices if it has gone, the next one names it."""
    # not flushed, for each batch writes it: with an older name, neither would see a file that is missing
    replace_text(flow.layout.last_file, file.name, flushed=False)


def last_file(flow: Flow) -> BatchFile | None:
    """Return the newest file that was noted, wherever its batch is now.

    It is None before the first, and where the note cannot be read.
    """
    try:
        return parse(flow.layout.output / (flow.layout.last_file).read_text(), flow.sink)
    except (FileNotFoundError, UnicodeDecodeError):  # of another text `parse` says the same
        return None


def newest_written(flow: Flow) -> PlannedBatch | None:
    """Return the newest batch that was committed, or that died before its commit with its file there; None before."""
    planned = flow.checkpoint.last_planned()
    return planned if planned and flow.files_of(planned.batch_id) else flow.checkpoint.last_committed()


def signature(flow: Flow) -> dict[bytes, bytes]:
    """Who writes a file, as its metadata says; a merged file keeps what its first one says, here and in `link`."""
    return {QUERY: (flow.checkpoint.query_id() or "").encode()}


def link(flow: Flow) -> dict[bytes, bytes]:
    """Return what the flow's next file says of itself.

    Divided files do not say what they follow, since people delete the oldest of them.
    """
    if flow.is_divided:
        return signature(flow)
    last = last_file(flow)
    return {**signature(flow), _FOLLOWS: str(last.last if last else -1).encode()}


class Gaps(NamedTuple):
    """Which files are missing among the ones that a reader takes next."""

    before: int | None
    """The newest batch before the first file that had one, for a reader that has read nothing: it does without."""
    missing: int | None
    """The first batch whose file the reader cannot do without."""


def gaps(read: int, files: Sequence[BatchFile], end: int) -> Gaps:
    """Return what is missing of the files after batch `read`; a plan is to read those up to batch `end`.

    A reader that has read nothing (-1) begins with the files that there are. Files that were written without a link do
    not tell.
    """
    links = [_follows(file) for file in files]
    before = links[0] if read < 0 and links and links[0] >= 0 else None
    last = read if read >= 0 or not files else files[0].first - 1
    for file, follows in zip(files, links, strict=True):
        if follows > last:
            return Gaps(before, follows)
        last = file.last
    return Gaps(before, None if end <= read or any(file.last == end for file in files) else end)


def followed(says: Mapping[bytes, bytes]) -> int:
    """Return the batch of the file before the one that says this; -1 for none, and where it does not tell."""
    try:
        return int(says.get(_FOLLOWS, -1))
    except ValueError:  # it tells nothing
        return -1


def _before(files: Sequence[BatchFile]) -> int | None:
    """Return the batch before the first file, if that had one: RETENTION=prune deletes the oldest, or somebody did."""
    return next((batch for file in files[:1] if (batch := _follows(file)) >= 0), None)


def let_go(flow: Flow, batch: int) -> None:
    """Note that files up to that batch may be missing from now on: they were pruned, or a person goes on without."""
    replace_text(flow.layout.let_go, str(max(batch, gone(flow))))


def regained(flow: Flow, batch: int) -> None:
    """Note that of the files that were let go those behind that batch are there again."""
    if batch >= 0:
        replace_text(flow.layout.let_go, str(batch))
    else:
        flow.layout.let_go.unlink(missing_ok=True)


def gone(flow: Flow) -> int:
    """Return the newest batch whose file may be missing; -1 for none.

    It was pruned, or a person goes on without it. Raises StreamAppError where the note of it cannot be read.
    """
    path = flow.layout.let_go
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return -1
    except ValueError:
        raise damaged(path) from None


def lost(flow: Flow) -> Iterator[int]:
    """Yield each batch of the flow's own whose file was deleted, unless it was let go.

    Not of the CSV and of lakes, whose files have no link; nor of the newest (`last_file`).
    """
    last = gone(flow)
    files = flow.files(last)
    if last < 0 and files:
        if QUERY in said(files[0].path) and (first := _before(files)) is not None:
            yield first
        last = files[0].first - 1
    for file in files:
        if (follows := _follows(file)) > last:
            yield follows
        last = file.last


def unbroken(files: Sequence[BatchFile]) -> Iterator[list[BatchFile]]:
    """Yield the files in runs without a gap, each of one query; without files, one empty run.

    A new run begins where a file is missing, and with a file of another query.
    """
    run: list[BatchFile] = []
    for file in files:
        if run and (_follows(file) > run[-1].last or not is_of_one_query(run[-1].path, file.path)):
            yield run
            run = []
        run.append(file)
    yield run


def stranger(flow: Flow, query_id: str | None) -> Path | None:
    """Return a file in the flow's folders that another query wrote than that one."""
    found = (file.path for folder, prefix in flow.folders for file in batch_files(folder, prefix))
    by = ((path, said(path).get(QUERY)) for path in found)
    return next((path for path, writer in by if writer and writer.decode(errors="replace") != query_id), None)


def _follows(file: BatchFile) -> int:
    return followed(said(file.path))
