"""Reference data: what may be declared, how it is read and kept, and that a batch is judged by its own snapshot."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from stream_app.contract.contract import Contract
from stream_app.contract.references import Snapshots, first_hashes
from stream_app.contract.verdict import Rejected
from stream_app.errors import ConfigError, StreamAppError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import checked
from stream_app.ops.feed_check import feed_check
from stream_app.ops.status import status
from stream_app.sinks.registry import flows
from stream_app.sources.lookup import Source
from stream_app.sources.lookups import Lookups
from stream_app.storage import pins, snapshots
from stream_app.storage.batch_files import REPLAY, batch_files
from stream_app.storage.planned import UNBOUNDED
from stream_app.storage.snapshots import KEY, PlainSnapshot, Snapshot, sorted_by_key
from tests.examples import examples
from tests.outputs import Output, Record
from tests.unit.audited import at, edit, found, lines
from tests.unit.conftest import Cli

NOON = 1_795_780_800_000_000  # 2026-11-27T12:00:00Z
FEED = """
topic = "sales"
[fields.id]
type = "long"
[fields.at]
type = "timestamp"
[fields.client]
path = "buyer.client"
type = "string"
references = "clients"
[fields.product]
type = "long"
required = false
references = "products"
[fields.count]
type = "long"
[fields.sum]
type = "decimal(10,2)"
[lookups.clients]
file = "clients.csv"
key = "client"
[lookups.products]
file = "products.csv"
key = "number"
columns = { price = "decimal(10,2)", kind = { type = "string", column = "category" }, since = "date" }
refresh = "1 minute"
[rules.price]
check = "product IS NULL OR sum = count * price"
[rules.cheap]
check = "price < 1000"
severity = "warn"
[event_time]
field = "at"
lateness = "1 hour"
future_tolerance = "1 hour"
[dedupe]
key = "id"
within = "1 hour"
[windows.by_kind]
key = "kind"
window = "1 minute"
watermark = "2 minutes"
measures = { dearest = "max(price)", back = "count" }
"""
CLIENTS = "client,name\nada,Ada\nbob,Bob\n"
PRODUCTS = "number,category,price,since\n1,books,10.00,2026-01-01\n2,,2000,\n"


def declared(**changes: Any) -> dict[str, Any]:
    return tomllib.loads(FEED, parse_float=Decimal) | changes


def feed_of(folder: Path, clients: str = CLIENTS, products: str = PRODUCTS) -> Feed:
    """The feed, and its file and its reference data in that folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("sales.toml", FEED), ("clients.csv", clients), ("products.csv", products)):
        (folder / name).write_text(text)
    return Feed.model_validate(declared(name="sales"))


def record(**changes: Any) -> bytes:
    given = {"id": 1, "at": "2026-11-27T12:00:00Z", "buyer": {"client": "ada"}, "product": 1, "count": 2, "sum": 20}
    return json.dumps(given | changes).encode()


def lookups_of(feed: Feed, root: Path, folder: Path) -> Lookups:
    return Lookups(flows([feed], root)[0], folder, SecretStr(""))


# What may be declared


