"""What an inspection finds: repairs, refusals, waits. All are values; `apply` alone changes anything on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from stream_app import logs
from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow
from stream_app.kafka.topic import Topic


class Code(StrEnum):
    """Why a flow may not go on, for programs; docs/operations.md has the sentences."""

    RESET_UNFINISHED = "reset_unfinished"
    DAMAGED = "damaged"
    UNDECLARED = "undeclared"
    NO_DATABASE = "no_database"
    NO_TOPIC = "no_topic"
    TOPIC_RECREATED = "topic_recreated"
    CHECKPOINT_LOST = "checkpoint_lost"
    OUTPUT_LOST = "output_lost"
    OUTPUT_FOREIGN = "output_foreign"
    STATE_CHANGED = "state_changed"
    SEEN_LOST = "seen_lost"
    FILE_FOREIGN = "file_foreign"
    FILES_OVERLAP = "files_overlap"
    FILE_LOST = "file_lost"
    UPSTREAM_RESET = "upstream_reset"
    UPSTREAM_OLDER = "upstream_older"
    UPSTREAM_MERGED = "upstream_merged"
    OFFSETS_LOST = "offsets_lost"
    LOG_CUT = "log_cut"
    RULES_CHANGED = "rules_changed"


@dataclass(frozen=True)
class Refusal:
    """Why a flow may not go on. No retry helps: a person must act, as the sentence says."""

    flow: str
    code: Code
    sentence: str
    """One line, with what to do."""
    command: str = ""
    """What to type, where a command mends it."""


@dataclass(frozen=True)
class Wait:
    """Why a flow cannot go on yet. It passes by itself."""

    flow: str
    sentence: str


@dataclass(frozen=True)
class Notice:
    """What somebody should know of a flow that goes on."""

    flow: str
    sentence: str


@dataclass(frozen=True)
class Repair(ABC):
    """What must be changed on disk before a flow goes on."""

    flow: Flow
    warns: ClassVar[bool] = False
    """Whether a person should see it, as nothing of the kind happens in a normal start."""

    @property
    @abstractmethod
    def sentence(self) -> str:
        """What was done, for the log."""

    @abstractmethod
    def carry_out(self) -> None:
        """Change the disk. May be repeated after it was cut short, by way of another inspection."""


Finding = Refusal | Wait | Notice | Repair


@dataclass(frozen=True)
class Verdict:
    """All that was found, upstream first."""

    repairs: tuple[Repair, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    waits: tuple[Wait, ...] = ()
    notices: tuple[Notice, ...] = ()
    topics: Mapping[str, Topic] = field(default_factory=dict)
    """By flow: the topic that it was inspected with."""

    @classmethod
    def of(cls, findings: Iterable[Finding], topics: Mapping[str, Topic] | None = None) -> Verdict:
        """Sort findings. What two flows are refused with in the same words is one refusal."""
        found = list(findings)
        refusals = {one.sentence: one for one in reversed(found) if isinstance(one, Refusal)}
        return cls(
            tuple(one for one in found if isinstance(one, Repair)),
            tuple(reversed(refusals.values())),
            tuple(one for one in found if isinstance(one, Wait)),
            tuple(one for one in found if isinstance(one, Notice)),
            topics or {},
        )


def apply(verdict: Verdict) -> None:
    """Carry out the repairs, and log each; where anything is refused, change nothing.

    Raises ConfigError with the last refusal's sentence, after an error line for each of the others.
    """
    if verdict.refusals:
        *others, last = verdict.refusals
        for refusal in others:
            logs.error(refusal.sentence)
        raise ConfigError(last.sentence)
    for repair in verdict.repairs:
        repair.carry_out()
        say = logs.warning if repair.warns else logs.info
        say(repair.sentence)
    for notice in verdict.notices:
        logs.warning(notice.sentence)


def reset_command(flow: Flow) -> str:
    """Return what a person types to reset a flow."""
    return f"make reset FEED={flow.feed.name} SINK={flow.sink}"


def restore_command(flow: Flow) -> str:
    """Return what a person types to make a checkpoint again from the flow's table."""
    return f"make restore FEED={flow.feed.name} SINK={flow.sink}"


def to_reset(flow: Flow, code: Code, problem: str) -> Refusal:
    """Refuse what a reset of the flow mends."""
    command = reset_command(flow)
    return Refusal(flow.name, code, f"{problem}; reset it with: {command}", command)


def stranger(flow: Flow, path: Path) -> Refusal:
    """Refuse a file in the flow's folders that it has not written."""
    sentence = f"{path} was not written by {flow.name}; move it out of the folder"
    return Refusal(flow.name, Code.FILE_FOREIGN, sentence)


def overlap(flow: Flow, one: Path, other: Path) -> Refusal:
    """Refuse two files that hold the same batch."""
    sentence = f"{one} and {other} are of one batch; move out what {flow.name} has not written"
    return Refusal(flow.name, Code.FILES_OVERLAP, sentence)
