"""What is lost of a flow: refused, or by FAIL_ON_DATA_LOSS=false gone on without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from stream_app.admission.superseded import conflicts
from stream_app.admission.verdict import Code, Finding, Notice, Refusal, Repair, reset_command, stranger
from stream_app.flows import chain
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import BatchFile, batch_files


@dataclass(frozen=True)
class LetGo(Repair):
    """Go on without a file that was deleted."""

    batch: int
    problem: str
    warns: ClassVar[bool] = True

    @property
    def sentence(self) -> str:
        """Say what is lost."""
        return self.problem

    def carry_out(self) -> None:
        """Note it, so that no later start misses it."""
        chain.let_go(self.flow, self.batch)


def loss(flow: Flow, code: Code, problem: str, *, fail_on_data_loss: bool) -> Refusal | Notice:
    """Refuse what records of a topic are lost with, or with FAIL_ON_DATA_LOSS=false go on without them."""
    if not fail_on_data_loss:
        return Notice(flow.name, problem)
    command = reset_command(flow)
    advice = f"reset it with: {command}, or go on without it by FAIL_ON_DATA_LOSS=false"
    return Refusal(flow.name, code, f"{problem}; {advice}", command)


def inspect_output(flow: Flow, query_id: str | None, *, fail_on_data_loss: bool) -> Iterator[Finding]:
    """Yield the files of the flow's own that another query wrote, that overlap, and that were deleted.

    It reads the footer of each. While a query or retention runs, they change.
    """
    if path := chain.stranger(flow, query_id):
        yield stranger(flow, path)
    for folder, prefix in flow.folders:
        yield from conflicts(flow, prefix, batch_files(folder, prefix))
    for lost in chain.lost(flow):
        problem = f"{flow.layout.output} has lost the file of batch {lost}"
        if not fail_on_data_loss:
            yield LetGo(flow, lost, problem)
            continue
        # of bronze there may be no other copy
        command = "" if flow.upstream is None else reset_command(flow)
        or_reset = f" reset it with: {command}," if command else ""
        advice = f"put it back,{or_reset} or go on without it by FAIL_ON_DATA_LOSS=false"
        yield Refusal(flow.name, Code.FILE_LOST, f"{problem}; {advice}", command)


def inspect_input(
    flow: Flow, read: int, files: Sequence[BatchFile], end: int, *, fail_on_data_loss: bool
) -> Iterator[Refusal | Notice]:
    """Yield where a file is missing that the flow reads after batch `read`, up to `end` if that is planned."""
    before, lost = chain.gaps(read, files, end)
    if before is not None:
        sentence = f"{flow.name} begins with what is left: files up to batch {before} were deleted before it"
        yield Notice(flow.name, sentence)
    if lost is None or flow.upstream is None:
        return
    problem = f"{flow.upstream.layout.output} has lost the file of batch {lost}, which {flow.name} has not read"
    if fail_on_data_loss:
        advice = "put it back, or go on without it by FAIL_ON_DATA_LOSS=false"
        yield Refusal(flow.name, Code.FILE_LOST, f"{problem}; {advice}")
    else:
        yield Notice(flow.name, problem)
