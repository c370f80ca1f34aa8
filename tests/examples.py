"""How many examples a property is tried with: all of them in `make test-faults`, an eighth in `make test`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

ALL = os.environ.get("EXAMPLES") == "all"
_FEWEST = 10
_OF_SPEED = [HealthCheck.too_slow]


def examples(count: int, *checks: HealthCheck) -> settings:
    """Settings with that many examples, which `make test` tries an eighth of, and without those checks."""
    return settings(max_examples=_tried(count), suppress_health_check=[*_OF_SPEED, *checks])


def load_profile() -> None:
    """Have each property without a number of its own tried a hundred times.

    No example has a deadline, nor has what draws it, as no test depends on speed. `make test` draws the same examples
    each time: its verdict changes with the code alone. `make test-faults` draws others each time.
    """
    settings.register_profile(
        "ours", deadline=None, max_examples=_tried(100), derandomize=not ALL, suppress_health_check=_OF_SPEED
    )
    settings.load_profile("ours")


def _tried(count: int) -> int:
    return count if ALL else max(_FEWEST, count // 8)
