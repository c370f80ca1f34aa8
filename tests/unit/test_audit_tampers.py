"""Nobody fools the audit: each layer and each kind of sink is tampered with, in every way that a table lists."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_app.admission import declared
from stream_app.cli.main import main
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import IDENTIFIER
from stream_app.flows import chain, unread
from stream_app.flows.flow import Flow
from stream_app.ops.audit import audit, work
from stream_app.ops.audit.late import bound_of
from stream_app.ops.audit.report import Verdict
from stream_app.sinks.registry import flows
from stream_app.storage import began, idle_clocks
from stream_app.storage.batch_files import batch_file
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.offsets import in_layer
from stream_app.storage.planned import merged
from tests.helpers import Row, agree, app_settings, flow_of, plan, reconciled
from tests.outputs import Output, Record
from tests.unit.audited import FEED, START, at, edit, found, lines, made, record, with_tables

IDLE = FEED.replace("[event_time]\n", '[event_time]\nidle = "1 minute"\n')


@pytest.mark.parametrize(
    ("text", "log", "says", "made_at", "is_late"),
    [
        (IDLE, 60, 60, 80, True),
        (IDLE, 90, 60, 80, True),
        (IDLE, 7, 7, 80, False),
        (IDLE, 7, 60, 80, False),
        (IDLE, 60, 60, 6, False),
        (FEED, 0, 60, 80, False),
        (FEED, 0, 10**6, 80, False),
        (FEED, 60, 60, 80, True),
    ],
    ids=[
        "as the log tells",
        "the log goes on",
        "not far enough",
        "further than the log tells",
        "ahead of its own file",
        "never declared",
        "never declared, and far ahead",
        "declared before",
    ],
)
def test_a_clock_that_went_on_without_a_record_is_believed_as_far_as_the_log_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, log: int, says: int, made_at: int, *, is_late: bool
) -> None:
    """The file of late rows says how far the clock had gone, and no row of silver tells it. Times are in minutes."""
    output = made(text, "main", tmp_path)
    with_tables(output, monkeypatch)
    emptied_into_late("csv")(output)
    path, flow = late_path(output, "csv"), output.flows["csv"]
    rows = [row for row in pq.read_table(path).to_pylist() if row["ts"] < at(6)]
    edit(path, lambda _: rows)
    table = pq.read_table(path)
    clocked = {**(table.schema.metadata or {}), **idle_clocks.pinned(us(says))}
    pq.write_table(table.replace_schema_metadata(clocked), path)
    path.rename(batch_file(path.parent, flow.layout.late_name, "parquet", us(made_at) // 1000, 2).path)
    goes_on_by_itself(flow, us(log))
    wrong = [line for line in found(output).wrong if "late_csv holds a row that was not late" in line]
    assert bool(wrong) is not is_late


def test_the_clock_of_a_merged_file_is_not_that_of_its_first_batch(tmp_path: Path) -> None:
    single = batch_file(tmp_path, "late_csv", "parquet", us(6) // 1000, 2)
    merged_one = batch_file(tmp_path, "late_csv", "parquet", us(6) // 1000, 2, 9)
    assert bound_of(single, us(80)) == us(6) + 1_000_000
    assert bound_of(merged_one, us(80)) == us(80)


def us(minutes: float) -> int:
    """That many minutes after START, in microseconds since the epoch; 0 is never."""
    return int(at(minutes).timestamp() * 1_000_000) if minutes else 0


def goes_on_by_itself(flow: Flow, clock: int) -> None:
    """Have the query's newest offset say that its clock went so far without a record."""
    committed = flow.checkpoint.last_committed()
    assert committed
    end = replace(in_layer(committed.end), idle_clock=clock)
    time_ms = int(at(91).timestamp() * 1000)
    plan(flow, committed.batch_id, end.as_json(), committed.watermark_ms, time_ms)


