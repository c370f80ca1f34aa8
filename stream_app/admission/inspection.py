"""May flows go on from where they were? Looks at disk and topic, changes nothing, and returns a Verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from stream_app.admission import ahead, losses, ownership, reset_journal, rule_versions, topic_state, undeclared
from stream_app.admission.verdict import Code, Finding, Refusal, Repair, Verdict, Wait, to_reset
from stream_app.errors import ConfigError, UnavailableError
from stream_app.flows import unread
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.kafka.topic import Topic
from stream_app.storage.batch_files import replace_text
from stream_app.storage.checkpoint import DamagedError, damaged
from stream_app.storage.offsets import LayerOffset, in_layer

_MOST_REFUSALS = 10
"""A folder may have a million strange files: of so many findings of a step, none that refuses is the last."""


@dataclass(frozen=True)
class Mend(Repair):
    """Delete an entry of the checkpoint that is empty, with which Spark would not start."""

    path: Path
    warns: ClassVar[bool] = True

    @property
    def sentence(self) -> str:
        """Say which."""
        return f"{self.flow.name} deleted an entry of its checkpoint that a power cut left empty: {self.path}"

    def carry_out(self) -> None:
        """Delete it."""
        self.path.unlink()


@dataclass(frozen=True)
class Settle(Repair):
    """Have the state of a checkpoint that was moved name its files where they are now."""

    path: Path
    text: str

    @property
    def sentence(self) -> str:
        """Say which file."""
        return f"{self.flow.name} was moved: {self.path} names its files where they are now"

    def carry_out(self) -> None:
        """Write it."""
        replace_text(self.path, self.text)


def inspect(flows: Sequence[Flow], broker: Broker, *, fail_on_data_loss: bool, has_database: bool) -> Verdict:
    """Inspect flows while none of their queries runs, upstream first. It reads the footer of each data file."""
    look = _Look(broker, fail_on_data_loss, has_database, at_rest=True)
    for flow in flows:
        look.at(flow)
    return Verdict.of(look.findings, look.topics)


def inspect_again(flow: Flow, broker: Broker, *, fail_on_data_loss: bool, has_database: bool) -> Verdict:
    """Inspect one flow before its query is started again, while others run."""
    look = _Look(broker, fail_on_data_loss, has_database, at_rest=False)
    look.at(flow)
    return Verdict.of(look.findings, look.topics)


@dataclass
class _Look:
    broker: Broker
    fail_on_data_loss: bool
    has_database: bool
    at_rest: bool
    findings: list[Finding] = field(default_factory=list)
    topics: dict[str, Topic] = field(default_factory=dict)
    query_ids: dict[str, str | None] = field(default_factory=dict)
    """Of flows that were looked at, as they will be after the repairs."""
    looked_at: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    """Of flows that are bound to new checkpoints."""
    refused: set[str] = field(default_factory=set)
    """Also flows that follow a refused one: a reset of that takes them along."""

    def at(self, flow: Flow) -> None:
        """Take each step until one finds what keeps the flow back: what is behind that, it may explain."""
        self.looked_at.add(flow.name)
        found = list[Finding]()
        for step in self._steps(flow):
            found += self._taken(step, flow)
            if any(isinstance(one, Refusal) for one in found):
                self.refused.add(flow.name)
            if any(isinstance(one, Refusal | Wait) for one in found):
                found = [one for one in found if not isinstance(one, Repair)]
                break
        self.findings += found

    def _steps(self, flow: Flow) -> Iterator[Callable[[Flow], Iterator[Finding]]]:
        yield reset_journal.inspect
        yield undeclared.inspect
        yield self._database
        yield self._topic
        yield _checkpoint
        yield self._ownership
        if self.at_rest:
            yield self._output
        if flow.upstream and flow.upstream.name in self.refused:
            self.refused.add(flow.name)
            return
        yield self._upstream
        yield ahead.inspect
        yield self._topic_state
        yield self._input
        if self.at_rest:
            yield ahead.inspect_clock
            yield self._rules

    def _taken(self, step: Callable[[Flow], Iterator[Finding]], flow: Flow) -> list[Finding]:
        found = list[Finding]()
        try:
            for one in step(flow):
                found.append(one)
                if isinstance(one, Refusal) and len(found) >= _MOST_REFUSALS:
                    break
        except DamagedError as error:
            found.append(_damaged(flow, error.path))
        except UnavailableError as error:
            found.append(Wait(flow.name, str(error)))
        return found

    def _database(self, flow: Flow) -> Iterator[Finding]:
        if flow.to.needs_database and not self.has_database:
            problem = f"DATABASE_URL: is not set, and {flow.name} is a table; name its database"
            yield Refusal(flow.name, Code.NO_DATABASE, problem)

    def _topic(self, flow: Flow) -> Iterator[Finding]:
        if flow.upstream is None:
            try:
                self.topics[flow.name] = self.broker.topic(flow.feed.topic)
            except ConfigError as error:
                yield Refusal(flow.name, Code.NO_TOPIC, str(error))

    def _ownership(self, flow: Flow) -> Iterator[Finding]:
        upstream = flow.upstream
        topic = self.topics.get(flow.name)
        upstream_id = self._query_id(upstream) if upstream else None
        if upstream and upstream_id is None and upstream.name in self.looked_at:
            yield Wait(flow.name, f"{upstream.name}, which it follows, has not begun")
            return
        self.query_ids[flow.name] = flow.checkpoint.query_id()
        for finding in ownership.inspect(flow, topic.id if topic else None, upstream_id):
            if isinstance(finding, ownership.Bind):
                self.query_ids[flow.name] = finding.query_id
                self.begun.add(flow.name)
            yield finding

    def _output(self, flow: Flow) -> Iterator[Finding]:
        return losses.inspect_output(flow, self._query_id(flow), fail_on_data_loss=self.fail_on_data_loss)

    def _upstream(self, flow: Flow) -> Iterator[Finding]:
        return ownership.inspect_upstream(flow, self._query_id(flow.upstream) if flow.upstream else None)

    def _topic_state(self, flow: Flow) -> Iterator[Finding]:
        if topic := self.topics.get(flow.name):
            yield from topic_state.inspect(flow, topic, self.broker, fail_on_data_loss=self.fail_on_data_loss)

    def _input(self, flow: Flow) -> Iterator[Finding]:
        if flow.upstream:
            planned = flow.checkpoint.last_planned()
            read, end = flow.taken_up_to(), in_layer(planned.end).batch if planned else -1
            yield from losses.inspect_input(
                flow, read, flow.upstream.files(read), end, fail_on_data_loss=self.fail_on_data_loss
            )

    def _rules(self, flow: Flow) -> Iterator[Finding]:
        halves = rule_versions.halves_of(flow.upstream) if flow.upstream else []
        if flow.upstream and halves and flow == halves[-1] and not self.refused & {half.name for half in halves}:
            yield from rule_versions.inspect(flow.upstream, self.begun)

    def _query_id(self, flow: Flow) -> str | None:
        return self.query_ids[flow.name] if flow.name in self.query_ids else flow.checkpoint.query_id()


def _checkpoint(flow: Flow) -> Iterator[Finding]:
    """Yield what to mend of Spark's files, and what of ours beside them cannot be read."""
    for path in flow.checkpoint.emptied():
        yield Mend(flow, path)
    for path, text in flow.checkpoint.moved().items():
        yield Settle(flow, path, text)
    planned = flow.checkpoint.last_planned()
    if planned and isinstance(planned.end, LayerOffset) != (flow.upstream is not None):
        raise damaged(flow.checkpoint.entry(planned.batch_id))
    if flow.upstream is None:
        unread.read(flow)
        reset_journal.first_offsets(flow.feed, flow.root, "")


def _damaged(flow: Flow, path: Path) -> Refusal:
    """Refuse a file that cannot be read, by the flow that it is of: one that follows may have come to it first."""
    known = (flow, *((flow.upstream, *flow.upstream.downstream) if flow.upstream else ()))
    own = next((each for each in known if path.is_relative_to(each.layout.checkpoint)), flow)
    return to_reset(own, Code.DAMAGED, f"{path} cannot be read")
