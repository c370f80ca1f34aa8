"""Who may go on: all flows before Spark starts, one before it is started again, and a batch before it is written."""

from __future__ import annotations

from collections.abc import Sequence

from stream_app import logs
from stream_app.admission import losses, ownership
from stream_app.admission.inspection import inspect, inspect_again
from stream_app.admission.verdict import Refusal, apply
from stream_app.errors import ConfigError, UnavailableError
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.kafka.topic import Topic
from stream_app.storage.batch_files import BatchFile


class Admission:
    """Inspects flows, and has their repairs carried out where nothing is refused."""

    def __init__(self, broker: Broker, *, fail_on_data_loss: bool, has_database: bool) -> None:
        self._broker = broker
        self.fail_on_data_loss = fail_on_data_loss
        self._has_database = has_database
        self._admitted: dict[str, Topic | None] = {}
        """Flows that were inspected with all others and not started since, with the topic of bronze."""

    def admit_all(self, flows: Sequence[Flow]) -> None:
        """Inspect all flows while no query runs. One that must wait is tried again with its query.

        Raises ConfigError, a line with the command to type, where one may not go on; then nothing was changed.
        """
        verdict = inspect(
            flows, self._broker, fail_on_data_loss=self.fail_on_data_loss, has_database=self._has_database
        )
        apply(verdict)
        for wait in verdict.waits:
            logs.warning(f"{wait.flow} waits", error=wait.sentence)
        waiting = {wait.flow for wait in verdict.waits}
        self._admitted = {flow.name: verdict.topics.get(flow.name) for flow in flows if flow.name not in waiting}

    def admit(self, flow: Flow) -> Topic | None:
        """Inspect a flow before its query starts, unless `admit_all` just has; the topic is for bronze.

        Raises ConfigError as `admit_all`, and UnavailableError where what the flow needs is away for now.
        """
        if flow.name in self._admitted:
            return self._admitted.pop(flow.name)
        verdict = inspect_again(
            flow, self._broker, fail_on_data_loss=self.fail_on_data_loss, has_database=self._has_database
        )
        apply(verdict)
        for wait in verdict.waits:
            raise UnavailableError(wait.sentence)
        return verdict.topics.get(flow.name)

    def check_files(self, flow: Flow, read: int, files: Sequence[BatchFile], end: int) -> None:
        """Raise ConfigError before a batch that reads files up to batch `end`, where one after batch `read` is missing.

        With FAIL_ON_DATA_LOSS=false it is a warning.
        """
        for finding in losses.inspect_input(flow, read, files, end, fail_on_data_loss=self.fail_on_data_loss):
            if isinstance(finding, Refusal):
                raise ConfigError(finding.sentence)
            logs.warning(finding.sentence)

    def check_same_topic(self, flow: Flow, topic: Topic | None) -> None:
        """Raise ConfigError before a batch of bronze is published whose offsets are not those of that topic."""
        if topic and self._broker.topic(topic.name).id != topic.id:
            raise ConfigError(ownership.topic_was_recreated(flow).sentence)
