"""What every sink promises, of a table in an object store: the steps by which a store differs from a disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stream_app.errors import ConfigError
from tests.sinks import test_conformance
from tests.sinks.conftest import Target
from tests.sinks.test_conformance import batch, check
from tests.stores import Bucket

Targets = Callable[..., Target]

test_deaths = test_conformance.test_a_death_at_each_point_loses_and_doubles_nothing
test_growth = test_conformance.test_a_dataset_that_has_grown_goes_on_where_it_was
test_reset = test_conformance.test_a_sink_that_is_reset_is_written_again_from_the_start


@pytest.fixture
def target(target_of: Targets, bucket: Bucket) -> Target:
    """A table in a bucket of its own."""
    return target_of("delta", bucket=bucket)


def test_a_second_service_is_refused_and_a_reset_lets_it_have_the_table(
    target: Target, target_of: Targets, bucket: Bucket, tmp_path: Path
) -> None:
    second = target_of("delta", root="another", bucket=bucket)
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
