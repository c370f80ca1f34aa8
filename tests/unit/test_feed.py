"""Feed files: closed, checked as a whole, and every mistake one line that names file and key."""

from __future__ import annotations

import pickle
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.field_problems import problems_of
from stream_app.feeds.fields import Field
from stream_app.feeds.load import load_feeds, read_feeds
from stream_app.feeds.parts import Measure

FEEDS = Path(__file__).parents[2] / "conf" / "feeds"
TRANSACTIONS = (FEEDS / "transactions.toml").read_text()


def mistake(directory: Path, *names: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load_feeds(directory, names)
    message = str(raised.value)
    assert raised.value.exit_code == 2
    assert message.isprintable(), "one line"
    return message.replace(f"{directory}/", "").replace(str(directory), "feeds")


def test_transactions_is_declared_as_designed() -> None:
    (feed,) = load_feeds(FEEDS, ["transactions"])
    assert (feed.name, feed.topic) == ("transactions", "transactions")
    assert " ".join(feed.fields) == (
        "txn_id event_time user_id card_id merchant category amount currency status city country lat lon"
    )
    assert feed.path_of("event_time")[0] == "event_ts"
    assert feed.path_of("lat")[0] == "lat"
    assert feed.fields["txn_id"].length == (1, 64)
    assert feed.fields["amount"].precision_scale == (18, 2)
    assert feed.fields["amount"].range == (Decimal(0), Decimal(1_000_000))
    assert feed.event_time.lateness == timedelta(minutes=3)
    assert feed.event_time.future_tolerance == timedelta(minutes=1)
    assert feed.dedupe
    assert (feed.dedupe.key, feed.dedupe.within) == ("txn_id", timedelta(hours=1))
    gold = feed.windows["gold"]
    assert list(feed.windows) == ["gold"]
    assert (gold.key, gold.window, gold.watermark) == ("card_id", timedelta(minutes=1), timedelta(minutes=5))
    assert gold.measures == {
        "txn_count": Measure(function="count"),
        "sum_amount": Measure(function="sum", field="amount"),
        "avg_amount": Measure(function="avg", field="amount"),
        "max_amount": Measure(function="max", field="amount"),
    }
    assert gold.watermark > feed.event_time.lateness + feed.event_time.future_tolerance


def test_a_feed_is_frozen_and_travels_to_the_workers() -> None:
    (feed,) = load_feeds(FEEDS, ["transactions"])
    assert pickle.loads(pickle.dumps(feed)) == feed  # noqa: S301 - our own bytes
    with pytest.raises(ValidationError):
        feed.topic = "other"


def test_bounds_are_exact(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(TRANSACTIONS.replace("[0, 1_000_000]", "[0.1, 0.3]"))
    assert load_feeds(tmp_path, ["f"])[0].fields["amount"].range == (Decimal("0.1"), Decimal("0.3"))


@pytest.mark.parametrize(
    ("text", "span"),
    [("90 seconds", 90), ("1 minute", 60), ("2 hours", 7200), ("1 day", 86_400), ("1 seconds", 1)],
)
def test_a_duration_is_a_number_and_a_unit(tmp_path: Path, text: str, span: int) -> None:
    (tmp_path / "f.toml").write_text(TRANSACTIONS.replace('"3 minutes"', f'"{text}"'))
    assert load_feeds(tmp_path, ["f"])[0].event_time.lateness == timedelta(seconds=span)


NOT_A_DURATION = 'is not a duration such as "5 minutes"'


def session(keys: str = '["city"]', ends: str = '{ status = "declined" }') -> str:
    return f'[sessions.s]\nkeys = {keys}\nends = {ends}\ngap = "1 hour"\nwatermark = "1 minute"\n[dedupe]'


MISTAKES = {
    "unknown top key": ("[dedupe]", "[gld]\n[dedupe]", "gld: unknown key"),
    "unknown window key": (
        'window = "1 minute"',
        'window = "1 minute"\nhop = 1',
        "windows.gold.hop: unknown key",
    ),
    "slide that does not divide": (
        'window = "1 minute"',
        'window = "1 minute"\nslide = "40 seconds"',
        "windows.gold.slide: does not divide the window",
    ),
    "slide beyond the window": (
        'window = "1 minute"',
        'window = "1 minute"\nslide = "2 minutes"',
        "windows.gold.slide: does not divide the window",
    ),
    "filter on an undeclared field": (
        'window = "1 minute"',
        'window = "1 minute"\nwhere = { kind = "a" }',
        'windows.gold.where.kind: "kind" is not a declared field',
    ),
    "a sink named as a layer": (
        "[windows.gold]",
        '[windows.silver]\nwindow = "1 minute"\nwatermark = "1 minute"\nmeasures = { n = "count" }\n[windows.gold]',
        "windows.silver: the feed has an output of this name",
    ),
    "a window outside of the output": (
        "[windows.gold]",
        '[windows."../gold"]',
        'windows."../gold": String should match',
    ),
    "a lake outside of the output": (
        "[dedupe]",
        '[sinks."/tmp/lake"]\nof = "silver"\nto = "lake"\n[dedupe]',
        'sinks."/tmp/lake": String should match',
    ),
    "a sink of nothing": ("[dedupe]", '[sinks.x]\nto = "csv"\n[dedupe]', "sinks.x.of: is missing"),
    "a lake as it was": (
        "[dedupe]",
        '[lakes.x]\ndates = "9 days"\n[dedupe]',
        'lakes.x: is written [sinks.x] of = "silver", to = "lake", dates = "9 days" since 0.2',
    ),
    "a topic as it was": (
        "[dedupe]",
        '[topics.x]\ntopic = "t"\nkey = "user_id"\nheaders = ["txn_id"]\n[dedupe]',
        'topics.x: is written [sinks.x] of = "silver", to = "kafka", topic = "t", key = "user_id", '
        'headers = ["txn_id"] since 0.2',
    ),
    "a table as it was": (
        "[dedupe]",
        '[tables.x]\nof = "gold"\n[dedupe]',
        'tables.x: is written [sinks.postgres_x] of = "gold", to = "postgres", table = "x" since 0.2',
    ),
    "unknown rule": ("length = [1, 64]", "lenght = [1, 64]", "fields.txn_id.lenght: unknown key"),
    "a name in the file": ("[dedupe]", "[name]\n[dedupe]", "name: unknown key, the file's name is the feed's"),
    "missing table": ('[event_time]\nfield = "event_time"', '[event]\nfield = "event_time"', "event: unknown key"),
    "missing key": ('within = "1 hour"', "", "dedupe.within: is missing"),
    "rule on an undeclared field": ("[dedupe]", "[fields.amuont]\nrange = [0, 1]\n[dedupe]", "fields.amuont.type: is"),
    "bad duration": (
        '"1 minute"\nwatermark',
        '"1 fortnight"\nwatermark',
        f'windows.gold.window: "1 fortnight" {NOT_A_DURATION}',
    ),
    "no duration at all": ('"1 hour"', "3600", f"dedupe.within: 3600 {NOT_A_DURATION}"),
    "zero duration": ('"1 hour"', '"0 hours"', f'dedupe.within: "0 hours" {NOT_A_DURATION}'),
    "negative duration": ('"1 hour"', '"-1 hours"', f'dedupe.within: "-1 hours" {NOT_A_DURATION}'),
    "endless duration": ('"1 hour"', '"9999999 days"', f'dedupe.within: "9999999 days" {NOT_A_DURATION}'),
    "unknown type": (
        '"double"\nrange = [-90',
        '"number"\nrange = [-90',
        'fields.lat.type: "number" is none of string, boolean',
    ),
    "decimal of 39": ("decimal(18,2)", "decimal(39,2)", "fields.amount.type: decimal(39,2) is not a decimal"),
    "decimal of none": ("decimal(18,2)", "decimal(0,0)", "fields.amount.type: decimal(0,0) is not a decimal"),
    "scale over precision": ("decimal(18,2)", "decimal(2,3)", "fields.amount.type: decimal(2,3) is not a decimal"),
    "length on a number": ("range = [-90, 90]", "length = [1, 2]", "fields.lat.length: is not a rule for a double"),
    "pattern on a number": ("range = [-90, 90]", 'pattern = "x"', "fields.lat.pattern: is not a rule for a double"),
    "allowed on a number": ("range = [-90, 90]", 'allowed = ["x"]', "fields.lat.allowed: is not a rule for a double"),
    "range on a string": ("length = [1, 64]", "range = [1, 64]", "fields.txn_id.range: is not a rule for a string"),
    "range on a timestamp": (
        'path = "event_ts"',
        "range = [1, 2]",
        "fields.event_time.range: 1 is no timestamp",
    ),
    "range of dates of a timestamp": (
        'path = "event_ts"',
        "range = [2026-01-01, 2026-12-31]",
        "fields.event_time.range: 2026-01-01 is no timestamp",
    ),
    "range of times upside down": (
        'path = "event_ts"',
        "range = [2026-01-01T02:00:00+01:00, 2026-01-01T00:59:59Z]",
        "fields.event_time.range: is not [least, greatest]",
    ),
    "range of dates of a number": ("[-90, 90]", "[-90, 2026-01-01]", "fields.lat.range: 2026-01-01 is no double"),
    "range upside down": ("[-90, 90]", "[90, -90]", "fields.lat.range: is not [least, greatest]"),
    "endless range": ("[-90, 90]", "[-90, inf]", "fields.lat.range.1: is no finite number"),
    "range of one": ("[-90, 90]", "[-90]", "fields.lat.range.1: is missing"),
    "negative length": ("length = [1, 64]", "length = [-1, 64]", "fields.txn_id.length: is not [least, greatest]"),
    "length with a fraction": ("length = [1, 64]", "length = [1, 64.5]", "fields.txn_id.length.1: Input should be"),
    "nothing allowed": (
        '["approved", "declined", "pending"]',
        "[]",
        "fields.status.allowed: lists the values, at least one",
    ),
    "allowed and pattern": ('pattern = "[A-Z]{2}"', 'pattern = "."\nallowed = ["DE"]', "fields.country.allowed: lists"),
    "bad pattern": ('pattern = "[A-Z]{2}"', 'pattern = "("', 'fields.country.pattern: "(" is no regular expression'),
    "pattern with a lookahead": ('pattern = "[A-Z]{2}"', 'pattern = "(?=A)A"', 'pattern: "(?=A)A" is no regular'),
    "pattern with a reference": ('pattern = "[A-Z]{2}"', 'pattern = "(A)\\\\1"', "fields.country.pattern: "),
    "pattern that is too large": ('pattern = "[A-Z]{2}"', 'pattern = "(A{1000}){1000}"', "fields.country.pattern: "),
    "pattern that leaves its group": ('pattern = "[A-Z]{2}"', 'pattern = "A)|(?:B"', "fields.country.pattern: "),
    "pattern that quotes its end": ('pattern = "[A-Z]{2}"', 'pattern = "\\\\QA"', "fields.country.pattern: "),
    "one path twice": (
        'path = "event_ts"',
        'path = "lat"',
        'fields.lat.path: "lat" is the path of event_time too',
    ),
    "path with a quote": (
        'path = "event_ts"',
        "path = 'a\"b'",
        "fields.event_time.path.0: String should match pattern",
    ),
    "path of nothing": ('path = "event_ts"', 'path = "a..b"', "fields.event_time.path.1: String should match pattern"),
    "wire": ('path = "event_ts"', 'wire = "ts"', 'fields.event_time.wire: is called path now; write path = "ts"'),
    "wire with a dot": ('path = "event_ts"', 'wire = "a.b"', 'is called path now; write path = ["a.b"]'),
    "column in capitals": ("[fields.lat]", "[fields.Lat]", "fields.Lat: String should match pattern"),
    "column with a newline": ("[fields.lat]", '[fields."a\\nb"]', 'fields."a\\nb": String should match pattern'),
    "reserved column": (
        "[fields.lat]",
        "[fields.offset]",
        "fields.offset: silver has a column of this name already, where the record was",
    ),
    "illegal topic": ('topic = "transactions"', 'topic = "a b"', "topic: String should match pattern"),
    "topic of dots": ('topic = "transactions"', 'topic = ".."', "topic: String should match pattern"),
    "endless topic": (
        'topic = "transactions"',
        f'topic = "{"x" * 250}"',
        "topic: String should have at most 249 characters",
    ),
    "undeclared event time": ('field = "event_time"', 'field = "ts"', 'event_time.field: "ts" is not a declared field'),
    "event time is text": (
        'field = "event_time"',
        'field = "city"',
        "event_time.field: city is a string, not a timestamp",
    ),
    "undeclared dedupe key": ('key = "txn_id"', 'key = "id"', 'dedupe.key: "id" is not a declared field'),
    "one of several": ('key = "txn_id"', 'key = ["txn_id", "id"]', 'dedupe.key: "id" is not a declared field'),
    "dedupe by nothing": ('key = "txn_id"', "key = []", "dedupe.key: is empty"),
    "dedupe by one twice": ('key = "txn_id"', 'key = ["txn_id", "txn_id"]', "dedupe.key: names a column twice"),
    "undeclared gold key": ('key = "card_id"', 'key = "id"', 'windows.gold.key: "id" is not a declared field'),
    "gold key twice": ('key = "card_id"', 'key = ["city", "city"]', "windows.gold.key: names a column twice"),
    "gold key is an array": (
        "[event_time]",
        '[fields.tags]\ntype = "array"\nelement = { type = "string" }\n[windows.by_tags]\nkey = ["city", "tags"]\n'
        'window = "1 minute"\nwatermark = "1 minute"\nmeasures = { n = "count" }\n[event_time]',
        "windows.by_tags.key: tags is of type array, which is not one value",
    ),
    "least of a switch": (
        "[event_time]",
        '[fields.flag]\ntype = "boolean"\n[windows.by_city]\nwindow = "1 minute"\nwatermark = "1 minute"\n'
        'measures = { least = "min(flag)" }\n[event_time]',
        "windows.by_city.measures.least: flag is a boolean, which has no min",
    ),
    "maps that differ": (
        "[event_time]",
        '[fields.tags]\ntype = "array"\nelement = { type = "map", value = { type = "long" } }\n[windows.by_city]\n'
        'window = "1 minute"\nwatermark = "1 minute"\nmeasures = { tags = "distinct(tags)" }\n[event_time]',
        "windows.by_city.measures.tags: tags is of type array<map<long>>, and maps cannot be told apart",
    ),
    "no measure": (TRANSACTIONS[TRANSACTIONS.index("txn_count") :], "", "windows.gold.measures: is empty"),
    "unknown function": (
        '"count"',
        '"median(amount)"',
        'windows.gold.measures.txn_count: "median(amount)" is not a measure',
    ),
    "count of a field": (
        '"count"',
        '"count(amount)"',
        'windows.gold.measures.txn_count: "count(amount)" is not a measure',
    ),
    "measure is a number": ('"count"', "1", "windows.gold.measures.txn_count: 1 is not a measure such as"),
    "measure of nothing": (
        "sum(amount)",
        "sum(amuont)",
        'windows.gold.measures.sum_amount: "amuont" is not a declared field',
    ),
    "sum of text": ("sum(amount)", "sum(status)", "windows.gold.measures.sum_amount: status is a string, not a number"),
    "no double in range": ("range = [-90, 90]", "range = [1e309, 1e310]", "fields.lat.range: holds no double"),
    "no decimal in range": ("[0, 1_000_000]", "[0.001, 0.009]", "fields.amount.range: holds no decimal(18,2)"),
    "no long in range": (
        'type = "decimal(18,2)"\nrange = [0, 1_000_000]',
        'type = "long"\nrange = [0.5, 0.6]',
        "fields.amount.range: holds no long",
    ),
    "range beyond longs": (
        'type = "decimal(18,2)"\nrange = [0, 1_000_000]',
        'type = "long"\nrange = [9223372036854775807.5, 1e30]',
        "fields.amount.range: holds no long",
    ),
    "sum of the longest decimals": (
        "decimal(18,2)",
        "decimal(29,2)",
        "windows.gold.measures.sum_amount: amount has 29 digits; of more than 28 a sum may have more than 38",
    ),
    "measure named as the key": (
        "txn_count =",
        "card_id =",
        "windows.gold.measures.card_id: gold has a column of this name",
    ),
    "measure named as the window": (
        "txn_count =",
        "window_end =",
        "windows.gold.measures.window_end: gold has a column of",
    ),
    "measure in capitals": ("txn_count =", "Count =", "windows.gold.measures.Count: String should match pattern"),
    "session by nothing": ("[dedupe]", session(keys="[]"), "sessions.s.keys: is empty"),
    "session by one column twice": (
        "[dedupe]",
        session(keys='["city", "city"]'),
        "sessions.s.keys: names a column",
    ),
    "session's end is undeclared": (
        "[dedupe]",
        session(ends='{ x = "y" }'),
        'sessions.s.ends.x: "x" is not a declared field',
    ),
    "session by its own column": (
        "[dedupe]",
        '[fields.outcome]\ntype = "string"\n' + session(keys='["outcome"]'),
        "sessions.s.keys: gold has a column outcome already",
    ),
    "syntax": ("[dedupe]", "[dedupe", "Expected ']' at the end of a table declaration"),
    "key twice": ("[dedupe]", 'topic = "x"\n[event_time]\n[dedupe]', "Cannot declare ('event_time',) twice"),
}


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_naming_file_and_key(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in TRANSACTIONS
    (tmp_path / "transactions.toml").write_text(TRANSACTIONS.replace(old, new, 1))
    message = mistake(tmp_path, "transactions")
    assert re.match(r"transactions\.toml(:[0-9]+)?: ", message)
    assert expected in message


def nested(kind: str, levels: int, inmost: str = 'type = "long"') -> str:
    """Return the declaration of a field that nests so many levels deep."""
    declared = inmost
    for _ in range(levels):
        held = {"struct": "fields = { a = {%s} }", "array": "element = {%s}", "map": "value = {%s}"}[kind]
        declared = f'type = "{kind}", {held}' % declared
    return declared


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (nested("struct", 33), "fields.x: nests 33 levels deep, and 32 are the most"),
        (nested("array", 7), "fields.x: nests 7 levels deep with 7 arrays and maps in each other, and 16 with 6"),
        (nested("struct", 9, nested("map", 3, nested("struct", 2, nested("array", 3)))), "fields.x: nests 17 levels"),
    ],
)
def test_a_field_that_nests_too_deep_is_named(tmp_path: Path, declared: str, expected: str) -> None:
    (tmp_path / "transactions.toml").write_text(
        TRANSACTIONS.replace("[event_time]", f"[fields]\nx = {{ {declared} }}\n[event_time]", 1)
    )
    message = mistake(tmp_path, "transactions")
    assert expected in message
    assert "json" in message


def test_several_mistakes_are_still_one_line(tmp_path: Path) -> None:
    wrong = TRANSACTIONS.replace('"1 hour"', '"soon"').replace('"count"', '"number"')
    (tmp_path / "f.toml").write_text(wrong)
    assert re.fullmatch(
        r"f\.toml:66: dedupe\.within: .*; f\.toml:76: windows\.gold\.measures\.txn_count: .*", mistake(tmp_path, "f")
    )


def test_all_mistakes_of_all_files_are_found_at_once(tmp_path: Path) -> None:
    """A part that is wrong in itself hides no mistake elsewhere, and what names it waits for it."""
    wrong = {
        "[-90, 90]": '"wide"',
        '"3 minutes"': '"soon"',
        '"card_id"': '"card"',
        '"double"\nrange = [-180': '"x"\nr = [0',
    }
    text = TRANSACTIONS
    for old, new in wrong.items():
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "a.toml").write_text(text.replace('"max(amount)"', '"max(lon)"'))
    (tmp_path / "b.toml").write_text(TRANSACTIONS.replace("[dedupe]", "[dedupe"))
    (tmp_path / "c.toml").write_text(TRANSACTIONS)
    feeds, mistakes = read_feeds(tmp_path, ["a", "b", "c", "d"])
    assert [feed.name for feed in feeds] == ["c"]
    lines = text.splitlines()
    found = [
        (one.file.name, one.key, one.line and lines[one.line - 1]) for one in mistakes if one.file.name == "a.toml"
    ]
    assert found == [
        ("a.toml", "fields.lat.range", 'range = "wide"'),
        ("a.toml", "fields.lon.type", 'type = "x"'),
        ("a.toml", "fields.lon.r", "r = [0, 180]"),
        ("a.toml", "event_time.lateness", 'lateness = "soon"'),
        ("a.toml", "windows.gold.key", 'key = "card"'),
    ]
    assert [(one.file.name, one.line) for one in mistakes[len(found) :]] == [("b.toml", 64), ("d.toml", None)]


