"""Feed files are read and checked here: each is a Feed, or all that is wrong with it, by file, line and key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from stream_app.errors import ConfigError
from stream_app.feeds.aggregates import Problem
from stream_app.feeds.feed import Feed, InconsistentError, path_line
from stream_app.feeds.lines import dotted, lines_of
from stream_app.feeds.parts import IDENTIFIER, quoted
from stream_app.feeds.sinks import MOVED, moved

_PLAIN = {"extra_forbidden": "unknown key", "missing": "is missing", "too_short": "is empty"}
_SYNTAX = re.compile(r"(.*) \(at (?:line ([0-9]+), column [0-9]+|end of document)\)", re.DOTALL)
_LAST_NAME = re.compile(r'\.?("(?:[^"\\]|\\.)*"|[^."]+)$')


@dataclass(frozen=True)
class Mistake:
    """One mistake of a feed file; as text, one line for people and editors: `path:line: key: problem`."""

    file: Path
    line: int | None
    """None where no line has it: of a file that is not there, and of a key that is missing at the root."""
    key: str
    """As TOML writes it; "" for the file as a whole."""
    problem: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.key}: {self.problem}" if self.key else f"{place}: {self.problem}"


Check = Callable[[Feed, Sequence[Feed]], Iterable[Problem]]
"""Yields what is wrong with a feed beside what its parts say, and with it beside others (sinks/registry.py)."""


def load_feeds(directory: Path, names: Sequence[str], check: Check = lambda *_: ()) -> tuple[Feed, ...]:
    """Return the feed of <directory>/<name>.toml for every name, in the order given.

    Raises ConfigError, one line with each mistake that `read_feeds` finds.
    """
    feeds, mistakes = read_feeds(directory, names, check)
    if mistakes:
        raise ConfigError("; ".join(map(str, mistakes)))
    return feeds


def read_feeds(
    directory: Path, names: Sequence[str], check: Check = lambda *_: ()
) -> tuple[tuple[Feed, ...], tuple[Mistake, ...]]:
    """Return the feeds of the files that have no mistake, and all mistakes of all files.

    A mistake is a file that is missing, not TOML or against the vocabulary. So is an unsafe or repeated name, no name
    at all, two feeds on one topic, and what `check` finds.
    """
    if not names:
        return (), (Mistake(directory, None, "", f"no feed is named; there are: {_existing(directory)}"),)
    if not directory.is_dir():
        return (), (Mistake(directory, None, "", "is no folder; FEEDS_PATH names that of the feed files"),)
    read = _Read(directory, check)
    for name in names:
        read.add(name)
    return tuple(read.feeds), tuple(read.mistakes)


class _Read:
    """The files read so far."""

    def __init__(self, directory: Path, check: Check) -> None:
        self.feeds: list[Feed] = []
        self.mistakes: list[Mistake] = []
        self._directory = directory
        self._check = check
        self._names: set[str] = set()

    def add(self, name: str) -> None:
        """Read one more."""
        path = self._directory / f"{name}.toml"
        if not IDENTIFIER.fullmatch(name):  # it becomes a folder of outputs and a part of names
            problem = f"unsafe feed name {quoted(name)}, it must match {IDENTIFIER.pattern}"
            self.mistakes.append(Mistake(self._directory, None, "", problem))
            return
        if name in self._names:
            self.mistakes.append(Mistake(path, None, "", "the feed is named twice"))
            return
        self._names.add(name)
        try:
            text = path.read_text(encoding="utf-8-sig")
            declared = tomllib.loads(text, parse_float=Decimal)
        except FileNotFoundError:
            problem = f"there is no such feed; there are: {_existing(self._directory)}"
            self.mistakes.append(Mistake(path, None, "", problem))
        except OSError as error:
            self.mistakes.append(Mistake(path, None, "", f"cannot be read: {error.strerror}"))
        except (ValueError, RecursionError) as error:  # not UTF-8, not TOML
            syntax = _SYNTAX.fullmatch(str(error))
            line = int(syntax[2]) if syntax and syntax[2] else None
            self.mistakes.append(Mistake(path, line, "", syntax[1] if syntax and line else str(error)))
        else:
            feed, problems = checked(name, declared)
            if feed:
                problems += [problem for other in self.feeds for problem in _between(feed, other)]
                problems += self._check(feed, self.feeds)
            lines = lines_of(text) if problems else {}
            self.mistakes += [Mistake(path, _line(lines, key), key, problem) for key, problem in problems]
            if feed:
                self.feeds.append(feed)


def checked(name: str, declared: Mapping[str, Any]) -> tuple[Feed | None, list[Problem]]:
    """Return the feed that a file declares, or None and everything that is wrong with it."""
    own = [("name", "unknown key, the file's name is the feed's")] if "name" in declared else []
    own += moved(declared)
    declared = {part: keys for part, keys in declared.items() if part not in MOVED}
    try:
        feed = Feed.model_validate({**declared, "name": name})
    except ValidationError as error:
        problems = list(problems_of(error))
        if not isinstance(_cause(error.errors()[0]), InconsistentError):
            problems += _elsewhere(name, declared)
        return None, own + problems
    return (None, own) if own else (feed, [])


def _elsewhere(name: str, declared: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what does not fit together among the parts that are well-formed; pydantic looks once all are.

    What names a part that is not well-formed waits for that.
    """
    sound: dict[str, Any] = {"name": name, "topic": "", "fields": {}}
    ill: set[str] = set()
    for part, field in Feed.model_fields.items():
        kind: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
        given = {part: declared[part]} if part in declared else {}
        has_names = get_origin(field.annotation) is dict and isinstance(given.get(part), dict)
        for key, one in given[part].items() if has_names else given.items():
            try:
                valid = kind.validate_python({key: one} if has_names else one)
            except ValidationError:
                ill.add(key)
            else:
                sound[part] = sound.get(part, {}) | valid if has_names else valid
    for key, problem in Feed.model_construct(_fields_set={*sound}, **sound).problems():
        if not ill & set(re.findall(r"\w+", problem)):
            yield key, problem


def _between(feed: Feed, other: Feed) -> Iterator[Problem]:
    """Yield what two feeds cannot both have; the problems are the first one's."""
    if other.topic == feed.topic:
        yield "topic", f"{quoted(feed.topic)} is {other.name}'s too"


def problems_of(error: ValidationError) -> Iterator[Problem]:
    """Yield each mistake that pydantic has found."""
    for mistake in error.errors(include_url=False):
        yield from _problems(mistake)


def _problems(mistake: ErrorDetails) -> Iterator[Problem]:
    cause = _cause(mistake)
    if isinstance(cause, InconsistentError):
        yield from cause.problems
    else:
        path = [part for part in mistake["loc"] if part != "[key]"]
        problem = _PLAIN.get(mistake["type"]) or str(cause or mistake["msg"])
        if path[0] == "fields" and path[-1] == "wire" and mistake["type"] == "extra_forbidden":
            problem = f"is called path now; write {path_line((str(mistake['input']),))}"
        yield dotted(path), problem


def _cause(mistake: ErrorDetails) -> object:
    return mistake.get("ctx", {}).get("error")


def _line(lines: Mapping[str, int], key: str) -> int | None:
    """Return the line of a key, or of the nearest table around it that the file has."""
    while key and key not in lines:
        key = _LAST_NAME.sub("", key)
    return lines.get(key)


def _existing(directory: Path) -> str:
    return ", ".join(feeds_in(directory)) or "none"


def feeds_in(directory: Path) -> list[str]:
    """Return the names of all feed files of a folder, in order."""
    return sorted(path.stem for path in directory.glob("*.toml"))
