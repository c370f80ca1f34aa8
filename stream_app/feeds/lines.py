"""Which line of a TOML file a key is on: tomllib tells values alone, and people look for the line. Pure.

It reads what tomllib has accepted, and of that only where tables, keys and elements begin.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence

Names = tuple[str, ...]
"""The names from the root of the file to a key; an element of an array has its number as name, from 0."""

_TOKEN = re.compile(
    r"""
    (?P<space> [ \t\r]+ | \#[^\n]* )
    | (?P<newline> \n )
    | (?P<text>
        \"\"\" (?: \\. | [^\\] )*? \"\"\" "{0,2}    # two quotes may be a text's last letters
        | ''' .*? ''' '{0,2}
        | " (?: \\. | [^"\\] )* "
        | ' [^']* '
    )
    | (?P<sign> [\[\]{}=,.] )
    | (?P<word> [^\s\[\]{}=,.\#"']+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dotted(path: Sequence[str | int]) -> str:
    """Return a path as TOML writes it: windows.gold, windows."a b"."""
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in map(str, path))


def lines_of(text: str) -> dict[str, int]:
    """Return the line, from 1, on which each table, key and element first appears, by its dotted path.

    text: TOML that tomllib accepts; of anything else the result means nothing, and may never come.
    """
    found: dict[str, int] = {}
    for path, line in _Reader(text).paths():
        for end in range(1, len(path) + 1):
            found.setdefault(dotted(path[:end]), line)
    return found


class _Reader:
    """Walks over the tokens of a file once."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._elements: dict[Names, int] = {}
        """How many elements an array of tables has so far."""

    def paths(self) -> Iterator[tuple[Names, int]]:
        """Yield the path and the line of everything that the file declares, in its order."""
        table: Names = ()
        while self._skip_newlines():
            if self._take("["):
                is_array, line = self._take("["), self._line
                table = self._resolved(self._key())
                if is_array:
                    number = self._elements.get(table, 0)
                    self._elements[table] = number + 1
                    table = (*table, str(number))
                yield table, line
                while self._take("]"):
                    pass
            else:
                yield from self._pair(table)

    def _pair(self, table: Names) -> Iterator[tuple[Names, int]]:
        line, path = self._line, (*table, *self._key())
        yield path, line
        self._take("=")
        yield from self._value(path)

    def _value(self, path: Names) -> Iterator[tuple[Names, int]]:
        if self._take("["):
            number = 0
            while self._skip_newlines() and not self._take("]"):
                yield (*path, str(number)), self._line
                yield from self._value((*path, str(number)))
                self._skip_newlines()
                self._take(",")
                number += 1
        elif self._take("{"):
            while self._skip_newlines() and not self._take("}"):
                yield from self._pair(path)
                self._skip_newlines()
                self._take(",")
        else:
            while self._kind not in {"newline", ",", "]", "}", ""}:
                self._at += 1

    def _key(self) -> Names:
        parts = []
        while self._kind in {"word", "text", "."}:
            kind, token, _ = self._tokens[self._at]
            if kind != ".":
                parts.append(token if kind == "word" else tomllib.loads(f"key = {token}")["key"])
            self._at += 1
        return tuple(parts)

    def _resolved(self, key: Names) -> Names:
        """Return the path of a table's header, which leaves out that it means the last element of an array."""
        path: Names = ()
        for part in key[:-1]:
            path = (*path, part)
            if path in self._elements:
                path = (*path, str(self._elements[path] - 1))
        return (*path, *key[-1:])

    @property
    def _kind(self) -> str:
        """The kind of the next token, a sign itself; "" at the end."""
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    @property
    def _line(self) -> int:
        return self._tokens[min(self._at, len(self._tokens) - 1)][2]

    def _take(self, sign: str) -> bool:
        """Step over the next token if it is that sign."""
        is_it = self._kind == sign
        self._at += is_it
        return is_it

    def _skip_newlines(self) -> bool:
        """Step over newlines; whether anything follows."""
        while self._take("newline"):
            pass
        return self._kind != ""


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield (kind, text, line) of each token; the kind of a sign is the sign."""
    line = 1
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup or "", match[0]
        if kind != "space":
            yield (token if kind == "sign" else kind), token, line
        line += token.count("\n")
