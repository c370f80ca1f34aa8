"""Fixtures that every kind of test uses, and what may run beside each other."""

import signal
from collections.abc import Iterator

import pytest

from local import ports, postgres
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.settings import PROJECT
from tests import examples
from tests.ports import free_port

pytest_plugins = ["tests.leftovers", "tests.spark.session", "tests.service.fixtures", "tests.service.drained"]

examples.load_profile()

# A shell that starts make in the background has it ignore Ctrl-C's signal, and all that it starts, as the programs
# that are tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the two processes of `make test` take whole files, and one of them all that share a costly fixture.

    The longest come first, so that the processes end at about the same time.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.faults)
    items.sort(key=lambda item: _FIRST.get(_group(item), len(_FIRST)))


_FIRST = {"drained": 0, "spark": 1}


def _group(item: pytest.Item) -> str:
    fixtures = getattr(item, "fixturenames", ())
    shared = next((fixture for fixture in _FIRST if fixture in fixtures), None)
    return shared or f"{item.path.parent.name}/{item.path.name}"


@pytest.fixture(scope="session", autouse=True)
def _own_ports() -> Iterator[None]:
    """The local stack's servers have ports that nobody else is given, so that two processes of tests never meet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "_PORT", free_port())
        patch.setattr(ports, "any_free", free_port)
        yield


@pytest.fixture(scope="session")
def feed() -> Feed:
    """The feed that the project ships."""
    return load_feeds(PROJECT / "conf" / "feeds", ["transactions"])[0]
