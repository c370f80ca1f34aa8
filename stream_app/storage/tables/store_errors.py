"""What an object store says when something is wrong, as one line that names the setting, bucket and key, and no secret.

obstore and delta-rs are the same client in Rust, and word errors alike. What they quote of a store's answer may have a
session token in it, and a URL a signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

from stream_app.errors import ConfigError, StreamAppError, UnavailableError

_ARROW = re.compile(r"(\x1b\[\d+m)?↳(\x1b\[0m)?")
_OF_A_STORE = re.compile(r"Generic (S3|GCS|MicrosoftAzure|\w+) error|Error performing |HTTP error|object store", re.I)
_REQUEST = re.compile(r"Error performing ([A-Z]+) (https?://\S+)")
_STATUS = re.compile(r"\b([345]\d\d) [A-Z][A-Za-z]+")
_CODE = re.compile(r"<Code>([^<]{1,100})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")
_NO_KEY = {"", "NoSuchKey", "NoSuchVersion", "NotFound", "BlobNotFound", "ResourceNotFound"}
"""What a store says of a missing file; to HEAD it says nothing. Some answer by 404 for other reasons."""
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_NOT_LET_IN = {"InvalidAccessKeyId", "XAdminUserNotFound", "InvalidToken", "ExpiredToken"}
"""What a store may say by another status than 401 and 403."""
# What no later try gets otherwise, whatever the key is.
_REFUSED = {"301", "307", "400", "401", "403", "405", "501"}
_PASSES = {"RequestTimeout"}
# Of several servers, by 400, 403 or 507: as with a full disk, somebody makes room.
_FULL = re.compile(r"Quota|StorageFull|InsufficientStorage|StorageCapExceeded", re.IGNORECASE)
_LONGEST = 400


@contextmanager
def told(named_by: str, location: str, secrets: Iterable[str]) -> Iterator[None]:
    """Raise StreamAppError for what a store of that location did not do; UnavailableError where it may do it later.

    `named_by` is the setting or the key that has the location.

    ConfigError is for what a retry cannot help. FileNotFoundError is left: that one file is not there.
    """
    try:
        yield
    except StreamAppError:
        raise
    except Exception as error:
        said = " ".join(_ARROW.sub(" ", str(error).split("Debug source")[0]).split())
        code = _first(_CODE, said)
        asked = _asked(said)
        if isinstance(error, FileNotFoundError) and code in _NO_KEY and not asked.startswith("P"):  # PUT, POST
            raise FileNotFoundError(2, "is not there", _without(asked or location, secrets)) from None
        if not _OF_A_STORE.search(said):
            raise
        raise _as_ours(f"{named_by}: {location}", said, code, secrets) from None


def _as_ours(place: str, said: str, code: str, secrets: Iterable[str]) -> StreamAppError:
    # a reason behind what was asked: a status may be a part of a URL
    status = _first(_STATUS, _REQUEST.sub("", said))
    asked, message = _asked(said), _first(_MESSAGE, said)
    if not code and not status:
        message = said.rpartition("HTTP error")[2].strip(" :") or said
    answer = " ".join(part for part in (status, code) if part)
    what = ": ".join(part for part in (asked, answer, message) if part)
    problem = f"{place}: {_without(what, secrets)[:_LONGEST]}"
    if code in _NO_BUCKET:
        return ConfigError(f"{problem}; make it, or name another")
    if status == "507" or _FULL.search(code):
        return UnavailableError(f"{problem}; the store is full: make room there, or raise the quota")
    if status in {"401", "403"} or code in _NOT_LET_IN:
        return ConfigError(f"{problem}; look at the credentials: they are wrong, or lack the right")
    if status in _REFUSED and code not in _PASSES:
        return ConfigError(problem)
    return UnavailableError(problem if status else f"{problem}; look at the endpoint, and whether it can be reached")


def _asked(said: str) -> str:
    """Return the method and the URL of the request, without its query, which may be signed."""
    found = _REQUEST.findall(said)[-1:]
    return "".join(f"{method} {url.partition('?')[0]}" for method, url in found)


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        for form in {secret, quote(secret, safe="")} - {""}:
            text = text.replace(form, "***")
    return text