def test_what_is_right_is_right_in_every_layer(output: Output) -> None:
    report = found(output)
    assert (report.wrong, report.not_audited, report.verdict) == ([], [], Verdict.RIGHT)
    own = [count for count in report.counts if not count.startswith(("main.", "late_", "postgres_"))]
    assert {count: report.counts[count] for count in own} == {
        "bronze": 19,
        "silver": 13,
        "quarantine": 4,
        "replayed": 0,
        "pending": 0,
        "offsets without a record in bronze": 0,
        "repeats": 2,
        "csv": 8,
        "due": 8,
        "raw_csv": 13,
        "own": 13,
    }
    assert {layer: report.counts[layer] for layer in ("late_csv", "main.repeats", "late_repeats")} == {
        "late_csv": 1,
        "main.repeats": 8,
        "late_repeats": 1,
    }
    assert report.beyond == ["main.table: what was sent to the topic elsewhere is not read back"]


def changed(_row: int = 0, **values: Any) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [one | values if number == _row else one for number, one in enumerate(rows)]


def without(row: int = 0) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [one for number, one in enumerate(rows) if number != row]


def doubled(rows: list[Row]) -> list[Row]:
    return [*rows, rows[0]]


def late_path(output: Output, sink: str) -> Path:
    flow = output.flows[sink]
    return next(iter(sorted(flow.layout.late.glob("*.parquet"))))


def file_of(sink: str, number: int, change: Callable[[list[Row]], list[Row]]) -> Callable[[Output], object]:
    """Change the rows of a file of the sink."""
    return lambda output: edit(output.paths(sink)[number], change)


def late_file_of(sink: str, change: Callable[[list[Row]], list[Row]]) -> Callable[[Output], object]:
    return lambda output: edit(late_path(output, sink), change)


def deleted(sink: str, number: int) -> Callable[[Output], object]:
    return lambda output: output.paths(sink)[number].unlink()


def cell(old: str, new: str) -> Callable[[Output], object]:
    """Change the text of the CSV's files."""

    def change(output: Output) -> None:
        path = next(path for path in output.paths("raw_csv") if old.encode() in path.read_bytes())
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))

    return change


def emptied_into_late(sink: str) -> Callable[[Output], object]:
    """Gold counts nothing any more; all its rows are late, it says."""

    def change(output: Output) -> None:
        flow = output.flows[sink]
        for path in output.paths(sink):
            edit(path, lambda _: [])
        rows = []
        for row in output.silver:
            start = row["ts"].replace(second=0, microsecond=0)
            window = (
                {"window_start": start, "window_end": start + timedelta(minutes=1)}
                if flow.kind.name in flow.feed.windows
                else {}
            )
            rows.append(window | row)
        edit(late_path(output, sink), lambda _: rows)

    return change


def of_bronze(output: Output, offset: int) -> Row:
    found = (row for path in output.paths("bronze") for row in pq.read_table(path).to_pylist())
    return next(row for row in found if row["offset"] == offset)


def kept_in_silver(offset: int) -> Callable[[Output], object]:
    """Silver keeps a record that it should have left out."""

    def change(output: Output) -> None:
        record = of_bronze(output, offset)
        place = {name: record[name] for name in ("kafka_ts", "topic", "partition", "offset")}
        edit(output.paths("silver")[1], lambda rows: [*rows, rows[0] | {"id": "r0"} | place])

    return change


def quarantined(offset: int) -> Callable[[Output], object]:
    """Quarantine holds a valid record."""

    def change(output: Output) -> None:
        row = of_bronze(output, offset)
        row["value_text"], row["reasons"] = row["value"].decode(), ["not_json"]
        del row["headers"]
        edit(output.paths("quarantine")[0], lambda rows: [*rows, row])

    return change


def in_table(sink: str, change: Callable[[list[Row]], list[Row]]) -> Callable[[Output], object]:
    def changing(output: Output) -> None:
        output.tables[sink] = change(output.tables[sink])

    return changing


