"""What an encoding must do: bytes to a record or the reason why there is none. It knows neither rules nor columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from stream_app.contract.wire import Places

Record = dict[str, Any]
"""A record as the definition judges it: dict, list, str, bool, None, Number (wire.py) and Text."""


class Text(str):
    """A value of any kind, kept as its JSON text."""

    __slots__ = ()


@dataclass(frozen=True)
class Shape:
    """Where in a record the codec keeps values as Text: here, in members, or in each element or value.

    It is false where nowhere in it is any.
    """

    here: bool = False
    members: dict[str, Shape] = field(default_factory=dict)
    each: Shape | None = None

    def __bool__(self) -> bool:
        return self.here or bool(self.members) or self.each is not None


Hold = Callable[[Sequence[Any]], list[pa.Array]]
"""Keeps structs of the kind that was asked for as Arrow, a column for each field, as they were decoded."""


@dataclass(frozen=True)
class Decoded:
    """What the fast path of a codec makes of a batch. Places are those of the records in it, from 0, in order.

    Each is in `places` or in `doubtful`.
    """

    columns: list[pa.Array]
    """What Hold made of the decoded records."""
    places: Places
    """The places of those."""
    doubtful: list[int]
    """The places that only the definition can judge."""
    undeclared: list[int]
    """The places of records that hold more than the struct has."""


class Codec(Protocol):
    """One encoding of one feed's records. Nothing here raises, whatever the bytes are."""

    def record(self, value: bytes) -> Record | str:
        """Return the record, or the reason why the bytes are none. This is the definition."""

    def outline(self, value: bytes) -> Record | str:
        """Return the record for its names, or the reason why there is none; its values are good as samples only."""

    def records(self, values: pa.Array, hold: Hold) -> Decoded:
        """Decode a batch of binary values, many times as fast, to what the definition makes of them."""
