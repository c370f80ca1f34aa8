"""Outputs grow in place: what a changed feed file may change, and what it is refused with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.admission import declared, ownership
from stream_app.errors import ConfigError, StreamAppError
from stream_app.feeds.feed import Feed
from stream_app.feeds.growth import changes
from stream_app.feeds.types import of_name
from stream_app.flows import chain, columns
from stream_app.flows.flow import Flow
from stream_app.ops.replay import replay
from stream_app.sinks.protocol import rows_of
from stream_app.sources.split import Split, encoded
from stream_app.storage import parquet
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.lines import Csv
from tests.helpers import agree, at, bronze_row, claim, commit, flow_of, plan, tree, write_file, write_layer
from tests.unit.test_any_feed import Declared, feed_of

OLD: Declared = {
    "amount": {"type": "decimal(8,2)"},
    "count": {"type": "int"},
    "ratio": {"type": "float"},
    "kind": {"type": "string", "length": [1, 8]},
    "tags": {"type": "array", "element": {"type": "struct", "fields": {"n": {"type": "int"}}}},
}
PARTS: dict[str, Any] = {
    "windows": {
        "by_kind": {"key": "kind", "window": "1 minute", "watermark": "1 minute", "measures": {"most": "max(count)"}}
    },
    "sessions": {"visits": {"keys": ["kind"], "gap": "1 minute", "watermark": "1 minute"}},
    "sinks": {"raw_csv": {"of": "silver", "to": "csv"}, "table": {"of": "by_kind", "to": "postgres", "table": "t"}},
}


def reversed_list(items: Iterable[Any]) -> list[Any]:
    return list(items)[::-1]


WARNS = {"round": {"check": "count % 2 = 0", "severity": "warn"}}


def feed(fields: Declared | None = None, **parts: Any) -> Feed:
    """The feed, with some fields declared otherwise; None leaves one out."""
    changed = {name: field for name, field in (OLD | (fields or {})).items() if field is not None}
    return feed_of(changed, **(PARTS | parts))


def ran(flow: Flow, batches: int = 3) -> Flow:
    """A flow that has written some batches."""
    claim(flow)
    if flow.sink == "silver":
        flow.layout.seen.mkdir()
    for batch in range(batches):
        plan(flow, batch, {"batch": batch})
        if flow.form:
            chain.remember(flow, write_file(flow, batch))
        commit(flow, batch)
    return flow


def noted(flow: Flow) -> list[tuple[int, dict[str, str]]]:
    return [(one["after"], one["columns"]) for one in json.loads(flow.layout.owner.read_text())["columns"]]


GROWTH: dict[str, tuple[Declared, str]] = {
    "a field": ({"note": {"type": "string", "required": False}}, "note is new"),
    "with a default": ({"note": {"type": "string", "default": "-"}}, "note is new"),
    "long": ({"count": {"type": "long"}}, "count was int and is long"),
    "double": ({"ratio": {"type": "double"}}, "ratio was float and is double"),
    "digits": ({"amount": {"type": "decimal(12,4)"}}, "amount was decimal(8,2) and is decimal(12,4)"),
    "a member": (
        {
            "tags": {
                "type": "array",
                "element": {
                    "type": "struct",
                    "fields": {"n": {"type": "long"}, "m": {"type": "date", "required": False}},
                },
            }
        },
        "tags[].n was int and is long, tags[].m is new",
    ),
}


@pytest.mark.parametrize("growth", GROWTH)
@pytest.mark.parametrize("sink", ["silver", "raw_csv"])
@pytest.mark.proves("Outputs grow in place", "silver", "csv")
def test_what_grows_goes_on_from_a_recorded_batch(tmp_path: Path, growth: str, sink: str) -> None:
    fields, said = GROWTH[growth]
    old, flow = ran(flow_of(feed(), sink, tmp_path)), flow_of(feed(fields), sink, tmp_path)
    plan(old, 3, {"batch": 3})
    (repair,) = ownership.inspect(flow, None, None)
    assert isinstance(repair, declared.Note)
    assert repair.sentence == f"any.{sink} has grown after batch 2: {said}"
    claim(flow)
    first, second = noted(flow)
    assert (first[0], second[0]) == (-1, 2)
    assert second[1] == {name: one.name for name, one in flow.kind.types.items()}
    before = tree(tmp_path)
    claim(flow)
    assert tree(tmp_path) == before


@pytest.mark.proves("Outputs grow in place", "silver")
def test_a_batch_whose_file_stands_is_of_the_columns_of_before(tmp_path: Path) -> None:
    """It was planned and written, and not committed: it is left as it is."""
    flow = ran(flow_of(feed(), "silver", tmp_path))
    plan(flow, 3, {"batch": 3})
    write_file(flow, 3)
    claim(flow_of(feed({"note": {"type": "string", "required": False}}), "silver", tmp_path))
    assert [after for after, _ in noted(flow)] == [-1, 3]
    files = [file.first for _, own in columns.divided(flow, flow.files()) for file in own]
    assert files == [0, 1, 2, 3]


def test_what_grew_twice_without_a_batch_grew_once(tmp_path: Path) -> None:
    ran(flow_of(feed(), "silver", tmp_path))
    more: Declared = {"note": {"type": "string", "required": False}}
    claim(flow_of(feed(more), "silver", tmp_path))
    flow = flow_of(feed(more | {"count": {"type": "long"}}), "silver", tmp_path)
    claim(flow)
    assert [after for after, _ in noted(flow)] == [-1, 2]
    assert noted(flow)[-1][1]["count"] == "long"


@pytest.mark.parametrize("written", [0, 1])
def test_what_grew_while_silver_is_behind_is_known_to_the_audit(tmp_path: Path, written: int) -> None:
    """Silver makes rows of before yet, which have no note: else the audit takes them for wrong."""
    silver, quarantine = (ran(flow_of(feed(), sink, tmp_path), 0) for sink in ("silver", "quarantine"))
    agree(flow_of(feed(), "bronze", tmp_path))
    for flow, batches in ((silver, written), (quarantine, 3)):
        for batch in range(batches):
            plan(flow, batch, {"batch": batch})
            write_file(flow, batch)
            commit(flow, batch)
    for count in ("int", "long"):
        grown = feed(NOTED | {"count": {"type": count}})
        for _ in range(2):
            claim(flow_of(grown, "silver", tmp_path))
            agree(flow_of(grown, "bronze", tmp_path))
    kept = [(after, "note" in found, found["count"]) for after, found in noted(silver)]
    between = [(0, True, "int")] if written else []  # a silver that has begun does not know that none is of it
    assert kept == [(-1, False, "int"), *between, (written - 1, True, "long")]
    plan(silver, written, {"batch": written})
    write_file(silver, written)
    assert columns.of_file(columns.versions(silver), silver.files()[-1]).columns["count"].name == "long"
    assert len(noted(quarantine)) == 1


MADE: dict[str, Declared] = {
    "path": {"count": {"type": "int", "path": ["n"]}},
    "default": {"count": {"type": "int", "default": 0}},
    "of a member": {
        "tags": {
            "type": "array",
            "element": {"type": "struct", "fields": {"n": {"type": "int", "path": ["m"], "default": 1}}},
        }
    },
    "text": {"count": {"type": "int", "text": True}},
}


@pytest.mark.parametrize("change", MADE)
def test_what_values_are_made_of_is_noted_from_a_batch_on(tmp_path: Path, change: str) -> None:
    ran(flow_of(feed(), "silver", tmp_path))
    flow = flow_of(feed(MADE[change]), "silver", tmp_path)
    claim(flow)
    first, last = columns.versions(flow)
    assert (first.after, last.after) == (-1, 2)
    assert first.remade(flow.kind.sources) == ["tags[].n" if change == "of a member" else "count"]
    assert last.remade(flow.kind.sources) == []
    before = flow.layout.owner.read_bytes()
    claim(flow)
    assert flow.layout.owner.read_bytes() == before


def test_a_silver_that_noted_no_sources_notes_them_and_has_not_grown(tmp_path: Path) -> None:
    flow = ran(flow_of(feed(), "silver", tmp_path))
    owner = json.loads(flow.layout.owner.read_text())
    del owner["columns"][0]["sources"]
    flow.layout.owner.write_text(json.dumps(owner))
    claim(flow)
    (version,) = columns.versions(flow)
    assert (version.after, version.sources) == (-1, flow.kind.sources)
    rules = flow_of(feed({"kind": {"type": "string", "length": [1, 9]}}), "silver", tmp_path)
    claim(rules)
    assert len(columns.versions(rules)) == 1, "a rule makes no value"


def test_fields_in_another_order_are_a_new_header(tmp_path: Path) -> None:
    ran(flow_of(feed(), "raw_csv", tmp_path))
    flow = flow_of(feed_of(dict(reversed(OLD.items())), **PARTS), "raw_csv", tmp_path)
    claim(flow)
    assert [[*found] for _, found in noted(flow)][1] == [*flow.kind.types]


def test_members_in_another_order_are_noted(tmp_path: Path) -> None:
    members = {"a": {"type": "int"}, "b": {"type": "string"}}
    one, other = ({"s": {"type": "struct", "fields": dict(order(members.items()))}} for order in (list, reversed_list))
    ran(flow_of(feed(one), "silver", tmp_path))
    flow = flow_of(feed(other), "silver", tmp_path)
    claim(flow)
    assert noted(flow)[-1][1]["s"] == "struct<b:string,a:int>"


@pytest.mark.parametrize("sink", ["by_kind", "visits", "table"])
def test_windows_and_sessions_do_not_depend_on_fields_that_they_do_not_read(tmp_path: Path, sink: str) -> None:
    ran(flow_of(feed(), sink, tmp_path))
    before = tree(tmp_path)
    more = {"note": {"type": "string", "required": False}, "amount": {"type": "decimal(12,4)"}}
    claim(flow_of(feed(more, rules=WARNS), sink, tmp_path))
    assert tree(tmp_path) == before


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "removed": ("silver", {"fields": {"ratio": None}}, "ratio is gone, removed or renamed"),
    "renamed": (
        "silver",
        {"fields": {"ratio": None, "share": {"type": "float", "path": "ratio", "required": False}}},
        "ratio is gone, removed or renamed",
    ),
    "narrower": (
        "silver",
        {"fields": {"amount": {"type": "decimal(6,2)"}}},
        "amount was decimal(8,2) and is decimal(6,2)",
    ),
    "fewer digits before the point": (
        "silver",
        {"fields": {"amount": {"type": "decimal(9,4)"}}},
        "amount was decimal(8,2) and is decimal(9,4)",
    ),
    "another type": ("silver", {"fields": {"count": {"type": "double"}}}, "count was int and is double"),
    "required": ("silver", {"fields": {"note": {"type": "string"}}}, "note is new and required"),
    "a required member": (
        "silver",
        {
            "fields": {
                "tags": {
                    "type": "array",
                    "element": {"type": "struct", "fields": {"n": {"type": "int"}, "m": {"type": "int"}}},
                }
            }
        },
        "tags[].m is new and required",
    ),
    "dedupe key": (
        "silver",
        {"dedupe": {"key": "kind", "within": "1 hour"}},
        "dedupe.key was id and is kind",
    ),
    "dedupe span": ("silver", {"dedupe": {"key": "id", "within": "2 hours"}}, "dedupe.within was PT1H and is PT2H"),
    "event time": (
        "silver",
        {"event_time": {"field": "kafka_ts", "lateness": "1 hour", "future_tolerance": "1 hour"}},
        "event_time was at and is kafka_ts",
    ),
    "what a window adds up": ("by_kind", {"fields": {"count": {"type": "long"}}}, "fields.count was int and is long"),
    "what a fresh table does": ("table", {"fields": {"count": {"type": "long"}}}, "fields.count was int and is long"),
    "a window": (
        "by_kind",
        {"windows": {"by_kind": PARTS["windows"]["by_kind"] | {"watermark": "2 minutes"}}},
        "watermark was PT1M and is PT2M",
    ),
    "a session": (
        "visits",
        {"sessions": {"visits": PARTS["sessions"]["visits"] | {"keys": ["id"]}}},
        "keys was ['kind'] and is ['id']",
    ),
}


@pytest.mark.parametrize("change", REFUSED)
@pytest.mark.proves("Outputs grow in place", "silver", "windows", "sessions", "postgres")
def test_anything_else_is_refused_with_the_reset_that_it_needs(tmp_path: Path, change: str) -> None:
    sink, parts, problem = REFUSED[change]
    ran(flow_of(feed(), sink, tmp_path))
    before = tree(tmp_path)
    with pytest.raises(ConfigError) as error:
        claim(flow_of(feed(**parts), sink, tmp_path))
    assert f"the feed file changed what any.{sink} keeps: " in str(error.value)
    assert problem in str(error.value)
    assert str(error.value).endswith(f"; reset it with: make reset FEED=any SINK={sink}")
    assert tree(tmp_path) == before


def test_the_first_rule_that_warns_is_a_new_column_and_the_last_one_keeps_it(tmp_path: Path) -> None:
    silver = ran(flow_of(feed(), "silver", tmp_path))
    claim(flow_of(feed(rules=WARNS), "silver", tmp_path))
    assert noted(silver)[-1][1]["warnings"] == "array<string>"
    with pytest.raises(ConfigError, match="warnings is gone"):
        claim(silver)
    claim(flow_of(feed(rules={"none": {"check": "id IS NOT NULL", "severity": "warn"}}), "silver", tmp_path))


def test_columns_of_a_lookup_are_new_ones_and_stay(tmp_path: Path) -> None:
    silver = ran(flow_of(feed(), "silver", tmp_path))
    by_kind: Declared = {"kind": {"type": "string", "length": [1, 8], "references": "kinds"}}
    kinds = {"file": "kinds.csv", "key": "kind", "columns": {"label": "string", "rank": "int"}}
    claim(flow_of(feed(by_kind, lookups={"kinds": kinds}), "silver", tmp_path))
    assert noted(silver)[-1][1].keys() - noted(silver)[0][1].keys() == {"label", "rank"}
    fewer = kinds | {"columns": {"label": "string"}}
    with pytest.raises(ConfigError, match="rank is gone"):
        claim(flow_of(feed(by_kind, lookups={"kinds": fewer}), "silver", tmp_path))


def test_a_feed_that_is_deduped_from_now_on_asks_for_a_reset(tmp_path: Path) -> None:
    """And one that is no longer: silver's rows would be of two declarations."""
    dedupe = {"key": "id", "within": "1 hour"}
    for number, (one, other) in enumerate(((dedupe, None), (None, dedupe))):
        root = tmp_path / str(number)
        ran(flow_of(feed(dedupe=one), "silver", root))
        with pytest.raises(ConfigError, match=r"dedupe was .* and is .*make reset FEED=any SINK=silver"):
            claim(flow_of(feed(dedupe=other), "silver", root))


