"""The landing zone: names say which offsets a file holds, lines give back the bytes that came, turns lose nothing."""

from __future__ import annotations

import errno
import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from stream_app.errors import ConfigError, StreamAppError, no_room_is_expected
from stream_app.landing.land import turns
from stream_app.landing.lines import Header, Writer, encoded, line_of, read
from stream_app.landing.ranges import Ranges, joined, of_files, overlap, without
from stream_app.landing.staged import Staged
from stream_app.landing.zone import LandedFile, Zone, behind, overlaps
from tests.examples import examples
from tests.unit.conftest import Cli

NOW = datetime(2026, 11, 21, 1, 20, 30, tzinfo=UTC)
TOPICS = st.from_regex(r"\A[A-Za-z0-9._-]{1,249}\Z").filter(lambda topic: topic not in {".", ".."})
OFFSETS = st.integers(0, 2**63 - 1)


def message(offset: int, value: bytes | None, **given: Any) -> Message:
    made: dict[str, Any] = {"topic": "t", "partition": 3, "offset": offset, "value": value, "timestamp": (1, 5)}
    return Message(**{**made, **given})


def touch(zone: Zone, partition: int, first: int, last: int, time: datetime = NOW) -> Path:
    path = zone.file(time, partition, first, last).path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@given(topic=TOPICS, partition=st.integers(0, 2**31 - 1), offsets=st.tuples(OFFSETS, OFFSETS).map(sorted))
@examples(200)
def test_a_name_says_what_it_was_made_of_whatever_the_topic_is_called(
    topic: str, partition: int, offsets: list[int]
) -> None:
    zone = Zone(Path("/landing"), topic)
    file = zone.file(NOW, partition, *offsets)
    assert zone.parse(file.path) == file
    assert (file.partition, file.first, file.last) == (partition, *offsets)
    assert file.hour == NOW.replace(minute=0, second=0)
    assert len(file.path.name.encode()) <= 255
    assert file.path.parts[2:-1] == (topic, "date=2026-11-21", "hour=01")


@pytest.mark.parametrize(
    "name",
    ["t_p0_0-9.jsonl", "x_p0_0-9.jsonl.zst", "t_p0_0.jsonl.zst", "t_p-1_0-9.jsonl.zst", "t_p0_0-9 copy.jsonl.zst"],
)
def test_names_that_no_run_gives_are_passed_over(tmp_path: Path, name: str) -> None:
    zone = Zone(tmp_path, "t")
    path = touch(zone, 0, 10, 19)
    (path.parent / name).touch()
    (zone.folder / "date=2026-99-99" / "hour=01").mkdir(parents=True)
    (zone.folder / "date=2026-99-99" / "hour=01" / "t_p0_0-9.jsonl.zst").touch()
    assert [file.path for file in zone.files()] == [path]


def test_a_name_whose_offsets_cannot_be_is_refused(tmp_path: Path) -> None:
    zone = Zone(tmp_path, "t")
    path = touch(zone, 0, 1, 5)
    path.rename(path.with_name("t_p0_5-1.jsonl.zst"))
    with pytest.raises(ConfigError, match=r"t_p0_5-1\.jsonl\.zst: its name has no offsets"):
        zone.files()


def test_two_files_of_the_same_offsets_are_refused_by_name(tmp_path: Path) -> None:
    zone = Zone(tmp_path, "t")
    one, other = touch(zone, 0, 0, 99), touch(zone, 0, 50, 50, NOW + timedelta(hours=1))
    touch(zone, 1, 0, 99)
    with pytest.raises(ConfigError, match="hold the same offsets") as refused:
        zone.files()
    assert str(one) in str(refused.value)
    assert str(other) in str(refused.value)


FILES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 20)).map(
        lambda drawn: LandedFile(drawn[0], drawn[1], drawn[1] + drawn[2], NOW, Path("x"))
    ),
    max_size=8,
)


def covered(files: list[LandedFile]) -> list[tuple[int, int]]:
    return [(file.partition, offset) for file in files for offset in range(file.first, file.last + 1)]


def offsets_of(ranges: Ranges) -> list[tuple[int, int]]:
    return [
        (p, offset) for p, own in sorted(ranges.items()) for first, last in own for offset in range(first, last + 1)
    ]


