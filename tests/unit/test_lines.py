"""The line of a key is the line on which it is, of whatever TOML tomllib accepts."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stream_app.feeds.lines import dotted, lines_of
from stream_app.settings import PROJECT

NAMES = st.text("ab-_1", min_size=1, max_size=3) | st.text("a.\"'#=[]{}\\\n é", min_size=1, max_size=4)
# Each says how it is written: with what a reader that looks for signs might trip over.
SCALARS = st.sampled_from(
    [
        "1",
        "-1_000.5e-3",
        "inf",
        "true",
        "1979-05-27 07:32:00.5Z",
        "'[a]'",
        r'"a # \" = \\"',
        '""',
        "''",
        '"""\n[x]\nb = 1 \\"""\n"""""',
        "'''\n# '' }\n'''''",
        '"""\\\n  a"""',
    ]
)
SPACE = st.sampled_from(["", " ", "\t"])
BREAK = st.sampled_from(["", "\n", " # [a] 'b\n", "\r\n\n"])


class Writer:
    """Writes random TOML, and notes where it does."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[str, int] = {}

    def write(self, text: str) -> None:
        self.text += text

    def note(self, path: tuple[str | int, ...]) -> None:
        for end in range(1, len(path) + 1):
            self.lines.setdefault(dotted(path[:end]), self.text.count("\n") + 1)

    def space(self) -> None:
        self.write(self.draw(SPACE))

    def key(self, parts: tuple[str, ...]) -> None:
        for i, part in enumerate(parts):
            if i:
                self.space()
                self.write(".")
                self.space()
            bare = part.replace("-", "").replace("_", "").isalnum() and part.isascii()
            literal = "'" not in part and "\n" not in part
            forms = [json.dumps(part), *([part] if bare else []), *([f"'{part}'"] if literal else [])]
            self.write(self.draw(st.sampled_from(forms)))

    def pairs(self, path: tuple[str | int, ...], depth: int, end: str) -> None:
        names = self.draw(st.lists(NAMES, max_size=3, unique=True))
        for i, name in enumerate(names):
            parts = (name, *self.draw(st.lists(NAMES, max_size=1)))
            self.note((*path, *parts))
            self.key(parts)
            self.space()
            self.write("=")
            self.space()
            self.value((*path, *parts), depth)
            self.space()
            self.write(end if i < len(names) - 1 or end == "\n" else "")

    def value(self, path: tuple[str | int, ...], depth: int) -> None:
        kind = self.draw(st.sampled_from(["scalar", "array", "table"] if depth else ["scalar"]))
        if kind == "scalar":
            self.write(self.draw(SCALARS))
        elif kind == "table":
            self.write("{ ")
            self.pairs(path, depth - 1, ", ")
            self.write("}")
        else:
            self.write("[")
            for i in range(self.draw(st.integers(0, 3))):
                self.write(self.draw(BREAK))
                self.note((*path, i))
                self.value((*path, i), depth - 1)
                self.write(self.draw(BREAK))
                self.write(",")
            self.write(self.draw(BREAK))
            self.write("]")

    def file(self) -> None:
        self.pairs((), 2, "\n")
        for name in self.draw(st.lists(NAMES, max_size=3, unique=True)):
            path: tuple[str | int, ...] = ("tables", name)
            self.write(self.draw(BREAK) if self.text.endswith("\n") or not self.text else "\n")
            arrays = self.draw(st.integers(0, 2))
            for i in range(max(arrays, 1)):
                self.note((*path, i) if arrays else path)
                self.write("[[" if arrays else "[")
                self.space()
                self.key(("tables", name))
                self.space()
                self.write("]]" if arrays else "]")
                self.write(" # [x]\n")
                self.pairs((*path, i) if arrays else path, 2, "\n")
                within = (*path, i, "ŝub") if arrays else (*path, "ŝub")
                self.note(within)
                self.write("[")
                self.key(("tables", name, "ŝub"))
                self.write("]\n")
                self.pairs(within, 1, "\n")


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    writer = Writer(draw)
    writer.file()
    return writer.text, writer.lines


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[str]:
    if path:
        yield dotted(path)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in items:
        yield from paths(one, (*path, name))


@given(documents())
def test_each_key_that_tomllib_reads_is_on_its_line(document: tuple[str, dict[str, int]]) -> None:
    text, lines = document
    read = tomllib.loads(text)
    found = lines_of(text)
    assert {*found} == {*paths(read)}
    assert found == lines


def test_each_key_of_a_shipped_feed_is_found_on_its_line() -> None:
    for file in (PROJECT / "conf" / "feeds").glob("*.toml"):
        text = file.read_text()
        lines = lines_of(text)
        assert {*lines} == {*paths(tomllib.loads(text))}
        rows = text.splitlines()
        assert all(key.rpartition(".")[2] in rows[line - 1] for key, line in lines.items() if not key[-1].isdigit())
