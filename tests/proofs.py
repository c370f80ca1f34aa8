"""Which test proves which promise of docs/guarantees.md for which kind of output, as the tests themselves say.

@pytest.mark.proves("Late rows are kept", "windows", "sessions")
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream_app.settings import PROJECT

FILES = ("bronze", "quarantine", "silver", "windows", "sessions", "csv", "lake")
OUTPUTS = (*FILES, "delta", "topic", "postgres")

PROMISES: Mapping[str, Sequence[str]] = {
    "Nothing is lost and nothing is twice": OUTPUTS,
    "Aborted transactions are in no layer": ("bronze", "quarantine", "silver"),
    "What cannot be read is named and stepped over only by choice": ("bronze",),
    "Large records go through": OUTPUTS,
    "A hostile batch takes a bounded amount of memory": ("bronze",),
    "Files that people touch are noticed": FILES,
    "A power cut loses nothing of bronze, quarantine, silver and the CSV": ("bronze", "quarantine", "silver", "csv"),
    "Offsets that Kafka gave away are named and not skipped": ("bronze",),
    "Bronze keeps values byte for byte": ("bronze",),
    "Repeats are dropped": ("silver",),
    "Silver and quarantine judge by the same rules": ("silver", "quarantine"),
    "A batch is judged by its own reference data": ("bronze", "quarantine", "silver"),
    "Outputs grow in place": ("silver", "windows", "sessions", "csv", "lake", "delta", "topic", "postgres"),
    "Late rows are kept": ("windows", "sessions"),
    "Outputs say how complete they are": ("silver", "windows", "sessions"),
    "PostgreSQL has each batch exactly once": ("postgres",),
    "A lake has each row exactly once": ("lake",),
    "A Delta table has each batch exactly once": ("delta",),
    "Another topic has each row at least once": ("topic",),
    "Sessions are cut by event time": ("sessions",),
    "It runs in any place": OUTPUTS,
    "Readers see whole files": FILES,
    "A client's clock decides on its own records alone, except in a backlog": ("silver", "quarantine", "windows"),
    "An upgrade keeps what is on your disks": OUTPUTS,
    "What RETENTION=prune deletes is gone": ("bronze", "quarantine", "silver", "csv"),
}
"""Each promise, and the kinds of output that it is about."""


@dataclass(frozen=True)
class Proof:
    """A test that proves a promise for some kinds of output."""

    promise: str
    outputs: Sequence[str]
    test: str


def proofs() -> list[Proof]:
    """Return what the marks of all tests say, in the order of their files."""
    files = sorted((PROJECT / "tests").rglob("test_*.py"))
    return [proof for path in files for proof in _of_file(path)]


def _of_file(path: Path) -> Iterator[Proof]:
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            for decorator in function.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.proves":
                    promise, *outputs = map(ast.literal_eval, decorator.args)
                    yield Proof(promise, outputs or PROMISES[promise], f"{path.relative_to(PROJECT)}::{function.name}")


def section() -> str:
    """Return the table of promises and outputs, and the list of the tests that its numbers mean."""
    found = proofs()
    tests = {test: number for number, test in enumerate(dict.fromkeys(proof.test for proof in found), 1)}
    lines = [f"| promise | {' | '.join(OUTPUTS)} |", f"| --- |{' --- |' * len(OUTPUTS)}"]
    for promise, about in PROMISES.items():
        cells = []
        for output in OUTPUTS:
            numbers = [str(tests[one.test]) for one in found if one.promise == promise and output in one.outputs]
            cells.append(", ".join(numbers) or ("**not proven**" if output in about else ""))
        lines.append(f"| {promise} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. `{test}`" for test, number in tests.items())]) + "\n"
