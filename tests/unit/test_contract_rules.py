"""Rules are part of the verdict: after the fields, and alike in the definition and in the fast path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.storage.planned import UNBOUNDED
from tests import verdicts
from tests.examples import examples

NOON = 1_795_780_800_000_000  # 2026-11-27T12:00:00Z
DECLARED: dict[str, Any] = {
    "name": "orders",
    "topic": "orders",
    "fields": {
        "id": {"type": "string"},
        "at": {"type": "timestamp", "path": "Zeit"},
        "net": {"type": "decimal(9,2)", "range": [0, 1000]},
        "gross": {"type": "decimal(9,2)", "required": False},
        "code": {"type": "string", "required": False},
        "items": {"type": "array", "element": {"type": "int"}, "required": False},
    },
    "event_time": {"field": "at", "lateness": "1 hour", "future_tolerance": "1 hour"},
    "dedupe": {"key": "id", "within": "1 hour"},
}
RULES = {
    "whole_code": {"check": "code IS NULL OR code::INTEGER > 0"},
    "tax": {"check": "gross >= net"},
    "few_items": {"check": "coalesce(len(items), 0) < 3"},
    "spring": {"check": 'month("at") < 12 AND net < 900'},
}
GOOD: dict[str, Any] = {"id": "a", "Zeit": "2026-11-27T12:00:00Z", "net": 10, "gross": 11.9, "code": "7", "items": [1]}
FEED = Feed.model_validate(DECLARED | {"rules": RULES})
CONTRACT = Contract(FEED)


def record(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"gross": 9.99}, "rule:tax"),
        ({"gross": None}, "rule:tax"),  # null is not true
        ({"code": "seven"}, "rule:whole_code"),  # and neither is what cannot be evaluated
        ({"code": None, "items": None}, ""),
        (
            {"gross": 1, "code": "x", "items": [1, 2, 3], "net": 950},
            "rule:whole_code rule:tax rule:few_items rule:spring",
        ),
        ({"net": -1}, "out_of_range:net"),  # of what net should be, no rule can tell
        ({"net": -1, "code": "x"}, "out_of_range:net rule:whole_code"),
        ({"items": [1, "x"]}, "bad_type:items[]"),
        ({"id": None, "gross": 0}, "missing:id rule:tax"),
        ({"Zeit": "2026-11-27T08:00:00Z", "gross": 0}, "late rule:tax"),
        ({"Zeit": "2026-12-27T12:00:00Z", "gross": 0}, "future rule:tax rule:spring"),
        ({"Zeit": "soon", "net": 950}, "bad_time:Zeit rule:tax"),
    ],
)
def test_rules_come_last_and_only_of_fields_that_are_valid(changes: dict[str, Any], expected: str) -> None:
    verdict = CONTRACT.check(record(**changes), NOON, UNBOUNDED)
    assert " ".join(verdict.reasons if isinstance(verdict, Rejected) else ()) == expected


def test_what_is_no_record_breaks_no_rule() -> None:
    for value, reason in ((None, "empty"), (b"x", "not_json"), (b"[]", "not_object")):
        assert CONTRACT.check(value, NOON, UNBOUNDED) == Rejected((reason,))


def test_a_late_record_that_breaks_a_rule_is_not_forgiven() -> None:
    forgiving = Contract(FEED, forgive=frozenset({"late"}))
    verdict = forgiving.check(record(Zeit="2026-11-27T08:00:00Z", gross=0), NOON, UNBOUNDED)
    assert verdict == Rejected(("rule:tax",))


WARNING = Feed.model_validate(
    DECLARED | {"rules": RULES | {name: RULES[name] | {"severity": "warn"} for name in ("tax", "few_items")}}
)
WARNING_CONTRACT = Contract(WARNING)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"gross": 9.99}, ["tax"]),
        ({"gross": None, "items": [1, 2, 3]}, ["tax", "few_items"]),
        ({"gross": 9.99, "code": "x"}, Rejected(("rule:whole_code",))),
        ({"gross": 9.99, "id": None}, Rejected(("missing:id",))),
    ],
)
def test_a_rule_that_warns_keeps_the_row_and_is_named_in_it(changes: dict[str, Any], expected: Any) -> None:
    assert WARNING_CONTRACT.columns[-1] == "warnings"
    verdict = WARNING_CONTRACT.check(record(**changes), NOON, UNBOUNDED)
    assert (verdict if isinstance(verdict, Rejected) else verdict[-1]) == expected


def test_a_feed_whose_rules_warn_has_a_column_that_others_have_not() -> None:
    assert "warnings" not in FEED.columns
    assert list(WARNING.columns) == [*WARNING.fields, "warnings"]
    of_its_own = {**DECLARED["fields"], "warnings": {"type": "string"}}
    Feed.model_validate(DECLARED | {"fields": of_its_own, "rules": RULES})
    with pytest.raises(ValueError, match=r"fields\.warnings: silver has a column of this name already"):
        Feed.model_validate(DECLARED | {"fields": of_its_own, "rules": {"tax": RULES["tax"] | {"severity": "warn"}}})


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["a", None, 1]),
        "Zeit": st.sampled_from(["2026-11-27T11:59:59Z", "2026-11-27T08:00:00Z", "2026-12-27T12:00:00Z", "soon"]),
        "net": st.sampled_from([0, 10, 950, -1, 12.345, None, "10"]),
        "gross": st.none() | st.sampled_from([0, 10, 1e400, "x"]) | st.decimals(0, 1000, places=2).map(float),
        "code": st.none() | st.sampled_from(["7", "-7", "seven", "", "99999999999", 7]),
        "items": st.none() | st.lists(st.integers(-(2**33), 2**33) | st.none(), max_size=4),
        "extra": st.just(1),
    },
)


@examples(30)
@given(st.booleans(), st.lists(st.none() | CHANGES, max_size=8))
def test_both_ways_evaluate_rules_alike(warns: bool, changes: list[dict[str, Any] | None]) -> None:
    feed, contract = (WARNING, WARNING_CONTRACT) if warns else (FEED, CONTRACT)
    values = [None if one is None else record(**one) for one in changes]
    verdicts.assert_total(feed, contract, values, [NOON] * len(values))
    alone = [contract.check(value, NOON, UNBOUNDED) for value in values]
    assert alone == contract.check_each(values, [NOON] * len(values), [UNBOUNDED] * len(values))


def test_a_feed_without_rules_keeps_its_digest() -> None:
    without = Feed.model_validate(DECLARED)
    assert without.verdict_digest() == Feed.model_validate(DECLARED | {"rules": {}}).verdict_digest()
    digests = {
        Feed.model_validate(DECLARED | {"rules": rules}).verdict_digest()
        for rules in ({}, RULES, {"tax": {"check": "gross > net"}}, {"tax": {"check": "gross >= net"}})
    }
    assert len(digests) == 4


def test_a_mistake_names_feed_key_and_what_duckdb_says(tmp_path: Path) -> None:
    (tmp_path / "orders.toml").write_text(
        """
topic = "orders"
[fields.id]
type = "string"
[fields.at]
type = "timestamp"
[rules.first]
check = "idd = 'x'"
[rules.second]
check = "id > 5 AND random() > 1"
[rules.third]
check = "true"
color = "red"
[event_time]
field = "at"
lateness = "1 hour"
future_tolerance = "1 hour"
[dedupe]
key = "id"
within = "1 hour"
"""
    )
    with pytest.raises(ConfigError) as error:
        load_feeds(tmp_path, ["orders"])
    assert "rules.third.color: unknown key" in str(error.value)
    assert 'rules.first.check: Binder Error: Referenced column "idd" not found' in str(error.value)
    assert "rules.second.check: " in str(error.value)