@pytest.mark.parametrize(
    ("part", "change", "key", "problem"),
    [
        (
            "fields",
            {"count": {"type": "long", "references": "x"}},
            "fields.count.references",
            "is not a declared lookup",
        ),
        (
            "fields",
            {"at": {"type": "timestamp", "references": "clients"}},
            "fields.at.references",
            "no key of a lookup",
        ),
        ("fields", {"client": {"type": "string"}}, "lookups.clients", 'write references = "clients"'),
        ("fields", {"other": {"type": "int", "references": "products"}}, "lookups.products.key", "different types"),
        ("fields", {"other": {"type": "long", "references": "products"}}, "lookups.products.columns", "for each"),
        ("fields", {"price": {"type": "long"}}, "lookups.products.columns.price", "products_price = { type"),
        (
            "fields",
            {"many": {"type": "array", "element": {"type": "long", "references": "clients"}}},
            "fields.many.element.references",
            "of the record itself",
        ),
        ("lookups", {"clients": {"key": "client"}}, "lookups.clients.file", "either a file or a query"),
        ("lookups", {"clients": {"key": "c", "file": "a", "query": "b"}}, "lookups.clients.file", "either a file"),
        (
            "lookups",
            {"clients": {"key": "client", "file": "a", "columns": {"kind": "long"}}},
            "lookups.products.columns.kind",
            "clients has a column of this name already",
        ),
        (
            "lookups",
            {"clients": {"key": "client", "file": "a", "columns": {"j": "json"}}},
            "lookups.clients.columns.j",
            "no type of a lookup's column",
        ),
        ("event_time", {"field": "since"}, "event_time.field", "is a date, not a timestamp"),
        ("dedupe", {"key": "kind"}, "dedupe.key", "is not required"),
    ],
)
def test_what_does_not_fit_together_is_named_by_its_key(
    part: str, change: dict[str, Any], key: str, problem: str
) -> None:
    whole = declared()
    feed, problems = checked("sales", whole | {part: whole[part] | change})
    assert feed is None
    assert [text for one, text in problems if one == key and problem in text], problems


def test_the_digest_of_the_rules_changes_with_what_a_snapshot_holds_and_not_with_where_it_is() -> None:
    def digest(**changes: Any) -> str:
        whole = declared(name="sales")
        whole["lookups"]["products"] |= changes
        return Feed.model_validate(whole).verdict_digest()

    assert digest() == digest(file="elsewhere.parquet", refresh="1 hour")
    assert len({digest(), digest(key="n"), digest(columns={"price": "double", "kind": "string", "since": "date"})}) == 3


# How it is read


def rows_of(folder: Path, products: str = PRODUCTS) -> list[dict[str, Any]]:
    feed = feed_of(folder, products=products)
    table = Source.of(feed, "products", folder).read()
    assert table.column_names == [KEY, "price", "kind", "since", "_index"]
    return list(table.drop_columns(["_index"]).to_pylist())


def test_a_csv_is_read_in_the_declared_types(tmp_path: Path) -> None:
    text = '\ufeffnumber,price,since,category,more\n2,5,,"",x\n1,899.99,2026-02-03,"a\nb",\n'
    assert [list(row.values()) for row in rows_of(tmp_path, text)] == [
        [1, Decimal("899.99"), "a\nb", pa.scalar(20487, pa.date32()).as_py()],
        [2, Decimal("5.00"), "", None],
    ]


def test_a_quote_amid_a_cell_of_a_csv_is_a_letter(tmp_path: Path) -> None:
    text = 'number,price,since,category\n1,2,,5" pipe\n2,3,,"5"" pipe"\n'
    assert [row["kind"] for row in rows_of(tmp_path, text)] == ['5" pipe', '5" pipe']


