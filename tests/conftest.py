"""Fixtures that every kind of test uses."""

import pytest

from stream_app.feed import Feed, load_feeds
from stream_app.settings import PROJECT


@pytest.fixture(scope="session")
def feed() -> Feed:
    """The feed that the project ships."""
    return load_feeds(PROJECT / "conf" / "feeds", ["transactions"])[0]
