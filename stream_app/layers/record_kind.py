"""What bronze, quarantine and silver share: a row of theirs is a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from stream_app.layers.kind import Kind
from stream_app.layers.origin import How, Origins, deciding


@dataclass(frozen=True)
class RecordKind(Kind):
    """A dataset with a row a record, which says where in Kafka that was: bronze, quarantine and silver."""

    has_places: ClassVar[bool] = True

    @property
    def time(self) -> str:
        """Kafka's timestamp."""
        return "kafka_ts"

    @property
    def newest_first(self) -> str:
        """By Kafka's timestamp."""
        return 'kafka_ts DESC, partition, "offset" DESC'

    @property
    def decided_by(self) -> Origins:
        """The contract: by its value and by its time a record is a row of silver, or one of quarantine."""
        return deciding(How.FILTER, ("value", "kafka_ts"))

    @property
    def state(self) -> Mapping[str, object]:
        """The topic."""
        return {"topic": self.feed.topic}

    @property
    def shape(self) -> list[object]:
        """The topic."""
        return [self.feed.topic]
