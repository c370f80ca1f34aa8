"""Random feeds grow at random: files of both widths are read, merged and audited as one output."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.feeds.feed import Feed
from stream_app.feeds.growth import lifted
from stream_app.ops import views
from stream_app.storage import parquet
from stream_app.storage.filesystem import Hadoop
from tests.examples import examples
from tests.helpers import reconciled
from tests.outputs import Output, Record
from tests.unit.test_any_feed import FIXED, Declared, feed_of
from tests.unit.test_random_feeds import declarations, members, objects

SENT = datetime(2026, 11, 21, 1, 20, 30, tzinfo=UTC)
WIDER = {"int": "long", "float": "double", "decimal(5,2)": "decimal(9,4)"}
SINKS = {"raw_csv": {"of": "silver", "to": "csv"}, "lake": {"of": "silver", "to": "lake"}}


@st.composite
def grown(draw: st.DrawFn, fields: Declared) -> Declared:
    """The fields of an object, some of them wider, and perhaps one more, anywhere among them."""
    found = {name: draw(wider(field)) for name, field in fields.items()}
    if draw(st.booleans()):
        added = draw(declarations(1)) | {"required": False, "path": ["added", f"a{len(found)}"]}
        at = draw(st.integers(0, len(found)))
        found = dict([*list(found.items())[:at], (f"g{len(found)}", added), *list(found.items())[at:]])
    return found


@st.composite
def wider(draw: st.DrawFn, field: Declared) -> Declared:
    """A field, perhaps of a type that holds more, or with more in it."""
    if field["type"] == "struct":
        return field | {"fields": draw(grown(field["fields"]))}
    inner: Declared = {key: draw(wider(field[key])) for key in ("element", "value") if key in field}
    name = WIDER.get(field["type"], field["type"]) if draw(st.booleans()) else field["type"]
    return field | inner | {"type": name}


@st.composite
def steps(draw: st.DrawFn) -> tuple[list[Feed], list[list[bytes]]]:
    """A feed, what it grows to, and a batch of records for each: a producer may be ahead of the feed file."""
    fields = [draw(objects(2))]
    for _ in range(draw(st.integers(1, 2))):
        fields.append(draw(grown(fields[-1])))
    wild = st.sampled_from([0, 0, 10]).flatmap(lambda wild: members(FIXED | fields[-1], wild))
    batches = [
        [numbered(draw(wild), number, i) for i in range(draw(st.integers(1, 4)))] for number in range(len(fields))
    ]
    # the audit of a CSV does not read every nested value back
    is_flat = all(field["type"] not in {"array", "map", "struct"} for each in fields for field in each.values())
    sinks = SINKS if is_flat else {"lake": SINKS["lake"]}
    return [feed_of(each, sinks=sinks) for each in fields], batches


def numbered(text: str, *place: int) -> bytes:
    """The record with an id of its own, so that none repeats another; the last of two members counts."""
    return (text[:-1] + f',"id": "r{place}"' + "}").encode("utf-8", "surrogatepass")


def written(feeds: list[Feed], batches: list[list[bytes]], root: Path) -> tuple[Output, list[pa.Table]]:
    """The output of a service that was started with each of the feeds, and silver's rows of each start."""
    output, rows = Output(feeds[0], root), list[pa.Table]()
    for number, (feed, records) in enumerate(zip(feeds, batches, strict=True)):
        if number:
            output.grow(feed)
        before = {*output.paths("silver")}
        output.take([Record(value, SENT) for value in records], SENT + timedelta(seconds=number))
        rows += [pq.ParquetFile(path).read() for path in sorted({*output.paths("silver")} - before)]
    return output, rows


@examples(100)
@given(steps())
@pytest.mark.proves("Outputs grow in place", "silver", "csv", "lake")
def test_whatever_grows_its_files_are_one_output(case: tuple[list[Feed], list[list[bytes]]]) -> None:
    feeds, batches = case
    with tempfile.TemporaryDirectory() as folder:
        output, rows = written(feeds, batches, Path(folder))
        columns = output._columns
        expected = pa.concat_tables([columns.empty_table(), *(lifted(one, columns) for one in rows)])
        with views.connected([*output.flows.values()]) as database:
            for sink in ("silver", "lake"):
                found = database.sql(f'SELECT * FROM {sink} ORDER BY "offset"').to_arrow_table()
                assert found.select(columns.names).cast(columns).to_pylist() == expected.to_pylist()
                assert found.schema.names[: len(columns)] == columns.names
        if len(rows) > 1:
            target = Path(folder) / "merged.parquet"
            parquet.merge(cast(Hadoop, None), output.paths("silver"), target)
            merged = pq.ParquetFile(target).read()
            assert merged.cast(rows[-1].schema).to_pylist() == [
                row for one in rows for row in lifted(one, rows[-1].schema).to_pylist()
            ]
        report = reconciled(output.flows["bronze"])
        assert report.wrong == []


def test_a_row_that_is_not_what_the_feed_made_of_it_before_it_grew_is_wrong(tmp_path: Path) -> None:
    """And one of before that the feed of today would have made is not: nobody had declared the field."""
    old: Declared = {"x": {"type": "float"}, "s": {"type": "struct", "fields": {"n": {"type": "int"}}}}
    new: Declared = {
        "x": {"type": "double"},
        "more": {"type": "string", "required": False},
        "s": {"type": "struct", "fields": {"n": {"type": "long"}, "m": {"type": "int", "required": False}}},
    }
    values: dict[str, Any] = {"at": "2026-11-21T01:20:30Z", "x": 0.1, "more": "a", "s": {"n": 1, "m": 2}}
    batches = [[json.dumps(values | {"id": f"{n}{i}"}).encode() for i in range(2)] for n in range(2)]
    output, _ = written([feed_of(each, sinks=SINKS) for each in (old, new)], batches, tmp_path)
    assert reconciled(output.flows["bronze"]).wrong == []
    with views.connected([*output.flows.values()]) as database:
        shown = database.sql("SELECT x, more, s FROM raw_csv ORDER BY id").fetchall()
    narrow = pa.scalar(0.1, pa.float32()).as_py()
    assert [row[:2] for row in shown] == [(narrow, None), (narrow, None), (0.1, "a"), (0.1, "a")]
    tampers: tuple[dict[str, Any], ...] = ({"x": 0.5}, {"more": None}, {"s": {"n": 1, "m": None}})
    for number, change in enumerate(tampers):
        copy = output.copied(tmp_path / f"copy{number}")
        path = copy.paths("silver")[0 if "x" in change else 1]
        table = pq.ParquetFile(path).read()
        pq.write_table(pa.Table.from_pylist([row | change for row in table.to_pylist()], table.schema), path)
        (wrong, *_) = reconciled(copy.flows["bronze"]).wrong
        assert wrong.startswith("silver's row is not what the contract makes of the record: 2, ")
        assert f", {next(iter(change))})" in wrong