@pytest.mark.parametrize("kind", [pa.int32(), pa.decimal128(20, 4), pa.float64(), pa.string(), pa.uint8()])
def test_parquet_is_read_as_the_same_rows(tmp_path: Path, kind: pa.DataType) -> None:
    feed = feed_of(tmp_path)
    dates = pa.array(["2026-01-01", None]).cast(pa.date32())
    given = pa.table({"category": ["books", None], "number": [1, 2], "since": dates})
    price = pa.array(["10", "200"]).cast(pa.decimal128(20, 4)).cast(kind)
    pq.write_table(given.append_column("price", price), tmp_path / "p.parquet")
    source = Source.of(feed, "products", tmp_path).of_file(tmp_path / "p.parquet")
    assert source["price"].to_pylist() == [Decimal("10.00"), Decimal("200.00")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("number,category,price\n", 'there is no column "since"'),
        ("number,category,price,since\n", "has no rows, so no record would be valid"),
        ("number,category,price,since\n1,,1,\n1,,2,\n3,,1,\n", "the key 1 is there more than once"),
        ("number,category,price,since\n1,,1,\n,,2,\n", "row 2 has no number, which is the key"),
        ("number,category,price,since\n1,,1,\n2,,dear,\n", 'price of row 2 is "dear", which is no decimal(10,2)'),
        ("number,category,price,since\n1,,1.005,\n", 'price of row 1 is "1.005"'),
        ("number,category,price,since\n1.5,,1,\n", 'number of row 1 is "1.5", which is no long'),
        ("number,category,price,since,price\n1,,1,,2\n", 'has columns "price" twice'),
        ("number,category,price,since\n1,,1\n", "is no CSV with a header in UTF-8"),
        ("", "is no CSV with a header in UTF-8"),
        ('number,category,price,since\n1,a,1,\n2,b,2,"\n3,c,3,\n4,d,4,\n', "products.csv: a quote in it is not closed"),
        ('number,since,price,category\n1,,1,a\n2,,2,"b', "products.csv: a quote in it is not closed"),
        ("number,category,price,since\n1,\udcff,1,\n", "is no CSV with a header in UTF-8"),
    ],
)
def test_what_cannot_be_read_as_declared_is_refused_by_row_and_column(tmp_path: Path, text: str, problem: str) -> None:
    feed = feed_of(tmp_path)
    (tmp_path / "products.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as raised:
        Source.of(feed, "products", tmp_path).read()
    assert str(raised.value).startswith("lookups.products of sales: ")
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


TYPES = ["string", "boolean", "int", "long", "float", "double", "decimal(10,2)", "date", "timestamp", "uuid"]
COLUMNS = [
    *(pa.array([None], kind) for kind in (pa.null(), pa.time64("us"), pa.duration("s"), pa.month_day_nano_interval())),
    *(pa.array([one]) for one in (True, 1, 1.5, "a", b"\xff", Decimal("1.5"), [["a"]], {"a": {"b": 1}})),
    pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    pa.array([["a", "b"]], pa.list_(pa.string(), 2)),
    pa.array(["a"]).dictionary_encode(),
    pa.array([0], pa.timestamp("ns", "UTC")),
    pa.array([0], pa.date64()),
]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.type))
def test_a_column_of_any_type_is_read_or_refused_in_a_line(tmp_path: Path, kind: str, column: pa.Array) -> None:
    """What raises otherwise while the service runs would fail each batch, where the last snapshot is to stay."""
    clients = {"file": "clients.csv", "key": "client"}
    lookup = {"file": "p.parquet", "key": "number", "columns": {"found": {"type": kind, "column": "given"}}}
    feed = Feed.model_validate(
        declared(name="sales", lookups={"clients": clients, "products": lookup}, rules={}, windows={})
    )
    source = Source.of(feed, "products", tmp_path)
    try:
        rows = source.typed(pa.table({"number": [1], "given": column}))
    except ConfigError as error:
        assert str(error).startswith("lookups.products of sales: given of row 1 is ")
        assert "\n" not in str(error)
    else:
        assert rows.num_rows == 1


def test_feed_check_reads_the_files_of_lookups_too(tmp_path: Path) -> None:
    feed_of(tmp_path)
    assert feed_check(tmp_path).mistakes == ()
    (tmp_path / "clients.csv").unlink()
    (tmp_path / "products.csv").write_text(PRODUCTS + "1,a,1,\n")
    assert [str(one).replace(str(tmp_path), "") for one in feed_check(tmp_path).mistakes] == [
        "/sales.toml:20: lookups.clients.file: there is no file /clients.csv",
        "/sales.toml:23: lookups.products.file: the key 1 is there more than once in number",
    ]


# How it is kept

KEYS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40, unique=True),
    st.lists(st.text(max_size=4), min_size=1, max_size=40, unique=True),
)


@examples(100)
@given(KEYS, st.data())
def test_every_key_is_found_by_binary_search_as_by_a_dictionary(keys: list[Any], data: st.DataObject) -> None:
    kind = pa.int64() if isinstance(keys[0], int) else pa.string()
    strange = st.integers(-(2**63), 2**63 - 1) if isinstance(keys[0], int) else st.text(max_size=4)
    asked = pa.array(data.draw(st.lists(st.none() | st.sampled_from(keys) | strange, max_size=30)), kind)
    rows = sorted_by_key(pa.table({KEY: pa.array(keys, kind)}))
    at, plainly = Snapshot(rows).find(asked), PlainSnapshot(rows).find(asked)
    assert at.equals(plainly)
    assert rows[KEY].take(at).to_pylist() == [key if key in keys else None for key in asked.to_pylist()]


