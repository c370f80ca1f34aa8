"""Values that JSON has no type for and people send as text: UUIDs, bytes, numbers. Pure."""

from __future__ import annotations

import binascii
import re

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.plainly import read_all
from stream_app.contract.wire import Number

_HEX = "[0-9a-fA-F]"
UUID_SPELLING = f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
_UUID = re.compile(UUID_SPELLING)
NUMBER_SPELLING = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(NUMBER_SPELLING)


def uuid_of(text: str) -> str | None:
    """Return a UUID of any version in its canonical form, lower case; None for any other text.

    Upper case is read. Braces, `urn:uuid:` and digits without hyphens are not.
    """
    return text.lower() if _UUID.fullmatch(text) else None


def uuid_of_all(texts: pa.Array) -> pa.Array:
    """Return `uuid_of` each text, null for None."""
    return read_all(texts, pa.string(), [(rf"\A{UUID_SPELLING}\z", pc.ascii_lower)], uuid_of)


def bytes_of(text: str) -> bytes | None:
    """Return what a text of standard base64 holds, with its padding and nothing beside it; None for any other text.

    msgspec's own decoder of bytes takes the same texts.
    """
    if len(text) % 4 or text.endswith("==="):  # binascii takes padding after a whole group
        return None
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error, or a character that is not ASCII
        return None


def number_of(text: str) -> Number | None:
    """Return a number that was sent as text, spelled as JSON spells numbers; None for any other text."""
    return Number(text) if _NUMBER.fullmatch(text) else None