def test_not_utf8_and_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_bytes(b"topic = '\xff'")
    assert mistake(tmp_path, "f").startswith("f.toml: 'utf-8' codec can't decode")
    (tmp_path / "g.toml").mkdir()
    assert mistake(tmp_path, "g") == "g.toml: cannot be read: Is a directory"


def test_a_file_with_next_to_nothing_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text('topic = "t"\n')
    assert mistake(tmp_path, "f") == "f.toml: fields: is missing; f.toml: event_time: is missing"


def test_a_missing_feed_names_those_that_exist(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.toml").write_text(TRANSACTIONS)
    assert mistake(tmp_path, "c") == "c.toml: there is no such feed; there are: a, b"
    assert mistake(tmp_path) == "feeds: no feed is named; there are: a, b"
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        assert mistake(tmp_path / name, "c") == "feeds: is no folder; FEEDS_PATH names that of the feed files"


@pytest.mark.parametrize("name", ["", "..", "../transactions", "a/b", "Upper", "1st", "a-b", "a" * 64, "a\nb", "é"])
def test_an_unsafe_feed_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    assert mistake(tmp_path, name).startswith("feeds: unsafe feed name ")


def test_two_feeds_on_one_topic(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(TRANSACTIONS)
    assert mistake(tmp_path, "a", "b") == 'b.toml:3: topic: "transactions" is a\'s too'
    assert mistake(tmp_path, "a", "a") == "a.toml: the feed is named twice"
    (tmp_path / "b.toml").write_text(TRANSACTIONS.replace('topic = "transactions"', 'topic = "other"'))
    assert [feed.name for feed in load_feeds(tmp_path, ["b", "a"])] == ["b", "a"]


def test_a_short_watermark_is_a_choice_not_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(TRANSACTIONS.replace('"5 minutes"', '"2 minutes"'))
    feed = load_feeds(tmp_path, ["f"])[0]
    assert isinstance(feed, Feed)
    assert feed.windows["gold"].watermark < feed.event_time.lateness


@pytest.mark.parametrize(
    ("kind", "bounds"),
    [
        ("long", ("9223372036854775807", "1e400")),
        ("long", ("-1e400", "-9223372036854775808")),
        ("long", ("0.5", "1")),
        ("double", ("1e308", "1e400")),
        ("decimal(18,2)", ("0.001", "0.01")),
        ("decimal(38,0)", ("9" * 38, "1e400")),
        ("decimal(2,2)", ("0.985", "1")),
    ],
)
def test_a_range_with_one_value_in_it_is_a_range(kind: str, bounds: tuple[str, str]) -> None:
    field = Field(type=kind, range=(Decimal(bounds[0]), Decimal(bounds[1])))
    assert list(problems_of(field)) == []


def test_a_feed_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "transactions.toml").write_text("\ufeff" + TRANSACTIONS)
    (with_mark,) = load_feeds(tmp_path, ["transactions"])
    (tmp_path / "transactions.toml").write_text(TRANSACTIONS)
    assert (with_mark,) == load_feeds(tmp_path, ["transactions"])


@pytest.mark.parametrize(
    ("range_", "wide"),
    [(None, True), ("0 2147483647", False), ("-2147483647 0", False), ("0 2147483648", True), ("-2147483648 5", True)],
)
def test_a_sum_of_longs_is_a_long_where_it_has_room(range_: str | None, wide: bool) -> None:
    low, high = map(Decimal, (range_ or "0 0").split())
    field = Field(type="long", range=(low, high) if range_ else None)
    assert field.sum_is_wide("sum") is wide
    assert not any(field.sum_is_wide(function) for function in ("min", "max", "avg", "distinct", "count"))
    assert not Field(type="decimal(18,0)").sum_is_wide("sum")