def test_a_snapshot_has_one_name_whatever_the_order_of_its_rows_and_another_with_other_rows(tmp_path: Path) -> None:
    def saved(*prices: int | None) -> str:
        table = pa.table({KEY: pa.array(range(len(prices))), "price": pa.array(prices, pa.int64())})
        return snapshots.save(tmp_path, "x", sorted_by_key(table.take(pa.array([*range(len(prices))][::-1]))))

    assert saved(1, 2) == saved(1, 2)
    assert len({saved(1, 2), saved(1, 3), saved(1, None), saved(1), saved(1, 2, 3)}) == 5
    assert len(list(snapshots.names(tmp_path))) == 5


def test_a_missing_or_damaged_snapshot_is_named_and_not_taken_for_another(tmp_path: Path) -> None:
    of = snapshots.save(tmp_path, "x", sorted_by_key(pa.table({KEY: ["a"]})))
    path = tmp_path / f"x_{of}.arrow"
    path.write_bytes(path.read_bytes().replace(b"a", b"b"))
    with pytest.raises(StreamAppError, match="is not what was written; put it back"):
        snapshots.opened(tmp_path, "x", of)
    path.unlink()
    with pytest.raises(StreamAppError, match=r"x_.*arrow: the snapshot .* is missing"):
        snapshots.opened(tmp_path, "x", of)


@pytest.mark.proves("A batch is judged by its own reference data", "bronze")
@examples(100)
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["", "a", "b"])), min_size=1, max_size=6), st.data())
def test_the_pin_of_every_row_survives_every_merge(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int, str]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("pins")

    def file(name: object, rows: int, says: dict[bytes, bytes]) -> pq.FileMetaData:
        pq.write_table(pa.table({"n": range(rows)}).replace_schema_metadata(says), folder / f"{name}.parquet")
        return pq.read_metadata(folder / f"{name}.parquet")

    parts = [file(number, *given) for number, given in enumerate((n, pins.pinned(one)) for n, one in batches)]
    expected = [one for rows, one in batches for _ in range(rows)]
    while len(parts) > 1:
        first = data.draw(st.integers(0, len(parts) - 2))
        pair = parts[first : first + 2]
        parts[first : first + 2] = [file("m", sum(one.num_rows for one in pair), pins.merged(pair))]
    assert pins.Pins(parts[0]).of_rows(0, len(expected)).to_pylist() == expected
    assert pins.Pins(parts[0]).of_rows(1, len(expected) - 1).to_pylist() == expected[1:]


# How records are judged

Made = tuple[Feed, Path, list[str]]


def twice_taken(tmp_path: Path) -> Made:
    """A feed, its outputs' root, and two pins: in the second the prices are others, and there is a client more."""
    folder, root, found = tmp_path / "feeds", tmp_path / "out", []
    for clients, products in ((CLIENTS, PRODUCTS), (CLIENTS + "cy,Cy\n", PRODUCTS.replace("10.00", "11.00"))):
        feed = feed_of(folder, clients, products)
        lookups = lookups_of(feed, root, folder)
        lookups.begin()
        found.append(lookups.pin())
    return feed, root, found


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return twice_taken(tmp_path)


