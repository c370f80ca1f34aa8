"""What there is to be known of a type that holds one value: how it is decoded, judged and finished. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from stream_app.contract.codecs.codec import Text

Judge = Callable[[Any], Any]
"""A value of the right kind -> the row's value, or the reasons why not as a tuple."""


@dataclass(frozen=True)
class Column:
    """How one field that holds one value is decoded and judged.

    decoded: the type that msgspec decodes and checks.
    kind: the Python type of the JSON type that the field asks for; any other is bad_type.
    judge: JSON value of that kind -> the row's value, or the reasons why not. Timestamps are microseconds since the
    epoch, dates days since then.
    held: what decoded values are as Arrow.
    finish_all: those -> the rows' values, null where they are null or only `judge` can tell; None if they are the
    values.
    is_final: whether msgspec refuses all that `judge` does, so that `finish_all` adds no null.
    """

    decoded: Any
    kind: type
    judge: Judge
    held: pa.DataType
    finish_all: Callable[[pa.Array], pa.Array] | None = None
    is_final: bool = False

    @property
    def is_raw(self) -> bool:
        """Whether msgspec hands on the bytes of its values, into which it has not looked."""
        return self.decoded is msgspec.Raw

    @property
    def is_text(self) -> bool:
        """Whether a value of any kind is kept as its JSON text."""
        return self.kind is Text


def or_reason(reason: str, read: Callable[[str], Any]) -> Judge:
    """Return what gives that reason for what `read` makes None of."""

    def judge(text: str) -> Any:
        value = read(text)
        return (reason,) if value is None else value

    return judge
