"""What tells the rows of a table apart, on a real PostgreSQL: the keys' own bytes, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from hashlib import md5
from pathlib import Path
from typing import Any, LiteralString

import duckdb
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from pyspark.sql.types import BooleanType, DoubleType, LongType, StringType, StructType, TimestampType

from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.feeds.sinks import SinkTable
from stream_app.flows.flow import Flow
from stream_app.settings import PROJECT, Settings
from stream_app.sinks.postgres_connection import connect
from stream_app.sinks.postgres_identity import Identity, digest
from stream_app.sinks.registry import flows
from tests.helpers import app_settings, at, claim, commit, plan
from tests.service.servers import Database
from tests.service.table_rows import WINDOWS, prepare, table_of, write

FEED = load_feeds(PROJECT / "conf" / "feeds", ("user_activity",))[0]
SESSIONS = (
    StructType()
    .add("session_id", StringType())
    .add("user_id", StringType())
    .add("session_start", TimestampType())
    .add("session_end", TimestampType())
    .add("duration_seconds", DoubleType())
    .add("events", LongType())
    .add("outcome", StringType())
    .add("final", BooleanType())
)
# Two texts with one MD5, published by Marc Stevens in 2024.
ONE_MD5 = tuple(f"TEXTCOLLBYfGiJUETHQ4h{c}cKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak" for c in "AE")
LONG = "".join(chr(0x4E00 + i * 7919 % 20_000) for i in range(2000))
HOSTILE = (
    *ONE_MD5,
    "a\0",
    "a\ufffd",
    "a",
    "",
    "\0",
    "\ufffd",
    " a",
    "A",
    "ä",
    "a\u0308",
    LONG,
    f"{LONG}\0",
    "'\"\\N\t\n",
)


def test_the_texts_have_one_md5() -> None:
    one, other = (md5(text.encode(), usedforsecurity=False).digest() for text in ONE_MD5)
    assert one == other
    assert ONE_MD5[0] != ONE_MD5[1]


@pytest.fixture
def settings(tmp_path: Path, database: Database) -> Settings:
    return app_settings(tmp_path, database_url=SecretStr(database.url))


def bound(root: Path, table: str, feed: Feed = FEED) -> Flow:
    """The flow of a table, which has just begun."""
    found = {flow.sink: flow for flow in flows([feed], root)}
    for name in ("bronze", "silver", f"postgres_{table}"):
        claim(found[name], "topic" if name == "bronze" else None)
    return found[f"postgres_{table}"]


def shown(text: str) -> str:
    return text.replace("\0", "\ufffd")


def window(page: str, views: int, minute: int = 0) -> tuple[object, ...]:
    return at(minute * 60), at(minute * 60 + 60), page, views


def session(keys: Sequence[str], first: float, last: float, events: int, *, final: bool = False) -> tuple[object, ...]:
    return *keys, at(first), at(last), last - first, events, "ended", final


@pytest.mark.proves("PostgreSQL has each batch exactly once")
def test_windows_of_different_keys_never_merge(settings: Settings, database: Database) -> None:
    flow = bound(settings.output_path, "page_view_counts")
    prepare(flow, settings, WINDOWS)
    write(flow, database, 0, WINDOWS.names, [window(page, 1) for page in HOSTILE])
    write(flow, database, 1, WINDOWS.names, [window(page, 10 + n) for n, page in enumerate(HOSTILE)])
    found = database.query("SELECT page_url, page_views FROM page_view_counts ORDER BY 2")
    assert found == [(shown(page), 10 + n) for n, page in enumerate(HOSTILE)]
    later = [window(HOSTILE[0], 7), window(HOSTILE[2], 3, minute=1)]
    write(flow, database, 2, WINDOWS.names, later, watermark_ms=int(at(60).timestamp() * 1000))
    assert database.query("SELECT count(*), sum(page_views) FROM page_view_counts WHERE final")[0][0] == len(HOSTILE)
    assert database.query("SELECT page_url, page_views FROM page_view_counts WHERE NOT final") == [("a\ufffd", 3)]


KEYS = [
    ("ab", "c"),
    ("a", "bc"),
    ("", "abc"),
    ("abc", ""),
    ("a\0", "u"),
    ("a\ufffd", "u"),
    *((t, "u") for t in ONE_MD5),
]


@pytest.mark.proves("PostgreSQL has each batch exactly once")
def test_sessions_make_way_for_those_of_their_own_keys_alone(settings: Settings, database: Database) -> None:
    flow = bound(settings.output_path, "user_sessions")
    prepare(flow, settings, SESSIONS)
    first = [session(keys, 10, 20 + n, 2) for n, keys in enumerate(KEYS)]
    write(flow, database, 0, SESSIONS.names, first)
    assert database.query("SELECT count(*) FROM user_sessions") == [(len(KEYS),)]
    # an earlier record came for each second one, and one of them is final in the batch that changed it
    for batch, changed in enumerate(KEYS[::2], 1):
        rows = [session(changed, 5, 30, 3), session(changed, 5, 30, 3, final=True)]
        write(flow, database, batch, SESSIONS.names, rows)
    found = database.query("SELECT session_id, user_id, events, final FROM user_sessions ORDER BY session_end, 1, 2")
    untouched = [(*map(shown, keys), 2, False) for keys in KEYS[1::2]]
    assert found == untouched + sorted((*map(shown, keys), 3, True) for keys in KEYS[::2])


ANY: dict[str, tuple[str, list[Any]]] = {
    "flag": ("boolean", [True, False]),
    "large": ("long", [0, -(2**63)]),
    "price": ("decimal(9,2)", [Decimal("0.10"), Decimal("9999999.99")]),
    "day": ("date", [date(1969, 12, 31), date(2026, 11, 27)]),
    "moment": ("timestamp", [at(0.5), at(-1e9)]),
    "raw": ("binary", [b"", b"\0\xff"]),
    "word": ("string", ["a", "\0", None]),
}
BY_ANY = {
    "name": "keyed",
    "topic": "keyed",
    "fields": {"at": {"type": "timestamp"}, "id": {"type": "string"}}
    | {name: {"type": kind, "required": name != "word"} for name, (kind, _) in ANY.items()},
    "event_time": {"field": "at", "lateness": "1 hour", "future_tolerance": "1 hour"},
    "dedupe": {"key": "id", "within": "1 hour"},
    "windows": {
        "counts": {
            "key": list(ANY),
            "window": "1 minute",
            "watermark": "1 minute",
            "measures": {"n": "count", "last_word": "max(word)"},
        }
    },
    "sinks": {"postgres_counts": {"of": "counts", "to": "postgres", "table": "counts"}},
}


@pytest.mark.proves("PostgreSQL has each batch exactly once")
def test_windows_are_told_apart_by_keys_of_any_type(settings: Settings, database: Database) -> None:
    flow = bound(settings.output_path, "counts", Feed.model_validate(BY_ANY))
    columns = flow.kind.columns
    prepare(flow, settings, columns)
    keys = [
        tuple(value if name == changed else found[0] for name, (_, found) in ANY.items())
        for changed, (_, values) in ANY.items()
        for value in values[1:]
    ]
    keys.append(tuple(found[0] for _, found in ANY.values()))
    for batch, n in enumerate((1, 2)):
        rows = [(at(0), at(60), *key, n, "\0") for key in keys]
        write(flow, database, batch, columns.names, rows)
    found = database.query("SELECT flag, large, price, day, moment, raw, word, n, last_word FROM counts")
    stored = [(*key[:-1], shown(key[-1]) if key[-1] else None, 2, "\ufffd") for key in keys]
    assert sorted(map(str, found)) == sorted(map(str, stored))


def test_the_digest_is_the_same_in_sql(database: Database) -> None:
    texts = [text for text in HOSTILE if "\0" not in text]
    identity = Identity("session_start", ("one", "other"), ("_key", "session_start"))
    select = sql.SQL("SELECT {} FROM (SELECT %s::text AS one, %s::text AS other, true AS final)")
    with psycopg.connect(database.url) as connection:
        for keys in [*zip(texts, reversed(texts), strict=True), ("ab", "c"), ("a", "bc"), (None, "a"), ("", None)]:
            found = connection.execute(select.format(identity._stored_digest()), keys).fetchone()
            assert found == (digest(keys),)
    assert len({digest(keys) for keys in [("ab", "c"), ("a", "bc"), ("abc",), (None, "abc"), ("", "abc")]}) == 5


OLD_WINDOWS: LiteralString = """
CREATE TABLE "page_view_counts" ("window_start" timestamptz, "window_end" timestamptz, "page_url" text,
    "page_views" bigint, "final" boolean NOT NULL DEFAULT false);
