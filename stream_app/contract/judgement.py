"""What the definition finds in a record, step by step: its fields, then lookups, then rules. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stream_app.contract.node import Reasons


@dataclass(slots=True)  # not frozen: each record has one, and that would take a tenth of its time
class Judgement:
    """What is found. `row` is empty where there is no record; None in it may be invalid."""

    row: list[Any]
    reasons: Reasons
    invalid: frozenset[str] = frozenset()
    """The columns of the row that are not valid."""
    warnings: list[str] = field(default_factory=list)
