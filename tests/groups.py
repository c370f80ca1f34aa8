"""Which tests go to the same one of the three processes of `make test`, and which of them come first.

A file's tests share what they set up. So do the files of tests/service that ask for one of the runs of the service that
`drained` and `shop` are, all of tests/spark and all of tests/sinks, which have a Spark session each. xdist's own
`--dist=loadgroup` sends each test alone with pytest 9.2, and says nothing (pytest-xdist issue 1386), so what is shared
was made twice.
"""

from __future__ import annotations

import re
from functools import cache, partial
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

_SERVICE = "service"
_SHARED = ("spark", "sinks")
"""Folders that are a group each. As one they would be the last to end, with two processes idle beside them."""
_SHARES_A_RUN = re.compile(r"\b(drained|copied|shop)\b")


def group_of(root: Path, nodeid: str) -> str:
    """Return the group of the test: the run or the session that it shares, or its file."""
    return _group_of(root / nodeid.partition("::")[0])


@cache
def _group_of(path: Path) -> str:
    folder = path.parent.name
    if folder == _SERVICE and _SHARES_A_RUN.search(path.read_text()):
        return _SERVICE
    return folder if folder in _SHARED else f"{folder}/{path.name}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Return what sends a group to a process as a whole, and the next one when that is nearly done."""
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = partial(group_of, config.rootpath)
    return scheduler


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest groups first, so that the processes end at about the same time; then what starts a service."""
    first = (_SERVICE, *_SHARED)
    items.sort(key=lambda item: _rank(_group_of(item.path), first))


def _rank(group: str, first: tuple[str, ...]) -> int:
    if group in first:
        return first.index(group)
    return len(first) + (not group.startswith(f"{_SERVICE}/"))