@pytest.mark.parametrize(
    ("changes", "first", "second"),
    [
        ({}, [Decimal("10.00"), "books", []], "rule:price"),
        ({"sum": 22}, "rule:price", [Decimal("11.00"), "books", []]),
        ({"product": None}, [None, None, ["cheap"]], [None, None, ["cheap"]]),
        ({"product": 2, "sum": 4000}, [Decimal("2000.00"), None, ["cheap"]], [Decimal("2000.00"), None, ["cheap"]]),
        ({"product": 3}, "unknown:product", "unknown:product"),
        ({"product": "x"}, "bad_type:product", "bad_type:product rule:price"),
        ({"buyer": {"client": "cy"}}, "unknown:buyer.client", "rule:price"),
        (
            {"buyer": {"client": "CY"}, "product": 7, "sum": -1, "at": "2026-11-27T10:00:00Z"},
            "late unknown:buyer.client unknown:product",
            "late unknown:buyer.client unknown:product",
        ),
        ({"buyer": {}, "sum": 1}, "missing:buyer.client rule:price", "missing:buyer.client rule:price"),
    ],
)
@pytest.mark.proves("A batch is judged by its own reference data", "quarantine", "silver")
def test_a_record_is_judged_by_the_snapshot_that_its_batch_is_pinned_to(
    made: Made, changes: dict[str, Any], first: object, second: object
) -> None:
    feed, root, both = made
    contract = Contract(feed, Snapshots.of(feed, root))
    for pin, expected in zip(both, (first, second), strict=True):
        verdict = contract.check(record(**changes), NOON, UNBOUNDED, pin)
        if isinstance(verdict, Rejected):
            if changes.get("product") == "x":  # a rule says nothing where what it reads is not valid
                assert verdict.reasons == ("bad_type:product",)
            else:
                assert " ".join(verdict.reasons) == expected
        else:
            price, kind, _, warnings = verdict[6:]
            assert [price, kind, warnings] == expected


RECORDS = st.builds(
    lambda client, product, count, total: record(buyer={"client": client}, product=product, count=count, sum=total),
    st.sampled_from(["ada", "cy", "x", None, 5]),
    st.sampled_from([1, 2, 3, None, "x", 1.0]),
    st.sampled_from([1, 2]),
    st.sampled_from([10, 11, 20, 22, 2000, -1, "x"]),
)


@examples(100)
@given(st.lists(st.tuples(RECORDS | st.binary(max_size=3), st.sampled_from([0, 1, 2])), max_size=12))
def test_the_fast_path_is_the_definition_with_snapshots_of_several_batches_too(
    tmp_path_factory: pytest.TempPathFactory, given_records: list[tuple[bytes, int]]
) -> None:
    folder = tmp_path_factory.mktemp("lookups")
    feed, root, both = twice_taken(folder)
    both = [*both, pins.NOTHING]  # of before the declaration: judged by the first snapshot
    values = [value for value, _ in given_records]
    by = [both[number] for _, number in given_records]
    times, planned = [NOON] * len(values), [UNBOUNDED] * len(values)
    expected = Contract(feed, Snapshots.of(feed, root, PlainSnapshot)).check_each(values, times, planned, by)
    judged = Contract(feed, Snapshots.of(feed, root)).check_all(
        pa.array(values, pa.binary()),
        pa.array(times, pa.int64()),
        pa.array(planned, pa.int64()),
        pa.array(by, pa.string()),
    )
    places, columns = judged.rows()
    kinds = [kind.arrow for kind in feed.columns.values()]
    assert [column.type for column in columns] == kinds
    rows = dict(zip(places.to_pylist(), zip(*(column.to_pylist() for column in columns), strict=True), strict=True))
    for place, verdict in enumerate(expected):
        if isinstance(verdict, Rejected):
            assert dict(judged.rejected)[place] == verdict
        else:
            assert rows[place] == tuple(
                pa.array([one], kind)[0].as_py() for one, kind in zip(verdict, kinds, strict=True)
            )
    assert len(rows) + len(judged.rejected) == len(values)


