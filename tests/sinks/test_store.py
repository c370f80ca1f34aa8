"""What every sink promises, of a table in an object store: the steps by which a store differs from a disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from tests.sinks import test_conformance
from tests.sinks.conftest import Target
from tests.sinks.test_conformance import batch, check
from tests.stores import Bucket

Targets = Callable[..., Target]


PLACES = ["DELTA_PATH", "location"]
# What takes long is tried of one place, and of the other by `make test-faults`.
FEWER = pytest.mark.parametrize("made", [PLACES[0], pytest.param(PLACES[1], marks=pytest.mark.faults)], indirect=True)


@pytest.fixture(params=PLACES)
def made(request: pytest.FixtureRequest, target_of: Targets, bucket: Bucket) -> Targets:
    """Makes a table in a bucket of the test's own: by DELTA_PATH, or by the `location` of its sink alone."""
    if request.param == "DELTA_PATH":
        return partial(target_of, "delta", bucket=bucket)
    reached = replace(bucket, more={"DELTA_PATH": ""})
    return partial(target_of, "delta", bucket=reached, location=f"{bucket.url}/of/one/")


@pytest.fixture
def target(made: Targets) -> Target:
    """Such a table."""
    return made()


# Of these tests the bodies alone: with their marks the same would be done once for each kind of sink.
@FEWER
def test_deaths(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    test_conformance.test_a_death_at_each_point_loses_and_doubles_nothing(target, monkeypatch)


@FEWER
def test_growth(target: Target, feed: Feed) -> None:
    test_conformance.test_a_dataset_that_has_grown_goes_on_where_it_was(target, feed)


def test_reset(target: Target) -> None:
    test_conformance.test_a_sink_that_is_reset_is_written_again_from_the_start(target)


def test_a_second_service_is_refused_and_a_reset_lets_it_have_the_table(
    target: Target, made: Targets, bucket: Bucket, tmp_path: Path
) -> None:
    second = made(root="another")
    for one in (target, second):
        one.write(batch(0))
    target.drain()
    with pytest.raises(ConfigError, match=r"s3://.* is written by another query.*make reset"):
        second.drain()
    check(target, range(3))
    second.flow.to.drop(second.flow)
    second.drain()
    check(second, range(3))
    target.write(batch(3))
    with pytest.raises(ConfigError, match=r"another query"):
        target.drain()
    assert not list(tmp_path.rglob("part-*.parquet"))
    assert {name.rpartition("/")[0] for name in bucket.names()} >= {f"{where(target)}/_delta_log", where(target)}


def where(target: Target) -> str:
    """The folder of the table in its bucket."""
    return target.sink.place(target.flow).partition("://")[2].partition("/")[2]