def test_a_dedupe_key_may_be_of_a_wider_type_that_spells_its_values_the_same(tmp_path: Path) -> None:
    """What is kept of a key is a digest of its text."""
    dedupe = {"key": "count", "within": "1 hour"}
    ran(flow_of(feed(dedupe=dedupe), "silver", tmp_path))
    claim(flow_of(feed({"count": {"type": "long"}}, dedupe=dedupe), "silver", tmp_path))
    other = tmp_path / "other"
    dedupe = {"key": "amount", "within": "1 hour"}
    ran(flow_of(feed(dedupe=dedupe), "silver", other))
    with pytest.raises(ConfigError, match=r"fields.amount was decimal\(8,2\) and is decimal\(12,4\)"):
        claim(flow_of(feed({"amount": {"type": "decimal(12,4)"}}, dedupe=dedupe), "silver", other))


def of_an_older_version(flow: Flow) -> None:
    """Have it noted as versions did that kept a digest alone."""
    owner = json.loads(flow.layout.owner.read_text())
    kept = {key: value for key, value in owner.items() if key not in {"columns", "depends_on"}}
    flow.layout.owner.write_text(json.dumps(kept | {"state": declared.first_digest(flow)}))


@pytest.mark.parametrize("sink", ["silver", "quarantine", "by_kind", "visits", "raw_csv", "table"])
def test_an_output_of_an_older_version_notes_its_columns_and_may_grow_then(tmp_path: Path, sink: str) -> None:
    flow, more = ran(flow_of(feed(), sink, tmp_path)), {"note": {"type": "string", "required": False}}
    of_an_older_version(flow)
    claim(flow)
    assert noted(flow) == [(-1, {name: one.name for name, one in flow.kind.types.items()})]
    claim(flow_of(feed(more), sink, tmp_path))