UNLIKE_SILVER = "silver's row is not what the contract makes of the record: 1, "
UNLIKE_QUARANTINE = "quarantine's row is not what the contract makes of the record: 1, "
LOST = "lost: in bronze, not in silver or quarantine, and no repeat: "
AGAIN = "silver kept a row though it held one of its key within the time in which repeats are dropped: 1, "

TAMPERS: dict[str, tuple[Callable[[Output], object], str]] = {
    "silver: a text": (file_of("silver", 0, changed(last="x")), UNLIKE_SILVER + "(0, 0, last)"),
    "silver: null": (file_of("silver", 0, changed(first=None)), UNLIKE_SILVER + "(0, 0, first)"),
    "silver: a cent": (file_of("silver", 0, changed(order=Decimal("12.51"))), UNLIKE_SILVER + "(0, 0, order)"),
    "silver: a microsecond": (
        file_of("silver", 0, changed(ts=START + timedelta(microseconds=1))),
        UNLIKE_SILVER + "(0, 0, ts)",
    ),
    "silver: two columns": (file_of("silver", 0, changed(topic="t", id="x")), UNLIKE_SILVER + "(0, 0, id topic)"),
    "silver: Kafka's time": (file_of("silver", 0, changed(kafka_ts=at(9))), UNLIKE_SILVER + "(0, 0, kafka_ts)"),
    "silver: a row dropped": (file_of("silver", 0, without(1)), LOST + "1, (0, 1)"),
    "silver: all rows dropped": (file_of("silver", 0, lambda _: []), LOST + "4, (0, 0), (0, 1), (0, 3), (0, 5)"),
    "silver: a row doubled": (file_of("silver", 0, doubled), "doubled in silver: 1, (0, 0)"),
    "silver: a row of nowhere": (file_of("silver", 0, changed(offset=99)), "in silver, not in bronze: 1, (0, 99)"),
    "silver: another partition": (file_of("silver", 0, changed(partition=5)), "in silver, not in bronze: 1, (5, 0)"),
    "silver: a repeat kept": (kept_in_silver(5), AGAIN + "(0, 5)"),
    "silver: a refused one kept": (kept_in_silver(7), "in silver, though the contract refuses it: 1, (0, 7)"),
    "silver: a key used again": (file_of("silver", 4, without(0)), LOST + "1, (0, 14)"),
    "silver: a file deleted": (deleted("silver", 1), "silver has lost the file of batch 1"),
    "silver: its newest file deleted": (deleted("silver", -1), "silver has lost the file of batch 5"),
    "silver: its first file deleted": (deleted("silver", 0), "silver has lost the file of batch 0"),
    "quarantine: a reason": (
        file_of("quarantine", 0, changed(reasons=["empty"])),
        "quarantine's reasons are not the contract's: 1, (0, 2)",
    ),
    "quarantine: a reason more": (
        file_of("quarantine", 1, changed(reasons=["bad_type:order", "late"])),
        "quarantine's reasons are not the contract's: 1, (0, 7)",
    ),
    "quarantine: the value": (file_of("quarantine", 0, changed(value=b"y")), UNLIKE_QUARANTINE + "(0, 2, value)"),
    "quarantine: its text": (
        file_of("quarantine", 0, changed(value_text="y")),
        UNLIKE_QUARANTINE + "(0, 2, value_text)",
    ),
    "quarantine: the key": (file_of("quarantine", 0, changed(key=None)), UNLIKE_QUARANTINE + "(0, 2, key)"),
    "quarantine: a row dropped whose key silver holds": (file_of("quarantine", 1, without(1)), LOST + "1, (0, 8)"),
    "quarantine: a row doubled": (file_of("quarantine", 1, doubled), "doubled in quarantine: 1, (0, 7)"),
    "quarantine: a valid record": (quarantined(0), "in quarantine, though the contract takes it: 1, (0, 0)"),
    "quarantine: a repeat moved there": (quarantined(5), "in quarantine, though the contract takes it: 1, (0, 5)"),
    "quarantine: a file deleted": (deleted("quarantine", 1), "quarantine has lost the file of batch 1"),
    "bronze: a value": (
        file_of("bronze", 0, changed(value=b"{}")),
        "in silver, though the contract refuses it: 1, (0, 0)",
    ),
    "bronze: a time": (file_of("bronze", 0, changed(kafka_ts=at(0.1))), UNLIKE_SILVER + "(0, 0, kafka_ts)"),
    "bronze: a row dropped": (file_of("bronze", 0, without(1)), "in silver, not in bronze: 1, (0, 1)"),
    "bronze: a refused one dropped": (file_of("bronze", 0, without(2)), "in quarantine, not in bronze: 1, (0, 2)"),
    "bronze: a row doubled": (file_of("bronze", 0, doubled), "doubled in bronze: 1, (0, 0)"),
    "bronze: a file deleted": (deleted("bronze", 1), "bronze has lost the file of batch 1"),
    "csv: a cell": (cell("12.50", "12.51"), "raw_csv is not silver: 2, "),
    "csv: an apostrophe": (cell("'=b", "=b"), "raw_csv is not silver: 2, "),
    "csv: a row dropped": (cell("r9,2026-11-27T11:19:30.000000Z,12.50,e,go\r\n", ""), "raw_csv is not silver: 1, (r9"),
    "csv: an empty text filled": (cell(",a,\r\n", ",a,x\r\n"), "raw_csv is not silver: 2, "),
    "csv: a file deleted": (deleted("raw_csv", 1), "raw_csv is not silver: 2, "),
    "lake: a text": (file_of("own", 0, changed(last="x")), "own is not silver: 2, "),
    "lake: a row dropped": (file_of("own", 0, without()), "own is not silver: 1, "),
    "lake: a row doubled": (file_of("own", 0, doubled), "own is not silver: 1, "),
    "lake: a file deleted": (deleted("own", 0), "own is not silver: 3, "),
    **{
        f"window: {measure}": (file_of("csv", 0, changed(0, **{measure: value})), "csv is not what silver's final win")
        for measure, value in {"back": 9, "total": Decimal("1.00"), "mean": Decimal("12.500002"), "rows": None}.items()
    },
    "window: distinct": (
        file_of("due", 0, changed(missing=9)),
        "due is not what silver's final windows are: 1, ",
    ),
    "window: its end": (file_of("csv", 0, changed(window_end=at(9))), "csv is not what silver's final windows"),
    "window: dropped": (file_of("csv", 0, without()), "csv is not what silver's final windows are: 1, "),
    "window: doubled": (file_of("csv", 0, doubled), "a window of csv is there twice: 1, "),
    "window: a file deleted": (deleted("csv", 0), "csv is not what silver's final windows"),
    "window: emptied into late": (emptied_into_late("csv"), "late_csv holds a row that was not late: "),
    "window: late dropped": (late_file_of("csv", without()), "csv is not what silver's final windows are: 1, "),
    "late: a text": (late_file_of("csv", changed(last="x")), "late_csv holds a row that is not silver's: 1, (0, 11)"),
    "late: Kafka's time": (late_file_of("csv", changed(kafka_ts=at(1))), "late_csv holds a row that is not silver's"),
    "late: a row doubled": (late_file_of("csv", doubled), "a row of late_csv is there twice: 1, (0, 11"),
    "late: another window": (
        late_file_of("csv", changed(window_start=at(1), window_end=at(2))),
        "late_csv holds a row with a window that is not its own: 1, (0, 11",
    ),
    "late: a longer window": (
        late_file_of("csv", changed(window_end=at(2))),
        "late_csv holds a row with a window that is not its own: 1, (0, 11",
    ),
    "session: events": (
        file_of("repeats", 0, changed(events=9)),
        "repeats is not what silver's final sessions are: 2, ",
    ),
    "session: its end": (
        file_of("repeats", 0, changed(outcome="x")),
        "repeats is not what silver's final sessions are",
    ),
    "session: dropped": (file_of("repeats", 0, without()), "repeats is not what silver's final sessions are: 1, "),
    "session: doubled": (file_of("repeats", 0, doubled), "a session of repeats is there twice: 1, "),
    "session: emptied into late": (emptied_into_late("repeats"), "late_repeats holds a row that was not late: "),
    "session: late doubled": (late_file_of("repeats", doubled), "a row of late_repeats is there twice: 1, "),
    "table: a measure": (in_table("postgres_end", changed(back=9)), "postgres_end is not what silver's final windows"),
    "table: a row dropped": (in_table("postgres_end", without()), "postgres_end is not what silver's final windows"),
    "table: a session": (in_table("postgres_bronze", changed(events=9)), "postgres_bronze is not what silver's final"),
    "table: a late row": (
        late_file_of("postgres_end", changed(last="x")),
        "late_postgres_end holds a row that is not silver's: 1, (0, 11)",
    ),
}


