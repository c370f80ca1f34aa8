"""Which tests go to the same one of the three processes of `make test`, and which of them come first.

A file's tests share what they set up, and so do all of tests/service (one run of the service), and tests/spark with
tests/sinks (one session). xdist's own `--dist=loadgroup` sends each test alone with pytest 9.2, and says nothing
(pytest-xdist issue 1386), so both runs were made twice.
"""

from __future__ import annotations

from pathlib import PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling

_SHARED = {"service": "service", "spark": "spark", "sinks": "spark"}
"""The group of a whole folder."""


def group_of(nodeid: str) -> str:
    """Return the group of the test: its folder, or its file."""
    path = PurePath(nodeid.partition("::")[0])
    return _SHARED.get(path.parent.name, f"{path.parent.name}/{path.name}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Return what sends a group to a process as a whole, and the next one when that is nearly done."""
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = group_of
    return scheduler


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest groups first, so that the processes end at about the same time."""
    longest = [*dict.fromkeys(_SHARED.values())]
    items.sort(key=lambda item: longest.index(group) if (group := group_of(item.nodeid)) in longest else len(longest))
