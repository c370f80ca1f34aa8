"""What silver kept of a record before it had grown: rows of older batches are right if they are that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stream_app.feeds.growth import Columns
from stream_app.feeds.types import Type


def others(name: str, kind: pa.DataType, versions: Sequence[Columns]) -> list[Type | None]:
    """Return what other types a column had in those versions of silver; None for a version without it."""
    types = (columns.get(name) for columns in versions)
    return [one for one in types if one is None or one.arrow != kind]


def was_kept(expected: pa.Scalar, actual: pa.Scalar, types: Sequence[Type | None]) -> bool:
    """Return whether a column of one of those types kept the actual value of what is expected today."""
    return bool(types) and any(_kept(expected.as_py(), kind) == actual.as_py() for kind in types)


def _kept(value: Any, kind: Type | None) -> Any:
    """Return what was kept of a value in a column of that type; None where there was no such column or member."""
    if kind is None or value is None:
        return None
    if kind.name == "float":
        return float(np.float32(value))
    if "[]" in kind.parts:
        return [_kept(one, kind.parts["[]"]) for one in value]
    if "{}" in kind.parts:
        return [(key, _kept(one, kind.parts["{}"])) for key, one in value]
    if kind.parts:
        return {member: _kept(one, kind.parts.get(member)) for member, one in value.items()}
    return value
