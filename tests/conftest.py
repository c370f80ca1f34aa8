"""Fixtures that every kind of test uses."""

import gc
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import ports, postgres
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.settings import PROJECT
from tests import examples
from tests.ports import free_port

pytest_plugins = [
    "tests.groups",
    "tests.leftovers",
    "tests.service.fixtures",
    "tests.spark.session",
    "tests.stores",
    "tests.store_servers",
    "tests.service.drained",
    "tests.service.sales",
]

_FAULTS_SECONDS = 4 * 3600
"""For what hangs. Each wait has a deadline of its own, and some tests start a service forty times."""

examples.load_profile()

# A shell that starts make in the background has it ignore Ctrl-C's signal, and all that it starts, as the programs
# that are tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.faults)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(_FAULTS_SECONDS))


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of each search for garbage: half of the time that these take."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_ports() -> Iterator[None]:
    """The local stack's servers have ports that nobody else is given, so that two processes of tests never meet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "_PORT", free_port())
        patch.setattr(ports, "any_free", free_port)
        yield


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    """A folder of feed files that a test may change."""
    return Path(shutil.copytree(PROJECT / "conf" / "feeds", tmp_path / "feeds"))


@pytest.fixture(scope="session")
def feed() -> Feed:
    """The feed that the project ships."""
    return load_feeds(PROJECT / "conf" / "feeds", ["transactions"])[0]