FLAT: Declared = {name: field for name, field in OLD.items() if name != "tags"} | {"tags": None}


@pytest.mark.parametrize("sink", ["silver", "by_kind", "visits", "raw_csv", "table"])
def test_an_output_of_an_older_version_whose_feed_has_grown_with_the_upgrade_grows(tmp_path: Path, sink: str) -> None:
    """What the columns were, silver's newest file says, and the digest that it is right."""
    silver = ran(flow_of(feed(FLAT), "silver", tmp_path))
    flow = silver if sink == "silver" else ran(flow_of(feed(FLAT), sink, tmp_path))
    pq.write_table(to_arrow_schema(silver.kind.columns, timezone="UTC").empty_table(), silver.files()[-1].path)
    of_an_older_version(flow)
    more = FLAT | {"note": {"type": "string", "required": False}, "ratio": {"type": "double"}}
    claim(flow_of(feed(more), sink, tmp_path))
    first, *others = noted(flow)
    assert first == (-1, {name: one.name for name, one in flow.kind.types.items()})
    assert [after for after, _ in others] == ([2] if sink in {"silver", "raw_csv"} else [])


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"count": {"type": "string"}}, "count was int and is string"),
        ({"count": None}, "count is gone"),
    ],
)
def test_an_output_of_an_older_version_whose_feed_has_changed_is_refused(
    tmp_path: Path, changed: Declared, problem: str
) -> None:
    silver = ran(flow_of(feed(FLAT, windows={}, sinks={}), "silver", tmp_path))
    of_an_older_version(silver)
    with pytest.raises(ConfigError, match=r"or a new version, changed what any.silver keeps .*make reset FEED=any"):
        claim(flow_of(feed(FLAT | changed, windows={}, sinks={}), "silver", tmp_path))
    pq.write_table(to_arrow_schema(silver.kind.columns, timezone="UTC").empty_table(), silver.files()[-1].path)
    with pytest.raises(ConfigError, match=rf"the feed file changed what any.silver keeps: {problem}.*make reset"):
        claim(flow_of(feed(FLAT | changed, windows={}, sinks={}), "silver", tmp_path))


