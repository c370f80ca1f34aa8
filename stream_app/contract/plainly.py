"""Read a column of texts by Arrow where they are spelled plainly, as nearly all are, and else one by one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Spelling = tuple[str, Callable[[pa.Array], pa.Array]]
"""An RE2 pattern, and what makes values of the texts that match it, among nulls."""


def read_all(texts: pa.Array, kind: pa.DataType, spellings: Sequence[Spelling], read: Callable[[Any], Any]) -> pa.Array:
    """Return what `read` makes of each text (or bytes) as that kind, null where it is None or the text is.

    The spellings are tried in their order, each on what is left. Where one gives a value, it is what `read` gives.
    """
    if not spellings:
        wires = texts.to_numpy(zero_copy_only=False).tolist()  # a tenth of to_pylist()'s time
        return pa.array([None if wire is None else read(wire) for wire in wires], kind)
    (pattern, convert), *others = spellings
    is_plain = pc.match_substring_regex(texts, pattern)
    # an array of nulls: with a null alone, if_else of Arrow 21 loses the last bytes of a slice's texts
    values = convert(pc.if_else(is_plain, texts, pa.nulls(len(texts), texts.type)))
    if values.null_count == texts.null_count:
        return values
    missing = pc.and_(values.is_null(), texts.is_valid())
    return pc.replace_with_mask(values, missing, read_all(texts.filter(missing), kind, others, read))
