"""The few errors that the service raises on purpose; each is one line on stderr and a documented exit code.

Bad records are data and never raise. Anything that is not a StreamAppError is a bug.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StreamAppError(Exception):
    """Expected trouble. The message says what is wrong and what to do or type; the process exits with 1."""

    exit_code = 1


class UnavailableError(StreamAppError):
    """Something that a sink needs is away for now; it is tried again, for as long as it takes."""


class ConfigError(StreamAppError):
    """A setting, a feed file or the state on disk refuses the start, and a retry cannot help; exit 2."""

    exit_code = 2


_NO_ROOM_OR_RIGHT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
# What the path itself is wrong by: a file where a folder is meant, a link to itself, a name too long.
_NO_PLACE = {errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}


@contextmanager
def no_room_is_expected(root: Path, setting: str = "OUTPUT_PATH") -> Iterator[None]:
    """Raise StreamAppError instead of OSError where a setting's folder has no room, gives no right, or is none."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM_OR_RIGHT | _NO_PLACE:
            raise
        raise StreamAppError(f"{setting}: {error.filename or root}: {error.strerror}") from None