def rounds() -> Iterator[tuple[str, ...]]:
    """The tampers, one of each layer at once where one does not hide the other."""
    groups: dict[str, list[str]] = {}
    for tamper in TAMPERS:
        layer = tamper.partition(":")[0]
        groups.setdefault("window" if layer == "late" else layer, []).append(tamper)
    yield from ((tamper,) for layer in ("silver", "bronze") for tamper in groups.pop(layer))
    yield from (tuple(filter(None, tampers)) for tampers in zip_longest(*groups.values()))


@pytest.mark.parametrize("tampers", list(rounds()), ids=", ".join)
@pytest.mark.proves("Files that people touch are noticed")
def test_every_tamper_is_named(output: Output, tampers: tuple[str, ...]) -> None:
    for tamper in tampers:
        TAMPERS[tamper][0](output)
    report = found(output)
    wrong = "\n".join(report.wrong)
    assert [tamper for tamper in tampers if TAMPERS[tamper][1] not in wrong] == [], report.wrong
    assert report.verdict is Verdict.WRONG


REST = '"ts": "%s", "order": 1, "first": "a", "last": "b"'
ODD = {
    "its key twice, the last one counts": f"""{{"user's id": "new", "user's id": "r0", {REST}}}""",
    "half a character where nobody reads": f"""{{"user's id": "r0", {REST}, "z": "\\ud800"}}""",
    "its key by escapes": f"""{{"user's id": "\\u00720", {REST}}}""",
}