CREATE UNIQUE INDEX ON "page_view_counts" ("window_start", md5("page_url"));
CREATE INDEX ON "page_view_counts" ("window_end") WHERE NOT final;
"""
OLD_SESSIONS: LiteralString = """
CREATE TABLE "user_sessions" ("session_id" text, "user_id" text, "session_start" timestamptz,
    "session_end" timestamptz, "duration_seconds" double precision, "events" bigint, "outcome" text, "final" boolean);
CREATE UNIQUE INDEX ON "user_sessions" (md5("session_id"), md5("user_id"), "session_start");
CREATE INDEX ON "user_sessions" ("session_start") WHERE NOT final;
"""
FILE: LiteralString = "SELECT pg_relation_filenode('page_view_counts'), pg_relation_filenode('user_sessions')"
INDEXES: LiteralString = """
SELECT tablename, count(*), count(*) FILTER (WHERE indexdef LIKE '%UNIQUE%'), bool_or(indexdef LIKE '%md5%')
FROM pg_indexes WHERE tablename IN ('page_view_counts', 'user_sessions') GROUP BY 1 ORDER BY 1
"""


def taken_over(settings: Settings, database: Database, table: str, columns: StructType, old: LiteralString) -> Flow:
    """A flow with one batch whose table commit c6c8daf made, by that commit's own SQL."""
    flow = bound(settings.output_path, table)
    prepare(flow, settings, columns)
    with psycopg.connect(database.url) as connection:
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)))
        connection.execute(old)
        connection.execute("UPDATE stream_app_batches SET batch_id = 0 WHERE sink = %s", [flow.name])
    return flow


