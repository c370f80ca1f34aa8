"""Rules across the fields of a record, as a feed file declares them; conditions.py tells what they may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from stream_app.feeds.parts import Frozen

WARNINGS = "warnings"
"""Silver's column with the names of the rules that warn of a row."""


class Rule(Frozen):
    """What must be true of a record whose fields are valid.

    check: a condition in DuckDB's SQL over the feed's fields. Not true is broken: false, null, or an error.
    severity: quarantine keeps the record out of silver, with the reason rule:<name>; warn keeps the row, counts it, and
    names the rule in its `warnings`.
    """

    check: Annotated[str, StringConstraints(min_length=1)]
    severity: Literal["quarantine", "warn"] = "quarantine"
