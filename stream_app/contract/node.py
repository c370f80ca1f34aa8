"""A field in its place in a record: it decodes, judges, holds and finishes what the field has. Pure.

`judge` is the definition, value by value. The fast path takes whole columns: `hold` keeps what msgspec has decoded as
Arrow. `finish` gives the same values as `judge`, and the places that only `judge` can tell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.codecs.codec import Shape
from stream_app.contract.times import EPOCH, microseconds
from stream_app.contract.wire import Places
from stream_app.feeds.fields import Field

Reasons = dict[str, None]
"""Reasons in the order in which they were found, each once."""
Finished = tuple[pa.Array, Places]
"""A column, and the places in it that only the definition can judge."""
Undeclared = dict[str, Any]
"""The path of a member that nobody has declared -> its first value."""

NOWHERE: Places = np.empty(0, np.int64)


class Node(ABC):
    """One field in its place. `path` has no positions of arrays and no keys of maps.

    kind: the Python type of the JSON that it asks for; any other is bad_type.
    is_final: whether msgspec refuses all that `judge` does, so that `finish` finds no doubtful place.
    has_raw: whether there are values into which msgspec does not look.
    shape: where the codec keeps values as their text.
    """

    kind: type
    is_final: bool
    has_raw: bool
    shape: Shape

    def __init__(self, field: Field, path: str) -> None:
        self.path = path
        self.is_required = not field.is_optional
        self.arrow = field.as_type.arrow
        self._default = _default(field)

    def type_of(self, *, strict: bool) -> Any:
        """Return what msgspec decodes it as. Strictly, no object in it has a member that is not declared."""
        kind = self._type_of(strict=strict)
        return kind if self.is_required or kind is msgspec.Raw else kind | None

    @abstractmethod
    def judge(self, given: Any, reasons: Reasons) -> Any:
        """Return the row's value; None, after adding the reasons, where there is none."""

    def _unfit(self, given: Any, reasons: Reasons) -> Any:
        """Return the row's value where what is given is not of the kind."""
        if given is not None:
            reasons[f"bad_type:{self.path}"] = None
            return None
        if self.is_required:
            reasons[f"missing:{self.path}"] = None
        return self._default

    @abstractmethod
    def hold(self, values: Sequence[Any]) -> pa.Array:
        """Return decoded values as Arrow, null where there is none."""

    def finish(self, held: pa.Array) -> Finished:
        """Return the column of what is held, in the type of the field."""
        column, doubtful = self._finish(held)
        if self._default is not None:
            column = pc.fill_null(column, pa.array([self._default], self.arrow)[0])
        return column, doubtful

    @abstractmethod
    def undeclared(self, given: Any, found: Undeclared) -> None:
        """Add what nobody has declared in a value, of whatever kind that is."""

    @abstractmethod
    def _type_of(self, *, strict: bool) -> Any: ...

    @abstractmethod
    def _finish(self, held: pa.Array) -> Finished: ...


def union(found: Sequence[Places]) -> Places:
    """Return all those places, each once, in order."""
    some = [places for places in found if len(places)]
    return np.unique(np.concatenate(some)) if some else NOWHERE


def _default(field: Field) -> Any:
    """Return the default as rows have it; None if there is none."""
    given = field.default
    if isinstance(given, datetime):
        return microseconds(given.replace(tzinfo=given.tzinfo or UTC) - EPOCH)
    if isinstance(given, date):
        return (given - EPOCH.date()).days
    if field.type in {"float", "double"} and given is not None:
        return float(np.float32(given)) if field.type == "float" else float(given)
    if field.precision_scale and given is not None:
        return Decimal(given).quantize(Decimal(1).scaleb(-field.precision_scale[1]))
    return int(given) if isinstance(given, Decimal) else given