@pytest.mark.parametrize("odd", ODD)
def test_a_repeat_is_one_however_it_is_spelled(output: Output, odd: str) -> None:
    output.take([Record((ODD[odd] % at(92).isoformat()).encode(), at(92))], at(93))
    before = len(output.silver)
    report = found(output)
    assert (report.wrong, report.counts["repeats"], before) == ([], 3, 13)
    edit(output.paths("silver")[-2], without(0))  # the row of r0 that it repeats
    assert LOST in lines(found(output))


def test_a_table_that_no_database_shows_is_not_audited(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    report = found(output)
    assert report.wrong == []
    assert [line.partition(":")[0] for line in report.not_audited] == ["main.postgres_end", "main.postgres_bronze"]
    assert report.verdict is Verdict.NOT_AUDITED


def test_offsets_that_could_not_be_read_are_not_audited(output: Output) -> None:
    unread.note(output.flows["bronze"], 2, [unread.Unread(0, 100, 110, "failed CRC32C check")])
    report = found(output)
    assert report.not_audited == ["bronze: batch 2 stepped over partition 0, offsets 100 to 109: failed CRC32C check"]
    assert (report.wrong, report.verdict) == ([], Verdict.NOT_AUDITED)


def with_a_rule(output: Output) -> Flow:
    declared = FEED.replace('type = "decimal(10,2)"', 'type = "decimal(10,2)"\nrange = [0, 12]')
    feed = Feed.model_validate(tomllib.loads(declared, parse_float=Decimal) | {"name": "main"})
    return flow_of(feed, "bronze", output.root)


def test_verdicts_of_other_rules_are_not_audited(output: Output) -> None:
    """Before the next start, and after it: but those of batches to come are."""
    bronze = with_a_rule(output)
    other = "records that other rules judged than those that the feed has now"
    for _ in range(2):
        report = reconciled(bronze)
        assert (report.wrong, report.not_audited) == ([], [f"13 {other}"])
        agree(bronze)
    output.take([record(20, 92, order=13), record(21, 92, order=1)], at(93))
    report = reconciled(bronze)
    assert report.wrong == ["in silver, though the contract refuses it: 1, (0, 19)"]
    assert report.not_audited == [f"13 {other}"]


@pytest.mark.parametrize(
    "change",
    [
        ('type = "decimal(10,2)"', 'type = "decimal(10,2)"\npath = "price"\ndefault = 1'),
        ('type = "decimal(10,2)"', 'type = "decimal(10,2)"\npath = "other.order"\nrequired = true\ndefault = 12.5'),
    ],
)
def test_rows_of_another_default_or_path_are_not_audited_and_other_columns_are(
    output: Output, change: tuple[str, str]
) -> None:
    silver = output.flows["silver"]
    silver.layout.owner.write_text(json.dumps(declared.noted(silver)))
    feed = Feed.model_validate(tomllib.loads(FEED.replace(*change), parse_float=Decimal) | {"name": "main"})
    bronze = flow_of(feed, "bronze", output.root)
    agree(bronze)
    report = reconciled(bronze)
    assert report.wrong == []
    assert any("records that other rules judged" in line for line in report.not_audited)
    edit(output.paths("silver")[0], lambda rows: [{**rows[0], "first": "forged"}, *rows[1:]])
    assert any(line.endswith("first)") for line in reconciled(bronze).wrong), "what is made as before is compared"


def prune(output: Output, sink: str, up_to: int) -> None:
    """Delete the files of the batches up to one, as RETENTION=prune does."""
    flow = output.flows[sink]
    chain.let_go(flow, up_to)
    for file in flow.files(up_to=up_to):
        file.path.unlink()


PRUNED = ("bronze", "silver", "quarantine", "raw_csv", "csv", "due", "repeats", "own")


@pytest.mark.parametrize(
    ("pruned", "up_to"),
    [*(((sink,), 1) for sink in PRUNED), (PRUNED, 0), (PRUNED, 2), (PRUNED[:2], 2), (("silver", "csv"), 2)],
)
def test_what_was_pruned_is_not_audited_and_what_is_left_is(
    output: Output, pruned: tuple[str, ...], up_to: int
) -> None:
    for sink in pruned:
        prune(output, sink, up_to)
    report = found(output, retention="prune")
    assert report.wrong == []
    assert report.verdict is Verdict.NOT_AUDITED
    assert {line.partition(":")[0] for line in report.not_audited} >= {*pruned}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (file_of("silver", -1, changed(last="x")), UNLIKE_SILVER),
        (file_of("silver", -1, changed(offset=999)), "in silver, not in bronze: 1, (0, 999)"),
        (deleted("silver", 0), "silver has lost the file of batch"),
        (deleted("silver", -1), "silver has lost the file of batch 5"),
        (deleted("bronze", -1), "bronze has lost the file of batch 5"),
        (file_of("bronze", -1, changed(value=b"x")), "in silver, though the contract refuses it"),
        (file_of("csv", -1, changed(back=9)), "csv is not what silver's final windows"),
        (file_of("csv", -1, doubled), "a window of csv is there twice"),
        (file_of("repeats", -1, changed(events=9)), "repeats is not what silver's final sessions"),
        (file_of("own", -1, changed(last="x")), "own is not silver"),
        (file_of("own", -1, without(0)), "own lacks rows of silver"),
        (cell("r11,", "rX,"), "raw_csv is not silver"),
        (deleted("raw_csv", -1), "raw_csv is not silver"),
    ],
)
def test_of_pruned_outputs_a_tamper_is_named(output: Output, change: Callable[[Output], object], expected: str) -> None:
    for sink in PRUNED:
        prune(output, sink, 1)
    change(output)
    report = found(output, retention="prune")
    assert expected in "\n".join(report.wrong), lines(report)
    assert report.verdict is Verdict.WRONG