@pytest.mark.parametrize(
    "garbage", [[], {}, [{}], [{"after": "x", "columns": {}}], [{"after": -1, "columns": {"a": "b<"}}]]
)
def test_columns_that_cannot_be_read_are_damaged(tmp_path: Path, garbage: object) -> None:
    flow = ran(flow_of(feed(), "silver", tmp_path))
    flow.layout.owner.write_text(json.dumps(json.loads(flow.layout.owner.read_text()) | {"columns": garbage}))
    with pytest.raises(StreamAppError, match=r"_owner.json cannot be read"):
        claim(flow)


NOTED: Declared = {"note": {"type": "string", "required": False, "length": [1, 2]}, "count": {"type": "long"}}


def test_while_one_half_is_ahead_by_rules_that_nobody_noted_a_feed_does_not_grow(tmp_path: Path) -> None:
    """What silver has judged without the field, quarantine would judge by it."""
    both = [flow_of(feed(), sink, tmp_path) for sink in ("quarantine", "silver")]
    for number, flow in enumerate(both, 2):
        ran(flow, number)
    agree(flow_of(feed(), "bronze", tmp_path))
    with pytest.raises(ConfigError, match=r"quarantine up to 1 and silver up to 2; .* put the old feed file back"):
        agree(flow_of(feed(NOTED), "bronze", tmp_path))
    agree(flow_of(feed(), "bronze", tmp_path))


