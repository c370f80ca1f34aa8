"""Lineage: what the feed files declare, by column. Every column is made of columns that there are, or of none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_app.feeds.load import feeds_in
from stream_app.ops.lineage import Edge, Lineage, lineage, mermaid
from stream_app.settings import PROJECT
from stream_app.sinks.registry import load_flows
from tests.unit.conftest import Cli
from tests.unit.served import served

FEEDS = PROJECT / "conf" / "feeds"


def of(*feeds: str, root: Path = Path("/out")) -> Lineage:
    return lineage(load_flows(FEEDS, feeds, root))


def edge(found: Lineage, source: str, target: str) -> Edge:
    return next(one for one in found.edges if (one.source, one.target) == (source, target))


def made_of(found: Lineage, source: str, target: str, column: str) -> list[tuple[str, str, str]]:
    return [(one.column, one.how, one.by) for one in edge(found, source, target).columns.get(column, ())]


@pytest.mark.parametrize("feed", feeds_in(FEEDS))
def test_every_column_is_made_of_columns_that_there_are(feed: str) -> None:
    found = of(feed)
    nodes = {node.id: node for node in found.nodes}
    assert [*nodes] == [node.id for node in found.nodes]
    for one in found.edges:
        assert one.columns.keys() <= nodes[one.target].columns.keys(), one
        named = {source.column for sources in (*one.columns.values(), one.decided_by) for source in sources}
        assert named <= nodes[one.source].columns.keys(), one


@pytest.mark.parametrize("feed", feeds_in(FEEDS))
def test_every_kind_says_of_each_of_its_columns_what_it_is_made_of(feed: str) -> None:
    for flow in load_flows(FEEDS, [feed], Path("/out")):
        assert [*flow.kind.origins] == flow.kind.columns.names, flow.name


def test_a_column_is_followed_from_the_topic_to_a_sink() -> None:
    found = of("sales")
    assert made_of(found, "topic:ventes_stream", "sales.bronze", "kafka_ts") == [("timestamp", "IDENTITY", "")]
    assert made_of(found, "sales.bronze", "sales.silver", "montant") == [("value", "TRANSFORMATION", "montant")]
    assert made_of(found, "sales.lookups.produits", "sales.silver", "prix") == [("prix", "IDENTITY", "")]
    assert made_of(found, "sales.bronze", "sales.silver", "prix") == [("value", "JOIN", "produit_id")]
    assert made_of(found, "sales.silver", "sales.ventes_aggreges", "total_montant") == [
        ("montant", "AGGREGATION", "sum")
    ]
    assert made_of(found, "sales.silver", "sales.hourly_sales", "heure") == [("timestamp", "TRANSFORMATION", "window")]
    assert made_of(found, "sales.silver", "sales.ventes_clean", "event_date") == [
        ("timestamp", "TRANSFORMATION", "its date in UTC")
    ]
    assert made_of(found, "sales.bronze", "sales.ventes_raw", "value_text") == [("value", "TRANSFORMATION", "as text")]
    deciding = [(one.column, one.how) for one in edge(found, "sales.silver", "sales.top_produits").decided_by]
    assert deciding == [("produit_nom", "GROUP_BY"), ("montant", "SORT")]
    assert [one.how for one in edge(found, "sales.lookups.clients", "sales.silver").decided_by] == ["FILTER"]


def test_a_sink_has_the_columns_that_its_readers_find() -> None:
    columns = {node.id: [*node.columns] for node in of("user_activity", "sales").nodes}
    assert columns["user_activity.raw_csv"] == [
        column
        for column in columns["user_activity.silver"]
        if column not in {"kafka_ts", "topic", "partition", "offset"}
    ]
    assert columns["user_activity.enriched_activity"][-1] == "processing_time"
    assert columns["user_activity.postgres_user_sessions"][-1] == "final"
    assert columns["sales.hourly_sales"][-1] == "final"
    assert columns["user_activity.lake"][-1] == "event_date"


def test_a_topic_that_one_feed_writes_and_another_reads_joins_them(tmp_path: Path) -> None:
    (tmp_path / "user_activity.toml").write_text((FEEDS / "user_activity.toml").read_text())
    text = (FEEDS / "transactions.toml").read_text()
    (tmp_path / "transactions.toml").write_text(text.replace('"transactions"', '"enriched_activity"', 1))
    found = lineage(load_flows(tmp_path, ["user_activity", "transactions"], Path("/out")))
    assert [one.id for one in found.nodes].count("topic:enriched_activity") == 1
    ends = [(one.source, one.target) for one in found.edges if "topic:enriched_activity" in (one.source, one.target)]
    assert ends == [
        ("user_activity.enriched_activity", "topic:enriched_activity"),
        ("topic:enriched_activity", "transactions.bronze"),
    ]


def test_mermaid_has_each_node_and_each_edge_once() -> None:
    found = of("transactions", "sales")
    lines = mermaid(found).splitlines()
    assert lines[0] == "flowchart LR"
    assert sum(" --> " in line for line in lines) == len(found.edges)
    for node in found.nodes:
        assert sum(f'"{node.name}<br>' in line for line in lines) == sum(one.name == node.name for one in found.nodes)
    assert sum(line.strip() == "end" for line in lines) == sum("subgraph" in line for line in lines) == 2


def test_the_command_and_the_api_tell_the_same(cli: Cli, tmp_path: Path) -> None:
    done = cli(tmp_path, "lineage", "--format=json", FEEDS="transactions,sales")
    assert (done.code, done.err) == (0, "")
    with served(tmp_path, service={"feeds": ("transactions", "sales")}) as client:
        assert client.get("/api/lineage").json() == json.loads(done.out)
        only = client.get("/api/lineage?feed=sales").json()
        assert {node["feed"] for node in only["nodes"]} == {"", "sales"}
        assert client.get("/api/lineage?feed=nobody").status_code == 404
    shown = cli(tmp_path, "lineage", "--feed=sales")
    assert shown.out.startswith("flowchart LR\n")
