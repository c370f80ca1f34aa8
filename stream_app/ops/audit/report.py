"""What the audit says of a feed, and the exit code that goes with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream_app.plain import plain

RIGHT, WRONG, NOT_AUDITED = 0, 1, 3


@dataclass
class Report:
    """What was found of one feed."""

    feed: str
    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """A line for each thing that must not be."""
    not_audited: list[str] = field(default_factory=list)
    """A line for each thing that should have been looked at and could not be."""
    beyond: list[str] = field(default_factory=list)
    """A line for each thing that no audit looks at."""

    @property
    def exit_code(self) -> int:
        """Return the exit code, as docs/operations.md#the-audit lists them."""
        if self.wrong:
            return WRONG
        return NOT_AUDITED if self.not_audited else RIGHT

    def print(self) -> None:
        """Print the counts, then a line for each finding, then the verdict."""
        table = Table(title=f"audit of {self.feed}", title_justify="left", box=SIMPLE, show_header=False)
        for counted, count in self.counts.items():
            table.add_row(Text(plain(counted)), f"{count:,}")
        Console().print(table)
        for line in self.wrong:
            print(f"WRONG {plain(line)}")
        for line in (*self.not_audited, *self.beyond):
            print(f"NOT AUDITED {plain(line)}")
        print(self._verdict())

    def _verdict(self) -> str:
        if self.wrong:
            return f"{len(self.wrong)} things are wrong"
        looked_at = "nothing lost, nothing twice"
        return f"{looked_at} in what was looked at; not all was" if self.not_audited else looked_at
