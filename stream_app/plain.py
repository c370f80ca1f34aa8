"""Text that others wrote, for a log or a terminal: shown on one line, never obeyed."""

from __future__ import annotations

import unicodedata

_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Control characters, marks of direction, halves of letters, ends of lines."""


def plain(text: object) -> str:
    """Return the text with what a terminal would obey written as escapes, as Python writes them."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        sign.encode("unicode_escape").decode() if unicodedata.category(sign) in _OBEYED else sign for sign in shown
    )
