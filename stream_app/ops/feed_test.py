"""Feeds are tested by their own examples: `<feed>.tests/<case>/` beside the feed file.

A case is a folder with `input.jsonl`, the records, and a file for each dataset that has rows then: `quarantine.jsonl`,
`silver.jsonl`, `<window>.jsonl`, `<session>.jsonl`, and `late_<window or session>.jsonl`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import feeds_in, load_feeds
from stream_app.ops.examples import jsonl
from stream_app.ops.examples.given import count, read
from stream_app.ops.examples.made import datasets, made
from stream_app.sinks.registry import check
from stream_app.sources.lookup import Source
from stream_app.storage.snapshots import Snapshot

_INPUT = "input"


@dataclass(frozen=True)
class Difference:
    """A dataset that is not as expected."""

    file: Path
    """Of the expectation."""
    diff: str
    """What is expected and what is made, as a unified diff of lines."""


@dataclass(frozen=True)
class Case:
    """What came of an example."""

    feed: str
    name: str
    records: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Tested:
    """What came of all examples."""

    cases: tuple[Case, ...]
    without: tuple[str, ...]
    """The feeds that have no example."""

    @property
    def differs(self) -> bool:
        """Whether anything is not as expected."""
        return any(case.differences for case in self.cases)


def feed_test(directory: Path, feed: str = "", *, accept: bool = False) -> Tested:
    """Run the examples of all feeds of a folder, or of that one, and compare.

    accept: what is made becomes what is expected, after the comparison.
    Raises ConfigError for mistakes of feed files and examples, and for a feed without examples that was named.
    """
    feeds = load_feeds(directory, [feed] if feed else feeds_in(directory), check)
    found = [(one, cases(directory, one.name)) for one in feeds]
    if feed and not any(folders for _, folders in found):
        raise ConfigError(
            f"{_folder(directory, feed)}: the feed has no examples; a case is a folder with {_INPUT}.jsonl"
        )
    tested = [_run(one, folder, accept=accept) for one, folders in found for folder in folders]
    return Tested(tuple(tested), tuple(one.name for one, folders in found if not folders))


def cases(directory: Path, feed: str) -> list[Path]:
    """Return the folders of a feed's examples, in order."""
    folder = _folder(directory, feed)
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _folder(directory: Path, feed: str) -> Path:
    return directory / f"{feed}.tests"


def _run(feed: Feed, folder: Path, *, accept: bool) -> Case:
    names = datasets(feed)
    known = {f"{name}.jsonl" for name in (_INPUT, *names)} | {f"{lookup}.csv" for lookup in feed.lookups}
    if unknown := {path.name for path in folder.iterdir()} - known:
        problem = f"{', '.join(sorted(unknown))}: the feed has no such dataset; it has {', '.join(names)}"
        raise ConfigError(f"{folder}: {problem}")
    batches = read(folder / f"{_INPUT}.jsonl", feed)
    tables = made(feed, batches, dict(rows_of_lookups(feed, folder))).tables
    differences = []
    for name in names:
        file, actual = folder / f"{name}.jsonl", jsonl.lines(tables[name])
        if diff := "\n".join(_diff(file, actual)):
            differences.append(Difference(file, diff))
            if accept:
                _write(file, actual)
    return Case(feed.name, folder.name, count(batches), tuple(differences))


def rows_of_lookups(feed: Feed, folder: Path) -> Iterator[tuple[str, Snapshot]]:
    """Yield each lookup with its rows: those of the example's own `<lookup>.csv`, else of the file that is declared."""
    for name, lookup in feed.lookups.items():
        source, own = Source.of(feed, name, folder.parent.parent), folder / f"{name}.csv"
        if lookup.query and not own.exists():
            problem = f"lookups.{name} is a query, and an example asks no database"
            raise ConfigError(f"{folder}: {problem}; give it rows, in {own.name}")
        yield name, Snapshot(source.of_file(own) if own.exists() else source.read())


def _diff(file: Path, actual: list[str]) -> Iterator[str]:
    """Yield the lines of a unified diff; a file that is not there expects no rows."""
    expected = _expected(file, actual) if file.exists() else []
    return difflib.unified_diff(expected, actual, f"{file.name} (expected)", f"{file.name} (made)", n=1, lineterm="")


def _expected(file: Path, actual: list[str]) -> list[str]:
    """Return the lines of an expectation; one that is a made one in other words is that."""
    made_as = {_ordered(line): line for line in actual}
    expected = []
    for number, line in jsonl.rows(file.read_text(encoding="utf-8")):
        try:
            spelled = jsonl.respelled(line)
        except ValueError as error:
            raise ConfigError(f"{file}:{number}: is no JSON: {error}") from None
        expected.append(made_as.get(_ordered(spelled), spelled))
    return expected


def _ordered(line: str) -> str:
    """Return a line with its keys in order."""
    return jsonl.respelled(line, in_order=True)


def _write(file: Path, actual: list[str]) -> None:
    """Make what is made the expectation."""
    if actual:
        file.write_text("".join(f"{line}\n" for line in actual), encoding="utf-8")
    else:
        file.unlink(missing_ok=True)