@pytest.mark.parametrize("behind", ["quarantine", "silver"])
@pytest.mark.proves("Outputs grow in place", "silver")
def test_one_half_that_is_behind_makes_rows_of_before_in_the_columns_of_now(tmp_path: Path, behind: str) -> None:
    """One task reads files of both sides. A note that is too long is no fault from before it was declared."""
    bronze = flow_of(feed(), "bronze", tmp_path)
    record = {
        "id": "a",
        "at": at(0).isoformat(),
        "amount": 1,
        "count": 7,
        "ratio": 0.1,
        "kind": "x",
        "tags": [{"n": 1}],
    }
    notes = ["abc", "ab", "abc"]
    files = [
        write_layer(bronze, batch, [bronze_row(batch, json.dumps(record | {"note": note}).encode())])
        for batch, note in enumerate(notes)
    ]
    both = {sink: flow_of(feed(), sink, tmp_path) for sink in ("quarantine", "silver")}
    for flow in both.values():
        ran(flow, 0)
    agree(bronze)
    for sink, flow in both.items():
        if sink != behind:
            plan(flow, 0, {"batch": 0})
            commit(flow, 0)
    agree(flow_of(feed(NOTED), "bronze", tmp_path))
    flow = flow_of(feed(NOTED), behind, tmp_path)
    split = Split([(str(file.path), [0]) for file in files], clock=0)
    found = pa.Table.from_batches(rows_of(flow).read(iter([encoded([split])])))
    assert found.schema == to_arrow_schema(flow.kind.taken, timezone="UTC")
    if behind == "silver":
        assert found.select(["offset", "note", "count"]).to_pylist() == [
            {"offset": 0, "note": None, "count": 7},
            {"offset": 1, "note": "ab", "count": 7},
        ]
    else:
        assert found.select(["offset", "reasons"]).to_pylist() == [{"offset": 2, "reasons": ["out_of_range:note"]}]


