"""Rules across the fields of a record, as a feed file declares them; conditions.py tells what they may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from stream_app.feeds import types
from stream_app.feeds.parts import Frozen

WARNINGS, WARNINGS_TYPE = "warnings", types.array(types.scalar("string"))
"""Silver's column with the names of the rules that warn of a row."""


class Rule(Frozen):
    """What must be true of a record whose fields are valid."""

    check: Annotated[str, StringConstraints(min_length=1)]
    """A condition in DuckDB's SQL over the feed's fields. False, null and an error break the rule."""
    severity: Literal["quarantine", "warn"] = "quarantine"
    """`quarantine` keeps the record out of silver. `warn` keeps the row, and names the rule in its `warnings`."""
