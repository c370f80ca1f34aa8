"""Fixtures that every kind of test uses, and what may run beside each other."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from local import postgres
from local.ports import any_free
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.settings import PROJECT

pytest_plugins = ["tests.spark.session", "tests.service.fixtures"]

# No test depends on speed.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes of `make test` take whole files, and one of them all that share the Spark session."""
    for item in items:
        folder = item.path.parent.name
        own = f"{folder}/{item.path.name}"
        item.add_marker(pytest.mark.xdist_group(folder if folder == "spark" else own))


@pytest.fixture(scope="session", autouse=True)
def _own_ports() -> Iterator[None]:
    """Two processes that look for the first free port at once find the same one, so each begins elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "_PORT", any_free())
        yield


@pytest.fixture(scope="session")
def feed() -> Feed:
    """The feed that the project ships."""
    return load_feeds(PROJECT / "conf" / "feeds", ["transactions"])[0]