def insert(database: Database, table: str, rows: Sequence[Sequence[object]]) -> None:
    with psycopg.connect(database.url) as connection, connection.cursor() as cursor:
        values = sql.SQL(", ").join(sql.Placeholder() for _ in rows[0])
        cursor.executemany(sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(table), values), rows)


@pytest.mark.proves("An upgrade keeps what is on your disks", "postgres")
def test_tables_of_before_are_taken_over_once(settings: Settings, database: Database) -> None:
    windows = taken_over(settings, database, "page_view_counts", WINDOWS, OLD_WINDOWS)
    sessions = taken_over(settings, database, "user_sessions", SESSIONS, OLD_SESSIONS)
    old = [(*window("/", 4), True), (*window("/", 5, minute=1), False), (*window("\ufffd", 6), True)]
    insert(database, "page_view_counts", [*old, (*window("a\ufffd", 1, minute=1), False)])
    insert(database, "user_sessions", [session(("s", "u"), 0, 9, 2), session(("s\ufffd", "u"), 0, 8, 2)])
    before = database.query("SELECT * FROM page_view_counts ORDER BY page_views")
    for _ in range(2):  # as two starts
        prepare_after(windows, settings, WINDOWS)
        prepare_after(sessions, settings, SESSIONS)
        files = database.query(FILE)
    assert database.query(FILE) == files
    columns: LiteralString = "window_start, window_end, page_url, page_views, final"
    assert database.query(f"SELECT {columns} FROM page_view_counts ORDER BY page_views") == before
    assert database.query(INDEXES) == [("page_view_counts", 2, 1, False), ("user_sessions", 2, 1, False)]
    # an open window and session go on; what was a NUL before is known as soon as it comes again
    write(windows, database, 1, WINDOWS.names, [window("/", 15, minute=1), window("a\0", 2, minute=1)])
    found = database.query("SELECT page_url, page_views FROM page_view_counts ORDER BY page_views")
    assert found == [("a\ufffd", 2), ("/", 4), ("\ufffd", 6), ("/", 15)]
    write(sessions, database, 1, SESSIONS.names, [session(("s", "u"), -5, 9, 3), session(("s\0", "u"), -4, 8, 3)])
    assert database.query("SELECT events, session_id FROM user_sessions ORDER BY 2") == [(3, "s"), (3, "s\ufffd")]
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.change("INSERT INTO page_view_counts SELECT * FROM page_view_counts WHERE page_url = '/'")