# How the driver takes them


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ("number\n", 'there is no column "price"'),
        (PRODUCTS + "1,,1,\n", "the key 1 is there more than once"),
        (None, "there is no file"),
    ],
)
def test_a_source_that_breaks_refuses_the_start_and_leaves_the_last_snapshot_while_running(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, broken: str | None, problem: str
) -> None:
    def breaks() -> None:
        path = tmp_path / "feeds" / "products.csv"
        path.unlink() if broken is None else path.write_text(broken)

    feed = feed_of(tmp_path / "feeds")
    lookups = lookups_of(feed, tmp_path / "out", tmp_path / "feeds")
    lookups.begin()
    pin, now = lookups.pin(), [0.0]
    assert set(pins.hashes_of(pin)) == set(feed.pinned.values())
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    now[0] = 1e9
    breaks()
    monkeypatch.setattr("stream_app.logs._log.propagate", True)
    assert lookups.pin() == pin
    assert lookups.failures == {"products": 1}
    assert "goes on with its last snapshot of lookups.products" in caplog.text
    (tmp_path / "feeds" / "products.csv").write_text(PRODUCTS + "3,,1,\n")
    assert lookups.pin() == pin  # it is tried again after a minute
    now[0] += 61
    assert lookups.pin() != pin
    breaks()
    with pytest.raises(ConfigError, match=problem):
        lookups_of(feed, tmp_path / "out", tmp_path / "feeds").begin()


def test_a_snapshot_stays_as_long_as_a_batch_or_a_replay_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, folder, root = feed_of(tmp_path / "feeds"), tmp_path / "feeds", tmp_path / "out"
    lookups = lookups_of(feed, root, folder)
    lookups.begin()
    output = Output(feed, root)
    now = [1e6]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for price in range(3):  # of which the middle one is named by a batch
        (folder / "products.csv").write_text(PRODUCTS.replace("10.00", str(price)))
        now[0] += 100
        output.pin = lookups.pin()
        if price == 1:
            output.take([Record(record(sum=2), at(0))], at(1))
    kept = {path.name: path for path, _ in snapshots.names(lookups.bronze.layout.lookups)}
    assert len(kept) == 5  # one of clients; of products the first, and three
    now[0] += 1e5
    lookups.pin()
    assert len(list(snapshots.names(lookups.bronze.layout.lookups))) == 5  # they are young
    for path in kept.values():
        os.utime(path, (1, 1))
    now[0] += 1e5
    named = pins.hashes_of(lookups.pin()).values()
    left = {of for _, of in snapshots.names(lookups.bronze.layout.lookups)}
    assert len(left) == 4
    assert left > {*named, *first_hashes(lookups.bronze.layout.first_lookups).values()}


def test_a_snapshot_that_died_in_the_making_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sorted_by_key(pa.table({KEY: ["a", "b"]}))

    def full(_partial: Path, _final: Path) -> None:
        raise OSError

    with monkeypatch.context() as patched, pytest.raises(OSError):
        patched.setattr(snapshots, "replace", full)
        snapshots.save(tmp_path, "clients", rows)
    assert list(tmp_path.iterdir()) == []
    kept = snapshots.save(tmp_path, "clients", rows)
    killed, young = (tmp_path / f".clients_{kept}.arrow.{pid}.tmp" for pid in (1, 2))
    for path in (killed, young):
        path.write_text("a part of it")
    os.utime(killed, (1, 1))
    assert snapshots.delete_others(tmp_path, {kept}, 10) == []
    assert {path.name for path in tmp_path.iterdir()} == {f"clients_{kept}.arrow", young.name}


def test_status_says_which_snapshot_is_in_use(tmp_path: Path) -> None:
    feed, root = feed_of(tmp_path / "feeds"), tmp_path / "out"
    lookups = lookups_of(feed, root, tmp_path / "feeds")
    lookups.begin()
    output = Output(feed, root, pin=lookups.pin())
    output.take([Record(record(), at(0))], at(1))
    (bronze, *_) = status(root, list(output.flows.values())).sinks
    assert [(one.lookup, one.rows) for one in bronze.lookups] == [("clients", 2), ("products", 2)]
    assert {one.snapshot for one in bronze.lookups} == {*pins.hashes_of(output.pin).values()}


# What the audit and a replay make of them


def sale(number: int, client: str = "ada", product: object = 1, total: float = 20, minutes: float = 0) -> Record:
    value = record(id=number, at=at(minutes).isoformat(), buyer={"client": client}, product=product, sum=total)
    return Record(value, at(minutes))


