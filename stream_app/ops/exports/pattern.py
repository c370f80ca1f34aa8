"""A `pattern` of a feed file, which is RE2's, as JSON Schema has patterns, which are ECMAScript's."""

from __future__ import annotations

import re

_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
_ESCAPES, _SYNTAX = frozenset("tnrf"), frozenset(r"^$\.*+?()[]{}|/")
"""What ECMAScript takes behind a backslash, with its flag u; other signs are themselves there."""
_GROUP_OR_COUNT = re.compile(r"\((?:\?:|(?!\?))|\{[0-9]+(?:,[0-9]*)?\}")


def ecma(pattern: str) -> str | None:
    """Return a pattern that takes the same texts in ECMAScript; None where it has what only RE2 has, or reads so.

    A dot and the class of blanks are of other characters there, so they are spelled out.
    """
    parts, at = [], 0
    while at < len(pattern):
        part, at = _part(pattern, at)
        if part is None:
            return None
        parts.append(part)
    found = f"^(?:{''.join(parts)})$"
    try:
        re.compile(found)
    except re.error:  # as of {2}{3}, which RE2 takes
        return None
    return found


def _part(pattern: str, at: int) -> tuple[str | None, int]:
    """Return one part of a pattern as ECMAScript has it, or None, and where the next begins."""
    sign = pattern[at]
    if sign == "[":
        return _class(pattern, at)
    if sign == "\\":
        return _escape(pattern, at, in_class=False)
    if found := _GROUP_OR_COUNT.match(pattern, at):
        return ("(?:" if sign == "(" else found[0]), found.end()
    if sign in "({^$}]" or not _is_plain(sign):  # some begin what only RE2 has
        return None, at
    return r"[^\n]" if sign == "." else sign, at + 1


def _class(pattern: str, at: int) -> tuple[str | None, int]:
    parts, at = ["["], at + 1
    if pattern[at : at + 1] == "^":
        parts, at = ["[^"], at + 1
    first = at
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        sign = pattern[at]
        if sign in "[]" or not _is_plain(sign):
            return None, at  # as [[:alpha:]], or what ECMAScript would take for the end
        part, at = _escape(pattern, at, in_class=True) if sign == "\\" else (sign, at + 1)
        is_shorthand = part in _CLASSES.values()
        if part is None or (is_shorthand and "-" in (parts[-1], pattern[at : at + 1])):  # it would be another range
            return None, at
        parts.append(part)
    return "".join([*parts, "]"]), at + 1


def _escape(pattern: str, at: int, *, in_class: bool) -> tuple[str | None, int]:
    sign = pattern[at + 1 : at + 2]
    if sign in _CLASSES:
        return _CLASSES[sign] if in_class else f"[{_CLASSES[sign]}]", at + 2
    if sign and sign.lower() in _CLASSES and not in_class:
        return f"[^{_CLASSES[sign.lower()]}]", at + 2
    if sign in _ESCAPES or sign in _SYNTAX or (sign == "-" and in_class):
        return f"\\{sign}", at + 2
    return (
        (sign, at + 2) if sign.isascii() and sign.isprintable() and not (sign.isalnum() or sign == "_") else (None, at)
    )


def _is_plain(sign: str) -> bool:
    """Whether a character is one in both, and of one code unit in ECMAScript."""
    return sign.isprintable() and ord(sign) < 0xD800
