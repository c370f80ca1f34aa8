"""Any name that the grammar allows works in every command, or is refused when the feed file is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.feeds.parts import IDENTIFIER
from stream_app.feeds.sql import name as quoted
from stream_app.feeds.sql import names, view
from stream_app.flows.flow import Flow
from stream_app.ops import replayable, views
from stream_app.ops.quarantine import quarantine
from stream_app.ops.query import query
from stream_app.ops.replay import replay
from stream_app.ops.reset import planned
from stream_app.ops.show import Shown, show
from stream_app.ops.status import status
from stream_app.sinks.protocol import sink_of
from stream_app.sinks.registry import check, flows
from stream_app.sources.layer import _source_of
from stream_app.storage.batch_files import REPLAY, batch_files
from tests import words
from tests.examples import examples
from tests.helpers import Row, app_settings, at, bronze_row, flow_of, write_layer

WORDS = words.words()
# What is refused, by what is so called: each is truly taken, and nothing else is.
COORDINATES = {"kafka_ts", "topic", "partition", "offset"}
SYSTEM = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}
SESSION = {"session_start", "session_end", "duration_seconds", "events", "outcome"}
WINDOW = {"window_start", "window_end"}
SINK = {"bronze", "quarantine", "silver", "late", "late_x"}
ADDED = COORDINATES | WINDOW | {"event_date", "processing_time"}
REFUSED: Mapping[str, set[str]] = {
    "feed": {"information_schema", "memory", "pg_catalog", "system", "temp"},
    "window": SINK,
    "session": SINK,
    "lake": SINK,
    "topic": SINK,
    "table": {"stream_app_batches", "pg_class", "pg_x", "pg_catalog"},
    "measure": WINDOW | SYSTEM | {"final"},
    "id": ADDED,
    "time": ADDED,
    "window key": ADDED | SYSTEM | {"final"},
    "session key": ADDED | SYSTEM | SESSION | {"final"},
    "end": ADDED,
    "number": ADDED,
    "filter": ADDED,
}
ROLES = tuple(REFUSED)
SINKS = ("window", "session", "lake", "topic")
FIELDS = ("id", "time", "window key", "session key", "end", "number", "filter")
HARMLESS = {role: f"harmless_{i}" for i, role in enumerate(ROLES)}


def declaration(role: Mapping[str, str], wires: Mapping[str, str] = {}) -> str:
    """A feed file with each kind of sink, in which each thing has the name of its role."""
    types = {"time": "timestamp", "number": "decimal(18,2)"}
    fields = [
        f"[fields.{role[one]}]\ntype = {json.dumps(types.get(one, 'string'))}\n"
        f"path = [{json.dumps(wires.get(one, f'its {one}'), ensure_ascii=False)}]"
        for one in FIELDS
    ]
    return "\n".join(
        [
            'topic = "in"',
            *fields,
            f'[event_time]\nfield = "{role["time"]}"\nlateness = "1 hour"\nfuture_tolerance = "1 hour"',
            f'[dedupe]\nkey = "{role["id"]}"\nwithin = "1 hour"',
            f'[windows.{role["window"]}]\nkey = "{role["window key"]}"\nwindow = "1 minute"\nwatermark = "1 minute"',
            f'where = {{ {role["filter"]} = "x" }}\nmeasures = {{ {role["measure"]} = "sum({role["number"]})" }}',
            f'[sessions.{role["session"]}]\nkeys = ["{role["session key"]}"]\nends = {{ {role["end"]} = "x" }}',
            'gap = "1 minute"\nwatermark = "1 minute"',
            '[sinks.csv_of_silver]\nof = "silver"\nto = "csv"',
            f'[sinks.{role["lake"]}]\nof = "silver"\nto = "lake"\n[sinks.{role["topic"]}]\nof = "silver"\nto = "kafka"',
            f'topic = "out"\nkey = "{role["window key"]}"\nheaders = ["{role["id"]}"]',
            f'[sinks.of_windows]\nof = "{role["window"]}"\nto = "postgres"\ntable = "{role["table"]}"',
            f'[sinks.of_sessions]\nof = "{role["session"]}"\nto = "postgres"\ntable = "{role["table"][:61]}_2"',
        ]
    )


def key_of(feed: Feed) -> str:
    assert feed.dedupe
    (key,) = feed.dedupe.keys
    return key


def load(folder: Path, role: Mapping[str, str], wires: Mapping[str, str] = {}) -> Feed:
    (folder / f"{role['feed']}.toml").write_text(declaration(role, wires))
    return load_feeds(folder, [role["feed"]], check)[0]


@pytest.mark.parametrize("role", ROLES)
def test_what_is_refused_is_truly_taken_and_a_line_says_by_what(tmp_path: Path, role: str) -> None:
    for word in WORDS:
        roles = HARMLESS | {role: word}
        if word not in REFUSED[role]:
            assert load(tmp_path, roles).name == roles["feed"]
            continue
        with pytest.raises(ConfigError) as refused:
            load(tmp_path, roles)
        line = str(refused.value)
        assert line.isprintable(), line
        problem = re.fullmatch(rf"{re.escape(str(tmp_path / roles['feed']))}\.toml(?::[0-9]+)?: (.*)", line)
        assert problem is not None, line
        assert word in problem[1]


def test_a_column_that_no_output_adds_is_free(tmp_path: Path) -> None:
    """A feed that declares no such output may have the column."""
    fields = "\n".join(f'{column} = "string"' for column in sorted(ADDED - COORDINATES))
    fields = fields.replace(' = "string"', ' = { type = "string" }')
    clock = '[event_time]\nfield = "ts"\nlateness = "1 hour"\nfuture_tolerance = "1 hour"'
    text = f'topic = "in"\n[fields]\nts = {{ type = "timestamp" }}\n{fields}\n{clock}\n'
    (tmp_path / "f.toml").write_text(f'{text}[dedupe]\nkey = "event_date"\nwithin = "1 hour"\n')
    assert {*load_feeds(tmp_path, ["f"])[0].fields} == {"ts", *ADDED} - COORDINATES


def test_no_two_flows_share_a_source_a_folder_or_a_query(tmp_path: Path) -> None:
    """Whatever the names are: a feed a with a sink b_c is not a feed a_b with a sink c."""
    sinks = ("window", "session", "lake", "topic", "table")
    feeds = [
        load(tmp_path, HARMLESS | {"feed": feed} | {sink: f"{name}{i}" for i, sink in enumerate(sinks)})
        for feed, name in (("a", "b_c"), ("a_b", "c"))
    ]
    made = flows(feeds, tmp_path)
    assert len({_source_of(flow).name().lower() for flow in made}) == len(made)
    assert len({flow.name for flow in made}) == len({flow.checkpoint.path for flow in made}) == len(made)
    folders = [folder for flow in made for folder, _ in flow.folders]
    assert len({*folders}) == len(folders)


def kind_of(flow: Flow) -> str:
    return sink_of(flow).to


def record(feed: Feed, number: int) -> dict[str, Any]:
    """A valid record."""
    values: dict[str, object] = {"timestamp": at(number).isoformat(), "decimal(18,2)": 1.5}
    found = {feed.path_of(column)[0]: values.get(field.type, "x") for column, field in feed.fields.items()}
    return found | {feed.path_of(key_of(feed))[0]: f"t{number}"}


def row(feed: Feed, number: int) -> Row:
    """The same as silver holds it."""
    values: dict[str, object] = {"timestamp": at(number), "decimal(18,2)": Decimal("1.50")}
    found: Row = {column: values.get(field.type, "x") for column, field in feed.fields.items()}
    place = {"kafka_ts": at(number), "topic": "in", "partition": 0, "offset": number}
    return found | {key_of(feed): f"t{number}"} | place


def write_outputs(made: tuple[Flow, ...]) -> None:
    """A file of every output; of those that follow silver a row without values, as their views say it is."""
    feed = made[0].feed
    by_layer = {flow.sink: flow for flow in made}
    write_layer(by_layer["bronze"], 0, [bronze_row(n, json.dumps(record(feed, n)).encode()) for n in range(2)])
    write_layer(by_layer["silver"], 0, [row(feed, 0)])
    refused = [
        bronze_row(n, json.dumps(record(feed, n)).encode())
        | {"value_text": "", "reasons": [f"bad_type:{feed.path_of(column)[0]}"]}
        for n, column in enumerate(feed.fields)
    ]
    write_layer(by_layer["quarantine"], 0, refused)
    database = views.connect(made)
    for flow in made:
        outputs = [(flow.layout.output, flow.sink)] if flow.is_own and flow.stateful else []
        outputs += [(flow.layout.late, flow.layout.late_name)] if flow.is_own and flow.stateful else []
        outputs += [(flow.layout.output / "event_date=2026-11-21", flow.sink)] if kind_of(flow) == "lake" else []
        for folder, sink in outputs:
            rows = f"FROM (SELECT 1) one(_one) LEFT JOIN {view(feed.name, sink)} ON true"
            table = database.sql(rows).to_arrow_table().drop_columns("_one")
            if kind_of(flow) == "lake":
                table = table.drop_columns("event_date")
            folder.mkdir(parents=True)
            pq.write_table(table, folder / f"{sink}_20261121_010000_0000000000.parquet")


def check_views(made: tuple[Flow, ...]) -> None:
    """Each output is a view with the columns that its files have, by its whole name and by its own alone."""
    database = views.connect(made)
    for flow in made:
        if kind_of(flow) in {"kafka", "postgres"}:
            continue
        sinks = [flow.sink, flow.layout.late_name] if flow.is_own and flow.stateful else [flow.sink]
        for sink in sinks:
            whole, columns = view(flow.feed.name, sink), database.sql(f"FROM {quoted(sink)}").columns
            rows = database.execute(f"SELECT {names(columns)} FROM {whole} ORDER BY {quoted(columns[-1])}").fetchall()
            assert bool(rows) is (bool(made[0].files()) and kind_of(flow) != "csv"), sink


def check_commands(made: tuple[Flow, ...]) -> None:
    """Every command that needs no database runs, and tells what is there."""
    feed, root = made[0].feed, made[0].root
    ours = app_settings(root)
    shown = {output.name: output for output in show(ours.servers, made).outputs}
    for flow in made:
        if kind_of(flow) not in {"kafka", "postgres"}:
            expected = {"bronze": 2, "quarantine": len(feed.fields), "csv_of_silver": 0}.get(flow.sink, 1)
            assert isinstance(found := shown[flow.name], Shown)
            assert found.count == expected
    assert [sink.rows for sink in status(root, made).sinks][:3] == [2, len(feed.fields), 1]
    with pytest.raises(ConfigError, match=r"^--sql: give a query over ") as hint:
        query(ours.servers, made, "")
    some = str(hint.value).partition("over ")[2].partition(", ")[0]
    counted = query(ours.servers, made, f"SELECT 40 + count(*) AS n FROM {some}")
    assert counted is not None
    assert [*counted.records()] == [{"n": 42}]

    for flow in {kind_of(flow): flow for flow in made if flow.sink == "silver" or kind_of(flow) == "lake"}.values():
        with planned(made, ours.kafka, ours.starting_offsets, flow.sink) as plan:
            assert flow.name in {sink.name for sink in plan.sinks}

    column = next(reversed(feed.fields))
    (by_reason,) = quarantine(views.database(), made, reason=f"bad_type:{feed.path_of(column)[0]}")
    assert [one.records for one in by_reason.reasons] == [1]
    replay(root, made, reason=f"bad_type:{feed.path_of(column)[0]}")
    (done,) = replay(root, made)
    assert done.failing["repeat of a record that silver holds"]
    silver = next(flow for flow in made if flow.sink == "silver")
    ledger = [pq.read_table(file.path).num_rows for file in batch_files(silver.layout.replay, REPLAY)]
    assert sum(ledger) == len(feed.fields) - 1


@pytest.mark.parametrize("each", [8, pytest.param(1, marks=pytest.mark.faults)])
def test_every_word_as_a_feed(tmp_path: Path, each: int) -> None:
    """Each is the first of FEEDS once, and all are there at once; of eight words one in `make test`."""
    found = [load(tmp_path, HARMLESS | {"feed": word}) for word in WORDS if word not in REFUSED["feed"]][::each]
    for feed in found:
        silver, quarantine = (flow_of(feed, layer, tmp_path) for layer in ("silver", "quarantine"))
        database = views.connect([silver, quarantine])
        assert database.execute("SELECT count(*) FROM silver").fetchall() == [(0,)]
        assert replayable.held_keys(database, feed, [("x",)]) == set()
        assert list(replayable.candidates(database, replayable.waiting_in(database, silver, -1), "")) == []
    database = views.connect([flow_of(feed, "silver", tmp_path) for feed in found])
    for feed in found:
        assert database.execute(f"SELECT count(*) FROM {view(feed.name, 'silver')}").fetchall() == [(0,)]


def test_every_word_as_a_sink_and_as_a_column(tmp_path: Path) -> None:
    """Each is a column, a key, an end and a measure, and the name of a window, a session or a lake."""
    for first in range(0, len(WORDS), _AT_ONCE):
        few = WORDS[first : first + _AT_ONCE]
        text = declaration(HARMLESS | {"feed": "order"})
        columns = [word for word in few if word not in ADDED]
        text += "".join(f'\n[fields.{word}]\ntype = "string"' for word in columns)
        for i, word in enumerate(word for word in few if word not in SINK):
            some = [*dict.fromkeys([*columns[i % len(columns) :][:5], HARMLESS["id"], columns[0]])]
            text += sink(word, ("windows", "sessions", "sinks")[i % 3], some)
        (folder := tmp_path / str(first)).mkdir()
        (folder / "order.toml").write_text(text)
        made = flows(load_feeds(folder, ["order"]), folder)
        check_views(made)
        assert show(app_settings(folder).servers, made).outputs


_AT_ONCE = 40


def sink(name: str, part: str, columns: Sequence[str]) -> str:
    """A sink of that kind, with as many of the columns as it can have, by the first of them."""
    column = columns[0]
    spans = 'gap = "1 minute"' if part == "sessions" else 'window = "1 minute"'
    keys = ['of = "silver"', 'to = "lake"'] if part == "sinks" else [spans, 'watermark = "1 minute"']
    lines = [f"\n[{part}.{name}]", *keys]
    if part == "windows":
        measures = ", ".join(f'{one} = "distinct({one})"' for one in columns[1:] if one not in WINDOW)
        lines += [f'key = "{column}"', f'where = {{ {column} = "x" }}', f"measures = {{ {measures} }}"]
    if part == "sessions":
        keys = [one for one in columns if one not in SESSION]
        lines += [f"keys = {json.dumps(keys)}", f'ends = {{ {column} = "x" }}']
    return "\n".join(lines)


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters='"\\\x7f', min_codepoint=32), min_size=1, max_size=128
)


@examples(12, HealthCheck.function_scoped_fixture)
@given(data=st.data())
def test_any_name_in_any_place(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    wire = st.sampled_from(words.WIRE_NAMES) | TEXTS
    folder, name = tmp_path_factory.mktemp("names"), st.sampled_from(WORDS) | st.from_regex(IDENTIFIER, fullmatch=True)
    role: dict[str, str] = {}
    for one in ROLES:  # of what is in one place each has a name of its own
        others = {role.get(other) for other in (*FIELDS, "measure") if one in (*FIELDS, "measure")}
        others |= {role.get(other) for other in SINKS if one in SINKS}
        role[one] = data.draw(name.filter(lambda word: word not in REFUSED[one] | others), one)  # noqa: B023
    wires = dict(zip(FIELDS, data.draw(st.lists(wire, min_size=7, max_size=7, unique=True), "wires"), strict=True))
    feed = load(folder, role, wires)
    made = flows([feed], folder)
    write_outputs(made)
    check_views(made)
    check_commands(made)


def test_every_odd_name_in_the_record(tmp_path: Path) -> None:
    for first in range(0, len(words.WIRE_NAMES), len(FIELDS)):
        few = (words.WIRE_NAMES * 2)[first : first + len(FIELDS)]
        folder = tmp_path / str(first)
        folder.mkdir()
        made = flows([load(folder, HARMLESS, dict(zip(FIELDS, few, strict=True)))], folder)
        write_outputs(made)
        check_views(made)
        check_commands(made)