@pytest.fixture
def output(made: Made) -> Output:
    feed, root, both = made
    output = Output(feed, root)
    for number, pin in enumerate(both):
        output.pin = pin
        first = number * 10
        sales = [sale(first), sale(first + 1, total=22), sale(first + 2, "cy"), sale(first + 3, product=9)]
        output.take(sales, at(number + 1))
    return output


@pytest.mark.proves("A batch is judged by its own reference data", "quarantine", "silver")
def test_the_audit_judges_each_batch_by_its_own_snapshot(output: Output) -> None:
    assert not found(output).wrong
    rows = [row for path in output.paths("silver") for row in pq.read_table(path).to_pylist()]
    assert [(row["id"], row["price"]) for row in rows] == [(0, Decimal("10.00")), (11, Decimal("11.00"))]


def test_the_audit_finds_a_joined_value_that_is_not_the_snapshots(output: Output) -> None:
    path = output.paths("silver")[0]
    table = pq.read_table(path)
    column = table.column_names.index("price")
    table = table.set_column(column, "price", pa.array([Decimal("11.00")], table["price"].type))
    pq.write_table(table, path)
    assert "silver's row is not what the contract makes of the record" in lines(found(output))


def test_a_replay_judges_by_the_data_of_now_and_the_audit_agrees(output: Output, cli: Cli) -> None:
    """Reference data that came after the record is what a replay is for."""
    feeds = output.root.parent / "feeds"
    (feeds / "clients.csv").write_text(CLIENTS + "cy,Cy\n")
    (feeds / "products.csv").write_text(PRODUCTS + "9,late,10,\n")
    done = cli(output.root, "replay", "--feed=sales", "--reason=unknown", FEEDS="sales", FEEDS_PATH=str(feeds))
    assert done.code == 0, done.err
    (file,) = batch_files(output.flows["silver"].layout.replay, REPLAY)
    rows = pq.read_table(file.path).to_pylist()
    assert sorted((row["id"], row["price"], row["kind"]) for row in rows) == [
        (2, Decimal("10.00"), "books"),
        (3, Decimal("10.00"), "late"),
        (13, Decimal("10.00"), "late"),
    ]
    (pin,) = pins.named(pq.read_metadata(file.path))
    assert set(pins.hashes_of(pin)) == set(output.feed.pinned.values())
    output.replay(file, at(3))
    assert not found(output).wrong
    edit(file.path, lambda rows: [row | {"price": Decimal("9.00")} for row in rows])
    assert "the replayed row is not what the contract makes of the record" in lines(found(output))


# Examples


@pytest.fixture
def example(tmp_path: Path, cli: Cli) -> Callable[..., str]:
    """A function that runs the feed's example, and returns what was printed."""
    feed_of(tmp_path)
    case = tmp_path / "sales.tests" / "case"
    case.mkdir(parents=True)
    (case / "input.jsonl").write_text('{"value": ' + record(at="2026-01-01T00:00:00Z").decode() + "}\n")

    def run(code: int, **files: str) -> str:
        for name, text in files.items():
            (case / name.replace("_", ".")).write_text(text)
        done = cli(tmp_path, "feed-test", FEEDS_PATH=str(tmp_path))
        assert done.code == code, done.out + done.err
        return done.out + done.err

    return run


def test_an_example_is_judged_by_the_declared_file_or_by_its_own_rows(example: Callable[..., str]) -> None:
    row = {"id": 1, "at": "2026-01-01T00:00:00Z", "client": "ada", "product": 1, "count": 2, "sum": 20}
    joined = {"price": 10, "kind": "books", "since": "2026-01-01", "warnings": []}
    place = {"kafka_ts": "2026-01-01T00:00:00Z", "topic": "sales", "partition": 0, "offset": 0}
    example(0, silver_jsonl=json.dumps(row | joined | place))
    printed = example(1, clients_csv="client\nbob\n")
    assert "unknown:buyer.client" in printed
