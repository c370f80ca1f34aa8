"""Whether a flow may go on from where it stands: asked before Spark starts, and again before each restart."""

from __future__ import annotations

from collections.abc import Sequence

from stream_app import logs
from stream_app.admission import ahead, ownership, reset_journal, topic_epochs, undeclared
from stream_app.admission.superseded import covered
from stream_app.errors import ConfigError, UnavailableError
from stream_app.flows import lineage
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker, Topic
from stream_app.settings import Settings
from stream_app.storage.batch_files import BatchFile, batch_files
from stream_app.storage.checkpoint import PlannedBatch
from stream_app.storage.offsets import by_partition, in_layer


class Admission:
    """What the output, the checkpoint and the topic say of each other."""

    def __init__(self, broker: Broker, settings: Settings) -> None:
        self._broker = broker
        self._settings = settings

    def admit(self, flow: Flow) -> Topic | None:
        """Bind a new flow to its output, or check one that has run; the topic is for bronze.

        Raises ConfigError, one line with the command to type, where to go on would skip or repeat records.
        """
        reset_journal.check_finished(flow.feed, flow.root)
        for path in flow.checkpoint.mend():
            logs.warning(f"{flow.name} deleted an entry of its checkpoint that a power cut left empty", path=path)
        flow.checkpoint.settle()
        if flow.upstream is None:
            undeclared.refuse(flow)
        topic = self._broker.topic(flow.feed.topic) if flow.upstream is None else None
        ownership.claim(flow, topic.id if topic else None)
        ahead.refuse(flow)
        if topic:
            self._check_epochs(flow)
            self._check_offsets(flow, topic)
            self._check_transactions(flow, topic)
        if flow.upstream:
            committed, planned = flow.checkpoint.last_committed(), flow.checkpoint.last_planned()
            read, end = (in_layer(batch.end).batch if batch else -1 for batch in (committed, planned))
            self.check_files(flow, read, flow.upstream.files(read), end)
        return topic

    def check_output(self, flow: Flow) -> None:
        """Refuse an output that another query wrote to, or of whose files one has gone. Before any query runs."""
        if path := lineage.stranger(flow):
            raise ownership.stranger(flow, path)
        ahead.refuse_clock(flow)
        for folder, prefix in flow.folders:
            covered(flow, prefix, batch_files(folder, prefix))
        while (lost := lineage.lost(flow)) is not None:
            # of bronze there may be no other copy
            anew = "" if flow.upstream is None else f" reset it with: {ownership.reset_command(flow)},"
            self._refuse_loss(f"{flow.layout.output} has lost the file of batch {lost}", f"put it back,{anew} or go on")
            lineage.let_go(flow, lost)

    def check_files(self, flow: Flow, read: int, files: Sequence[BatchFile], end: int) -> None:
        """Refuse to read on after batch `read`, to `end` if that is planned, where a file has gone that comes next."""
        if read < 0 and (gone := lineage.before(files)) is not None:
            logs.warning(f"{flow.name} begins with what is left: files up to batch {gone} were deleted before it")
        lost = lineage.missing(read, files, end)
        if lost is not None and flow.upstream:
            problem = f"{flow.upstream.layout.output} has lost the file of batch {lost}, which {flow.name} has not read"
            self._refuse_loss(problem, "put it back, or go on")

    def check_same_topic(self, flow: Flow, topic: Topic | None) -> None:
        """Before a batch of bronze is published: its offsets must still be those of the topic it was admitted with."""
        if topic and self._broker.topic(topic.name).id != topic.id:
            raise ownership.topic_was_recreated(flow)

    def _check_epochs(self, flow: Flow) -> None:
        """Refuse to go on where offsets that were read are other records by now. A broker that is away is no answer."""
        planned = flow.checkpoint.last_planned()
        if planned is None:
            return
        batch_id, feed = _next_read(flow, planned), flow.feed
        starts = by_partition(flow.start(batch_id))
        cut = topic_epochs.diverged(feed, self._settings, starts, topic_epochs.before(flow, batch_id))
        if cut:
            problem = "; ".join(topic_epochs.problem(feed.topic, p, starts[p], at) for p, at in sorted(cut.items()))
            self._refuse_loss(problem, f"reset it with: {ownership.reset_command(flow)}, or go on")

    def _check_offsets(self, flow: Flow, topic: Topic) -> None:
        """Refuse to go on where records between the checkpoint and the topic are gone."""
        planned = flow.checkpoint.last_planned()
        if planned is None:
            return
        next_read = flow.start(_next_read(flow, planned))
        read, planned_end = by_partition(next_read), by_partition(planned.end)
        earliest, end = self._broker.earliest_offsets(topic), self._broker.end_offsets(topic)
        # a batch may be planned to end before its start: when the topic had lost its end, which is another one by now
        gaps = [
            f"partition {p}: read up to {at}, next to {to}, the topic holds {earliest[p]} to {end[p]}"
            for p, to in planned_end.items()
            if p in end and not earliest[p] <= (at := read.get(p, earliest[p])) <= to <= end[p]
        ]
        if not gaps:
            return
        problem = f"topic {topic.name} no longer holds what {flow.name} would read next ({'; '.join(gaps)})"
        self._refuse_loss(problem, f"reset it with: {ownership.reset_command(flow)}, or go on")

    def _check_transactions(self, flow: Flow, topic: Topic) -> None:
        """Wait where bronze was read past a transaction that is open, as by read_uncommitted.

        A batch that was planned to the end of what is decided would end before it begins.
        """
        planned = flow.checkpoint.last_planned()
        if planned is None or self._settings.kafka_isolation_level == "read_uncommitted":
            return
        stable, end = self._broker.stable_offsets(topic), self._broker.end_offsets(topic)
        held = [
            f"partition {p} was read to offset {at}, by read_uncommitted, and can be to {stable[p]}"
            for p, at in by_partition(planned.end).items()
            if p in stable and stable[p] < at <= end[p]
        ]
        if held:
            raise UnavailableError(f"topic {topic.name}: a transaction is open ({'; '.join(held)}); waits for its end")

    def _refuse_loss(self, problem: str, advice: str) -> None:
        if self._settings.fail_on_data_loss:
            raise ConfigError(f"{problem}; {advice} without it by FAIL_ON_DATA_LOSS=false")
        logs.warning(problem)


def _next_read(flow: Flow, planned: PlannedBatch) -> int:
    """The batch of bronze that reads the topic next: the planned one, unless it has."""
    is_read = planned == flow.checkpoint.last_committed() or flow.files_of(planned.batch_id)
    return planned.batch_id + 1 if is_read else planned.batch_id
