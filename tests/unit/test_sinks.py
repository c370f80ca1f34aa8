"""What a feed file may say of its sinks: any kind takes any dataset that it can hold, and all else is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stream_app.admission import undeclared
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.feeds.sinks import SinkTable
from stream_app.flows.flow import Flow
from stream_app.layers.registry import datasets
from stream_app.settings import PROJECT
from stream_app.sinks.protocol import sink_of
from stream_app.sinks.registry import SINKS, check, flows, topics
from tests.helpers import flow_of

ACTIVITY = load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])[0]
DATASETS = [*datasets(ACTIVITY)]
KEYS: dict[str, dict[str, str]] = {"kafka": {"topic": "out"}, "postgres": {"table": "t"}}


def with_sinks(feed: Feed, **sinks: dict[str, Any]) -> Feed:
    """The feed with these sinks and no others."""
    return feed.model_copy(update={"sinks": {name: SinkTable.model_validate(one) for name, one in sinks.items()}})


def problems(feed: Feed, **sink: Any) -> dict[str, str]:
    return dict(check(with_sinks(feed, x=sink)))


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("kind", SINKS)
def test_any_kind_takes_any_dataset(kind: str, dataset: str, tmp_path: Path) -> None:
    feed = with_sinks(ACTIVITY, x={"of": dataset, "to": kind, **KEYS.get(kind, {})})
    flow = flow_of(feed, "x", tmp_path)
    own = flow_of(feed, dataset, tmp_path)
    assert flow.upstream == (own.upstream if flow.derives else own)
    assert flow in (flow.upstream.downstream if flow.upstream else [])


def test_only_a_table_of_what_has_open_rows_has_a_query_of_its_own() -> None:
    sinks = {f"{kind}_{of}": {"of": of, "to": kind, **KEYS.get(kind, {})} for kind in SINKS for of in DATASETS}
    derived = {name for name, keys in sinks.items() if flow_of(with_sinks(ACTIVITY, x=keys), "x", Path()).derives}
    assert derived == {f"postgres_{name}" for name in (*ACTIVITY.windows, *ACTIVITY.sessions)}


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such dataset": ({"of": "golden", "to": "csv"}, "sinks.x.of", '"golden" is none of bronze, quarantine, silver'),
    "no such kind": (
        {"of": "silver", "to": "kafkaa"},
        "sinks.x.to",
        '"kafkaa" is none of csv, lake, delta, kafka, postgres',
    ),
    "unknown key": ({"of": "silver", "to": "csv", "dates": "1 day"}, "sinks.x.dates", "unknown key"),
    "missing key": ({"of": "silver", "to": "kafka"}, "sinks.x.topic", "is missing"),
    "bad duration": ({"of": "silver", "to": "lake", "dates": "soon"}, "sinks.x.dates", "is not a duration"),
    "no such column": (
        {"of": "gold", "to": "kafka", "topic": "t", "key": "user_id"},
        "sinks.x.key",
        '"user_id" is not a column of gold',
    ),
    "a key twice": (
        {"of": "gold", "to": "kafka", "topic": "t", "key": ["card_id", "card_id"]},
        "sinks.x.key",
        "names a column twice",
    ),
    "no key": ({"of": "gold", "to": "kafka", "topic": "t", "key": []}, "sinks.x.key", "is empty"),
    "a nested header": (
        {"of": "quarantine", "to": "kafka", "topic": "t", "headers": ["reasons"]},
        "sinks.x.headers",
        "reasons is a array<string>, of which no text can be made",
    ),
    "its own topic": ({"of": "silver", "to": "kafka", "topic": "transactions"}, "sinks.x.topic", "what it writes"),
    "the service's table": ({"of": "gold", "to": "postgres", "table": "stream_app_batches"}, "sinks.x.table", "keeps"),
    "PostgreSQL's table": ({"of": "gold", "to": "postgres", "table": "pg_x"}, "sinks.x.table", "pg_"),
}


@pytest.mark.parametrize(("keys", "key", "problem"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_names_its_key(feed: Feed, keys: dict[str, Any], key: str, problem: str) -> None:
    found = problems(feed, **keys)
    assert [*found] == [key]
    assert problem in found[key]


def test_columns_that_a_sink_adds_or_cannot_have_are_refused(feed: Feed) -> None:
    columns = {"event_date": "lake", "processing_time": "kafka", "xmin": "postgres", "ctid": "postgres"}
    for column, kind in columns.items():
        other = feed.model_copy(update={"fields": feed.fields | {column: feed.fields["city"]}})
        assert column in problems(other, of="silver", to=kind, **KEYS.get(kind, {}))["sinks.x.of"]
        assert problems(other, of="silver", to="csv") == {}


def test_no_two_sinks_have_one_table(feed: Feed) -> None:
    table = {"of": "gold", "to": "postgres", "table": "t"}
    twice = with_sinks(feed, x=table, y=table)
    assert dict(check(twice)) == {"sinks.y": "sinks.x has the table t already"}
    one = with_sinks(feed, x=table)
    other = one.model_copy(update={"name": "other", "topic": "other"})
    with pytest.raises(ConfigError, match=r"^other: sinks\.x: transactions has the table t already$"):
        flows([one, other], Path())


def test_topics_that_are_written_must_exist_too(feed: Feed) -> None:
    assert topics([with_sinks(feed, x={"of": "gold", "to": "kafka", "topic": "t"})]) == {"transactions", "t"}


def test_a_csv_of_before_does_not_end_without_a_word(feed: Feed, tmp_path: Path) -> None:
    mirror = flow_of(feed, "raw_csv", tmp_path)
    bronze, without = (flow_of(one, "bronze", tmp_path) for one in (feed, with_sinks(feed)))
    assert list(undeclared.inspect(without)) == []
    mirror.layout.output.mkdir(parents=True)
    mirror.layout.owner.write_text("{}")
    assert list(undeclared.inspect(bronze)) == []
    (refusal,) = undeclared.inspect(without)
    assert 'add [sinks.raw_csv] of = "silver", to = "csv" to go on with it' in refusal.sentence


def test_every_kind_says_its_guarantee(feed: Feed) -> None:
    def guarantees(flow: Flow) -> str:
        return str(sink_of(flow).guarantee)

    made = flows([ACTIVITY, feed], Path())
    assert {guarantees(flow) for flow in made} == {"exactly once", "at least once"}
    assert {flow.name for flow in made if guarantees(flow) == "at least once"} == {"user_activity.enriched_activity"}