@given(one=FILES, other=FILES)
@examples(300)
def test_ranges_are_sets_of_offsets(one: list[LandedFile], other: list[LandedFile]) -> None:
    first, second = of_files(one), of_files(other)
    held, others = {*covered(one)}, {*covered(other)}
    assert offsets_of(joined(first, second)) == sorted(held | others)
    assert offsets_of(without(first, second)) == sorted(held - others)
    assert offsets_of(overlap(first, second)) == sorted(held & others)
    for own in joined(first, second).values():
        assert all(start > end + 1 for (_, end), (start, _) in pairwise(own)), "ranges that meet are one"


@given(files=FILES)
@examples(300)
def test_ranges_hold_exactly_the_offsets_of_the_files_and_a_rerun_starts_behind_them(files: list[LandedFile]) -> None:
    places = covered(files)
    held = offsets_of(of_files(files))
    assert held == sorted({*places})
    assert bool([*overlaps(sorted(files))]) == (len(places) != len({*places}))
    for partition, end in behind(files).items():
        assert end == max(offset for p, offset in places if p == partition) + 1


@given(
    spans=st.dictionaries(st.integers(0, 4), st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted)),
    most=st.integers(1, 20),
)
@examples(300)
def test_turns_read_each_offset_once_in_order_and_no_partition_waits_for_another(
    spans: dict[int, list[int]], most: int
) -> None:
    starts, ends = {p: span[0] for p, span in spans.items()}, {p: span[1] for p, span in spans.items()}
    parts = [*turns(starts, ends, most)]
    for partition, (start, end) in spans.items():
        offsets = [o for part in parts if part.partition == partition for o in range(part.start, part.end)]
        assert offsets == [*range(start, end)]
    assert all(0 < part.offsets <= most for part in parts)
    taken = dict.fromkeys(spans, 0)
    for part in parts:
        others = [taken[p] for p in spans if starts[p] + taken[p] * most < ends[p]]
        assert taken[part.partition] <= min(others)
        taken[part.partition] += 1


BYTES = st.one_of(st.none(), st.binary(), st.text().map(lambda text: text.encode("utf-8", "ignore")))


@given(
    records=st.lists(st.tuples(BYTES, BYTES, st.none() | st.lists(st.tuples(st.text("abc"), BYTES)))),
    time=st.integers(-(2**63), 2**63 - 1),
)
@examples(200)
def test_lines_give_back_the_bytes_that_came(tmp_path_factory: pytest.TempPathFactory, records: Any, time: int) -> None:
    path = tmp_path_factory.mktemp("lines") / "x.zst"
    sent = [
        message(i, value, key=key, headers=headers, timestamp=(1, time))
        for i, (value, key, headers) in enumerate(records)
    ]
    writer = Writer(path)
    writer.write(encoded(sent, 7))
    writer.close()
    found = [line for lines in read(LandedFile(3, 0, len(sent) - 1, NOW, path)) for line in lines] if sent else []
    assert [(line.value_bytes, line.key_bytes, line.offset, line.partition) for line in found] == [
        (value, key, i, 3) for i, (value, key, _) in enumerate(records)
    ]
    assert all((line.kafka_ms, line.landed_ms) == (time, 7) for line in found)
    for line, (_, _, headers) in zip(found, records, strict=True):
        assert (line.headers is None) == (headers is None)
        shown = [(header.key, value_of(header)) for header in line.headers or []]
        assert shown == [*(headers or [])]


def test_a_line_is_json_that_anyone_reads() -> None:
    text = '{"a": "ü\u0000"}'
    lines = encoded([message(1, text.encode(), key=b"k"), message(2, b"\xff"), message(3, None)], 7).splitlines()
    first, second, third = map(json.loads, lines)
    assert first == {
        "partition": 3,
        "offset": 1,
        "kafka_ms": 5,
        "landed_ms": 7,
        "key": "k",
        "headers": None,
        "value": text,
    }
    assert (second["value"], second["value_base64"]) == (None, "/w==")
    assert third["value"] is None
    assert "value_base64" not in third


def test_headers_that_the_client_cannot_show_are_none() -> None:
    class Unshown(Message):
        def headers(self) -> Any:
            raise SystemError

    shown = Unshown(topic="t", partition=0, offset=0, value=b"v", timestamp=(1, 5))
    assert line_of(shown, 7).headers is None