def prepare_after(flow: Flow, settings: Settings, columns: StructType) -> None:
    """As a start whose checkpoint has the batch 0."""
    plan(flow, 0, {"batch": 0})
    commit(flow, 0)
    prepare(flow, settings, columns)


def test_queries_and_the_audit_do_not_see_the_digest(settings: Settings, database: Database) -> None:
    flow = bound(settings.output_path, "page_view_counts")
    prepare(flow, settings, WINDOWS)
    write(flow, database, 0, WINDOWS.names, [window("/", 4)])
    with duckdb.connect() as copy:
        copy.execute("CREATE SCHEMA user_activity")
        table_of(flow).copy_into(copy, flow, settings.servers)
        found = copy.sql("FROM user_activity.postgres_page_view_counts")
        assert found.columns == [*WINDOWS.names, "final"]
        assert found.fetchall() == [(*window("/", 4), False)]


@pytest.mark.parametrize("name", ["incoming", "excluded", "t", "i", "user", "table", "final", "order"])
def test_a_table_may_have_any_name(settings: Settings, database: Database, name: str) -> None:
    """Also one that the SQL of a batch would use for itself."""
    sink = SinkTable.model_validate({"of": "page_view_counts", "to": "postgres", "table": name})
    feed = FEED.model_copy(update={"sinks": {f"postgres_{name}": sink}})
    flow = bound(settings.output_path, name, feed)
    prepare(flow, settings, WINDOWS)
    for batch in range(2):
        write(flow, database, batch, WINDOWS.names, [window("/", batch), window("/x", batch)])
    with psycopg.connect(database.url) as connection:
        select = sql.SQL("SELECT page_views FROM {}").format(sql.Identifier(name))
        assert connection.execute(select).fetchall() == [(1,), (1,)]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_text_is_refused(database: Database, tmp_path: Path, encoding: str) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        make = "CREATE DATABASE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        connection.execute(sql.SQL(make).format(sql.Identifier(encoding), sql.Literal(encoding)))
    url = f"{database.url.rpartition('/')[0]}/{encoding}"
    refused = app_settings(tmp_path, database_url=SecretStr(url))
    problem = rf"DATABASE_URL: the encoding of database {encoding} is {encoding}, not UTF8; name one made with"
    with pytest.raises(ConfigError, match=problem) as raised:
        prepare(bound(tmp_path, "page_view_counts"), refused, WINDOWS)
    assert str(psycopg.conninfo.conninfo_to_dict(url)["password"]) not in str(raised.value)


def test_the_encoding_of_the_client_is_ours(database: Database) -> None:
    with connect(f"{database.url}?client_encoding=LATIN1") as connection:
        assert connection.execute("SELECT '€' || chr(8364)").fetchone() == ("€€",)