def test_an_output_path_that_is_not_there_or_empty_is_refused(output: Output, tmp_path: Path) -> None:
    made, unused = flows([output.feed], tmp_path / "elsewhere"), app_settings(tmp_path)
    with pytest.raises(ConfigError, match=r"^OUTPUT_PATH: there is no folder .*elsewhere"):
        audit(made, unused.servers, unused.max_files_per_sink)
    (tmp_path / "elsewhere" / "other_feed").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"^OUTPUT_PATH: .*elsewhere holds nothing of main"):
        audit(made, unused.servers, unused.max_files_per_sink)


WORDS = """order group table all end case default select from where limit show check column main temp system user union
values memory public json due missing repeats repeat replayed csv for_csv for_w own gold bar back first last ended
window rows file batch count sum key value headers timestamp reasons warnings"""


@pytest.mark.parametrize("first", range(0, len(WORDS.split()), 9))
def test_feeds_may_call_things_as_they_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Each word is the name of a field, a window, a session, a lake and a measure of some feed."""
    words = WORDS.split()
    names = [words[(first + number) % len(words)] for number in range(9)]
    assert all(IDENTIFIER.fullmatch(name) for name in names)
    ident, number, key, end, window, slide, session, lake, measure = names
    declared = FEED
    for old, new in {
        "[windows.csv]": f"[windows.{window}]",
        "[windows.due]": f"[windows.{slide}]",
        "[sessions.repeats]": f"[sessions.{session}]",
        "[sinks.own]": f"[sinks.{lake}]",
        "[sinks.table]": "[sinks.sent]",
        'of = "csv"': f'of = "{window}"',
        'of = "repeats"': f'of = "{session}"',
        "[fields.id]": f"[fields.{ident}]",
        'key = "id"': f'key = "{ident}"',
        "[fields.order]": f'[fields.{number}]\npath = "order"',
        "(order)": f"({number})",
        "[fields.first]": f'[fields.{key}]\npath = "first"',
        'key = "first"': f'key = "{key}"',
        '["first"]': f'["{key}"]',
        "(first)": f"({key})",
        "[fields.last]": f'[fields.{end}]\npath = "last"',
        "{ last =": f"{{ {end} =",
        "{ back =": f"{{ {measure} =",
    }.items():
        assert old in FEED, old
        declared = declared.replace(old, new.replace("", "\0"))  # what is replaced is not replaced again
    declared = declared.replace("\0", "")
    output = made(declared, measure, tmp_path)
    with_tables(output, monkeypatch)
    report = found(output)
    assert report.wrong == [], declared
    edit(output.paths(window)[0], changed(0, **{measure: 99}))
    assert f"{window} is not what silver's final windows" in lines(found(output))


def merge(output: Output, sink: str, first: int, last: int) -> None:
    """Merge the files of those batches into one, as RETENTION=compact does."""
    flow = output.flows[sink]
    files = [file for file in flow.files() if first <= file.first and file.last <= last]
    if len(files) < 2:
        return
    time_ms = int(files[0].time.timestamp() * 1000)
    path = batch_file(flow.layout.output, sink, flow.extension, time_ms, files[0].first, files[-1].last).path
    if flow.sink == "raw_csv":
        path.write_bytes(files[0].path.read_bytes())
        assert flow.form
        flow.form.merge(cast(Hadoop, None), [file.path for file in files], path)
    else:
        parts = [pq.read_metadata(file.path) for file in files]
        says = {**merged(parts), **began.merged(parts)}
        rows = pa.concat_tables([pq.read_table(file.path).replace_schema_metadata(None) for file in files])
        pq.write_table(rows.replace_schema_metadata(says), path)
    for file in files:
        file.path.unlink()


def merge_all(output: Output, first: int = 0, last: int = 3) -> None:
    for sink in ("bronze", "silver", "quarantine", "raw_csv", "csv", "due", "repeats"):
        merge(output, sink, first, last)


def test_merged_files_are_right_and_tampers_in_them_are_named(output: Output) -> None:
    merge_all(output)
    report = found(output)
    assert (report.wrong, report.not_audited) == ([], [])
    edit(output.paths("silver")[0], changed(last="x"))
    edit(output.paths("quarantine")[0], without(1))
    wrong = lines(found(output))
    assert UNLIKE_SILVER + "(0, 0, last)" in wrong
    assert LOST + "1, (0, 7)" in wrong


def test_a_key_that_is_used_again_is_missed_though_it_stood_in_a_merged_file(output: Output) -> None:
    """An hour has passed since the row that it would repeat: the file says so of its batches."""
    merge(output, "silver", 0, 4)
    (row,) = [n for n, row in enumerate(pq.read_table(output.paths("silver")[0]).to_pylist()) if row["offset"] == 14]
    edit(output.paths("silver")[0], without(row))
    assert LOST + "1, (0, 14)" in lines(found(output))


def test_files_of_older_versions_do_not_say_it_and_are_audited_by_bounds(tmp_path: Path) -> None:
    output = made(FEED, "main", tmp_path, says_batches=False)
    assert found(output).wrong == []
    merge_all(output)
    assert found(output).wrong == []
    edit(output.paths("silver")[1], without(0))  # after the merged files
    assert LOST + "1, (0, 14)" in lines(found(output))


def test_many_records_are_judged_by_several_processes(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_FEW_RECORDS", 0)
    assert found(output).wrong == []
    edit(output.paths("quarantine")[0], changed(reasons=["empty"]))
    assert "quarantine's reasons are not the contract's: 1, (0, 2)" in lines(found(output))


def test_the_command_s_exit_code_is_the_verdict_and_each_line_says_which_it_counts_for(
    output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feeds = tmp_path / "feed files"
    feeds.mkdir()
    (feeds / "main.toml").write_text(FEED)
    for name, value in {"FEEDS_PATH": feeds, "OUTPUT_PATH": output.root, "GOLD_PATH": tmp_path / "gold"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("FEEDS", "main")

    def told(*options: str) -> tuple[int, list[str]]:
        code = main(["audit", *options])
        return code, capsys.readouterr().out.splitlines()

    sent = "main.table: what was sent to the topic elsewhere is not read back"
    code, said = told()
    assert (code, said[-2:]) == (0, [f"BEYOND AN AUDIT {sent}", "nothing lost, nothing twice"])
    assert not any(line.startswith(("NOT AUDITED", "WRONG")) for line in said)

    prune(output, "silver", 1)
    monkeypatch.setenv("RETENTION", "prune")
    code, said = told()
    assert (code, said[-1]) == (3, "nothing lost, nothing twice in what was looked at; not all was")
    assert any(line.startswith("NOT AUDITED ") for line in said)
    code, said = told("--format=json")
    (report,) = json.loads("\n".join(said))
    assert (code, report["verdict"]) == (3, "not audited")

    edit(output.paths("silver")[0], changed(last="x"))
    code, said = told()
    assert code == 1
    assert said[-1].endswith(" things are wrong")
    assert any(line.startswith(f"WRONG {UNLIKE_SILVER}") for line in said)
