"""What readers of the plain folders see and no checkpoint accounts for; files that are not what their names say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from stream_app.admission import ownership
from stream_app.flows import columns
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.opened import Opened

_EXAMPLES = 20


def strays(flow: Flow) -> Iterator[str]:
    """Yield a line for each of the first paths in the flow's folders that the flow has not written."""
    if lost := ownership.checkpoint_lost(flow):
        yield lost.sentence
    else:
        yield from (stray.sentence for stray in islice(ownership.strays(flow), _EXAMPLES))


def uncommitted(flow: Flow) -> str:
    """Return which batches the checkpoint no longer has as committed, though a later one was planned; else "".

    A power cut may do it, for Spark flushes no commit. Their files are not looked at.
    """
    planned = flow.checkpoint.last_planned()
    committed = flow.checkpoint.last_committed()  # after the plan: it is never more than one behind
    first, last = (committed.batch_id if committed else -1) + 1, planned.batch_id - 1 if planned else -1
    return f"{flow.sink}: its checkpoint has no commit of batches {first} to {last}" if first <= last else ""


def strange(flow: Flow, files: Sequence[BatchFile], opened: Opened, *, late: bool) -> dict[Path, str]:
    """Return what is wrong with files of what follows silver, or of its late rows.

    Only what a file says of its columns is looked at, none of its rows. Of late rows, which are of any version of
    silver, each has the columns of the first.
    """
    form = flow.form_of(flow.layout.late_name if late else flow.sink)
    if form is None:
        return {}
    if late:
        assert flow.stateful and flow.upstream  # noqa: S101 - rows can come too late for it
        first = columns.versions(flow.upstream)[0].columns
        groups = [([*flow.stateful.late_columns, *first], files)]
    else:
        groups = [([*version.columns], own) for version, own in columns.divided(flow, files)]
    flaws = ((file.path, form.flaw(opened(file.path), expected)) for expected, own in groups for file in own)
    return {path: flaw for path, flaw in flaws if flaw}