def value_of(header: Header) -> bytes | None:
    if isinstance(header.value_base64, str):
        return b64decode(header.value_base64)
    return None if header.value is None else header.value.encode()


def test_a_header_s_value_is_text_or_base64() -> None:
    sent = [("a", "ü".encode()), ("a", b"\xff"), ("b", None), ("b", b"")]
    assert json.loads(encoded([message(1, b"v", headers=sent)], 7))["headers"] == [
        {"key": "a", "value": "ü"},
        {"key": "a", "value": None, "value_base64": "/w=="},
        {"key": "b", "value": None},
        {"key": "b", "value": ""},
    ]


@pytest.mark.parametrize("damage", ["cut", "flipped", "appended", "within a line"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.zst"
    writer = Writer(path)
    writer.write(encoded([message(i, bytes([i % 90 + 33]) * (i * 7919 % 97)) for i in range(2000)], 7))
    if damage == "within a line":
        writer.write(b'{"partition":')
    writer.close()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-9:]
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    if damage == "appended":
        content += b"x"
    path.write_bytes(content)
    with pytest.raises(StreamAppError, match=r"x\.zst: is damaged"):
        [*read(LandedFile(3, 0, 1999, NOW, path))]


@pytest.mark.parametrize(("partition", "first", "last"), [(2, 0, 9), (3, 1, 9), (3, 0, 8), (3, 0, 10)])
def test_a_file_that_holds_something_else_than_its_name_says_is_refused(
    tmp_path: Path, partition: int, first: int, last: int
) -> None:
    path = tmp_path / "x.zst"
    writer = Writer(path)
    writer.write(encoded([message(i, b"v") for i in range(10)], 7))
    writer.close()
    assert [line.offset for lines in read(LandedFile(3, 0, 9, NOW, path)) for line in lines] == [*range(10)]
    with pytest.raises(StreamAppError, match=r"x\.zst: (holds partition 3, offset|is damaged: it ends at offset 9)"):
        [*read(LandedFile(partition, first, last, NOW, path))]


def test_a_staged_file_is_seen_by_nobody_until_it_has_its_name(tmp_path: Path) -> None:
    zone = Zone(tmp_path, "t")
    zone.folder.mkdir()
    staged = Staged(zone, int(NOW.timestamp() * 1000), 3)
    assert staged.finish() is None, "without a record there is no file"
    staged.write([message(4, b"a"), message(9, b"b")])
    file = staged.finish()
    assert file is not None
    assert zone.files() == []
    staged.rename(file)
    assert zone.files() == [file]
    assert file.path == tmp_path / "t" / "date=2026-11-21" / "hour=01" / "t_p3_4-9.jsonl.zst"
    assert [line.offset for lines in read(file) for line in lines] == [4, 9]


def test_a_folder_is_of_one_topic_for_ever(tmp_path: Path) -> None:
    zone = Zone(tmp_path, "t")
    zone.folder.mkdir()
    zone.claim("one")
    zone.claim("one")
    with pytest.raises(ConfigError, match=r"LANDING_PATH: .* was deleted since, and made again; move that folder away"):
        zone.claim("other")
    zone.about.write_text("{")
    with pytest.raises(ConfigError, match=r"_topic\.json: is damaged"):
        zone.claim("one")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "--topic: give the topic to land"),
        (["--topic=t", "--seconds=0"], "argument --seconds"),
        (["--topic=t", "--seconds=nan"], "argument --seconds"),
        (["--topic=t", "--max-records=0"], "argument --max-records"),
    ],
)
def test_a_wrong_option_is_one_line(cli: Cli, tmp_path: Path, arguments: list[str], problem: str) -> None:
    done = cli(tmp_path, "land", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("land: ")
    assert problem in done.err


def test_the_turns_of_equal_partitions_alternate() -> None:
    parts = [*turns({0: 0, 1: 0}, {0: 30, 1: 30}, 10)]
    assert [partition for partition, _ in groupby(part.partition for part in parts)] == [0, 1] * 3


def test_a_full_disk_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/landing/x")

    refused = pytest.raises(StreamAppError, match="LANDING_PATH: /landing/x: No space left on device")
    with refused, no_room_is_expected(tmp_path, "LANDING_PATH"):
        full()
    writer = Writer(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left on device"):
        writer.write(bytes(range(256)) * 100_000)
        writer.close()