def test_a_replay_waits_for_the_start_that_takes_up_the_new_columns(tmp_path: Path) -> None:
    """The service that runs would find columns in the ledger that it has not."""
    ran(flow_of(feed(), "silver", tmp_path))
    grown = feed({"count": {"type": "long"}})
    found = [flow_of(grown, sink, tmp_path) for sink in ("bronze", "quarantine", "silver")]
    with pytest.raises(ConfigError, match="has changed silver's columns since the service was started; start it again"):
        replay(tmp_path, found)


def test_types_are_read_back_by_their_names() -> None:
    for name in (
        "int",
        "decimal(18,2)",
        "array<struct<price:decimal(18,2),q:map<array<int>>>>",
        "struct<a:struct<b:json>>",
    ):
        assert of_name(name).name == name
    for name in ("", "x", "array<", "array<int", "struct<", "struct<a>", "int>", "decimal(18,2", "struct<a:int,>"):
        with pytest.raises(ValueError, match=r"^"):
            of_name(name)


def test_a_merge_never_leaves_a_column_out(tmp_path: Path) -> None:
    """As where somebody has put an older file behind newer ones."""
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    pq.write_table(pa.table({"a": pa.array([1], pa.int32())}), old)
    pq.write_table(pa.table({"b": ["x"], "a": pa.array([2], pa.int64())}), new)
    parquet.merge(NO_HADOOP, [old, new], tmp_path / "merged.parquet")
    assert pq.read_table(tmp_path / "merged.parquet").to_pylist() == [{"b": None, "a": 1}, {"b": "x", "a": 2}]
    with pytest.raises(ValueError, match=r"new.parquet has columns that .*old.parquet lacks: b"):
        parquet.merge(NO_HADOOP, [new, old], tmp_path / "other.parquet")


def test_older_files_of_a_csv_keep_their_header(tmp_path: Path) -> None:
    form, files = Csv(header=b"a,n,b\r\n"), [tmp_path / f"{n}.csv" for n in range(3)]
    files[0].write_bytes(b"a,b\r\n1,2\r\n")
    files[1].write_bytes(b"a,b\r\n3,4\r\n")
    form.merge(NO_HADOOP, files[:2], files[2])
    assert files[2].read_bytes() == b"a,b\r\n1,2\r\n3,4\r\n"
    assert form.holds(files[2], files[:2])
    assert [form.flaw(files[2], names) for names in (["a", "b", "k"], ["a", "n", "b"])] == [
        "",
        "does not begin with its header",
    ]


def test_the_order_of_columns_is_no_difference() -> None:
    one, other = ({name: of_name("int") for name in names} for names in ("ab", "ba"))
    assert list(changes(one, other)) == []


NO_HADOOP: Hadoop = None  # type: ignore[assignment]  # nothing is copied by it
