"""What a Java program needs to be told, wherever the project is and whatever the locale. Only the standard library."""

from __future__ import annotations

import locale
import os
from contextlib import suppress
from pathlib import Path

_UTF8 = ("C.UTF-8", "en_US.UTF-8")


def environment() -> dict[str, str]:
    """Return the variables by which Java takes paths for UTF-8, and letters for those of no language.

    In the locale C it reads no path with other letters than ASCII's; in a Turkish one I is the capital of another i.
    """
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        for name in _UTF8:
            with suppress(locale.Error):
                locale.setlocale(locale.LC_CTYPE, name)
                return {"LC_ALL": name}
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return {}


def unfit(folder: Path, also: str = "") -> str:
    """Return a sign of the folder's path with which no Java program can run from there, one of `also` too; or ""."""
    return next((sign for sign in str(folder) if sign in f"{os.pathsep}\r\n{also}" or "\ud800" <= sign <= "\udfff"), "")


def log_option(configuration: Path) -> str:
    """Return the option that names Log4j's configuration, as a URI: of a path it takes some signs for its own."""
    return f"-Dlog4j2.configurationFile={configuration.as_uri()}"
