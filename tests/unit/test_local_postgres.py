"""The local PostgreSQL: real servers, each in a folder of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import psycopg
import pytest

from local import lock, ports, postgres
from local.places import ROOT, Places
from local.postgres import Postgres
from local.process import lock_path
from local.stack import load_stack
from stream_app.errors import ConfigError, StreamAppError
from stream_app.feeds.load import load_feeds
from stream_app.ops.query import query
from stream_app.settings import PROJECT
from stream_app.sinks.registry import flows
from tests.helpers import app_settings, wait_until


@pytest.fixture
def places() -> Iterator[Places]:
    """A folder that another user may pass through, as root's servers are another user's; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        Path(folder).chmod(0o755)
        places = Places(Path(folder))
        places.make()
        yield places


@contextmanager
def started(places: Places) -> Iterator[Postgres]:
    server = Postgres(places)
    server.claim()
    try:
        server.start(Event())
        yield server
    finally:
        assert server.stop(lambda: None)


def test_it_is_up_when_it_answers_and_what_it_holds_outlives_it(places: Places) -> None:
    with started(places) as server:
        assert postgres.running(places) == server.url
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 'ä' AS text")
            shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("timezone", "server_encoding")]
            assert shown == [("UTC",), ("UTF8",)]
            assert connection.execute("SHOW listen_addresses").fetchone() == (ports.HOST,)
    assert postgres.running(places) is None
    assert not postgres.url_file(places).exists()
    with started(places) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("TABLE kept").fetchone() == ("ä",)


def test_nobody_else_gets_in_and_a_shell_that_was_left_open_does_not_keep_it_up(places: Places) -> None:
    with started(places) as server:
        assert postgres.url_file(places).stat().st_mode & 0o077 == 0
        assert (places.postgres / "password").stat().st_mode & 0o077 == 0
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url.replace("@", "x@"))
        left_open = psycopg.connect(server.url)
    assert server.returncode == 0, "it was killed"
    left_open.close()


def test_a_stack_that_is_kill_9ed_leaves_no_server_behind_and_the_next_one_starts(places: Places) -> None:
    code = f"""
import time
from pathlib import Path
from threading import Event
from local.places import Places
from local.postgres import Postgres
server = Postgres(Places(Path("{places.data}")))
server.claim()
server.start(Event())
print("up", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as wrapper:
        assert wrapper.stdout
        assert "up\n" in iter(wrapper.stdout.readline, "")
        wrapper.kill()
    wait_until(lambda: not lock.is_held(lock_path(places, "postgres")), what="the end of its server")
    with started(places) as server:
        assert server.returncode is None


def test_the_pid_file_of_a_server_that_was_kill_9ed_is_no_hindrance(places: Places) -> None:
    with started(places):
        pass
    path = places.postgres / "cluster" / "postmaster.pid"
    path.write_text(f"{os.getpid()}\n{path.parent}\n0\n5432\n\n127.0.0.1\n0 0\nready\n")
    shutil.chown(path, path.parent.stat().st_uid)
    with started(places) as server:
        assert server.returncode is None


def test_half_a_folder_is_made_again_and_one_without_its_password_is_refused(places: Places) -> None:
    (places.postgres / "cluster.new" / "base").mkdir(parents=True)
    with started(places):
        pass
    (places.postgres / "password").unlink()
    with pytest.raises(ConfigError, match=r"postgres/password is missing; put it back, or move \S*postgres away"):
        Postgres(places)


def test_a_folder_of_a_version_that_is_not_there_is_one_line(places: Places) -> None:
    (places.postgres / "cluster").mkdir()
    (places.postgres / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigError, match=r"cluster was made by PostgreSQL 9, which [^\n]*$"):
        Postgres(places)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server is another user's")
def test_root_is_told_which_folder_is_closed_to_the_server(places: Places) -> None:
    places.data.chmod(0o700)
    with pytest.raises(ConfigError, match=rf"may not pass through {places.data}: chmod o\+x {places.data}, or"):
        Postgres(places)


class BecameAnotherError(Exception):
    """What would have taken the place of this process."""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> None:
    def execve(*arguments: object) -> None:
        raise BecameAnotherError(*arguments)

    monkeypatch.setattr(os, "execve", execve)


@pytest.mark.usefixtures("became")
@pytest.mark.parametrize("sql", ["", "SELECT 'a b'"])
def test_the_shell_is_told_the_password_where_no_other_user_reads_it(sql: str) -> None:
    with pytest.raises(BecameAnotherError) as shell:
        postgres.shell("postgresql://app:zq%40x@db.example:5433/shop?sslmode=require", sql)
    program, argv, environment = shell.value.args
    assert Path(program).name == "psql"
    assert argv[1:] == (["--set", "ON_ERROR_STOP=1", "--command", sql] if sql else [])
    expected = {"PGHOST": "db.example", "PGPORT": "5433", "PGUSER": "app", "PGPASSWORD": "zq@x", "PGDATABASE": "shop"}
    assert environment.items() >= {**expected, "PGSSLMODE": "require"}.items()


@pytest.mark.usefixtures("became")
def test_the_shell_shows_the_tables_of_a_feed_or_a_sink_first(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEEDS", "transactions,user_activity")
    stack = load_stack(places)
    assert stack.tables("", "") == []
    assert stack.tables("user_activity", "") == ["page_view_counts", "active_users", "user_sessions"]
    assert stack.tables("", "postgres_user_sessions") == ["user_sessions"]
    with pytest.raises(ConfigError, match=r"^nothing has no table in PostgreSQL; there are: user_activity\.\w+, "):
        stack.tables("", "nothing")
    asked = tmp_path / "asked"
    program = tmp_path / "psql"
    program.write_text(f'#!/bin/sh\necho "$PGDATABASE $*" >> {asked}\n')
    program.chmod(0o755)
    monkeypatch.setattr(postgres, "_programs", lambda: tmp_path)
    with pytest.raises(BecameAnotherError):
        postgres.shell("postgresql://app@db.example/shop", "", ["page_view_counts"])
    assert asked.read_text() == 'shop --command \\d "page_view_counts"\n'


def test_a_shell_on_no_database_says_what_to_start() -> None:
    with pytest.raises(ConfigError, match=r"^there is no database: set DATABASE_URL, or start one: make run"):
        postgres.shell("", "")


ROWS = """
CREATE TABLE page_view_counts AS SELECT
    timestamptz '2026-11-21 01:00:00+00' + n * interval '1 minute' AS window_start, '/é' AS page_url, n AS page_views,
    (n / 4.0)::numeric(18,2) AS share, n = 1 AS final, NULL::text AS nothing
FROM generate_series(1::bigint, 60000) n;
CREATE TABLE stream_app_batches (sink text, offsets jsonb)
"""


def test_query_sees_the_tables_as_they_are(places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = flows(load_feeds(PROJECT / "conf" / "feeds", ["user_activity"]), tmp_path)
    table = "user_activity.postgres_page_view_counts"

    def ask(columns: str, url: str) -> str:
        sql = f"SELECT {columns} FROM {table}" if columns else "SELECT * FROM silver"
        rows = query(app_settings(tmp_path, database_url=url).servers, made, sql)
        assert rows is not None
        rows.relation().show(max_width=200)
        return capsys.readouterr().out

    with pytest.raises(ConfigError, match=rf"^DATABASE_URL: is not set, [^\n]*; {table} is a table of it$"):
        ask("*", "")
    with started(places) as server:
        with pytest.raises(StreamAppError, match=rf"^{table}: there is no table page_view_counts yet"):
            ask("*", server.url)
        with psycopg.connect(server.url) as connection:
            connection.execute(ROWS)
        shown = ask("count(*), sum(page_views), min(window_start), any_value(page_url), count(nothing)", server.url)
        for cell in (" 60000 ", "1800030000", "2026-11-21 01:01:00+00", "/é", " 0 "):
            assert cell in shown
        assert "decimal(18,2)" in ask("max(share)", server.url)
    assert "event_id" in ask("", server.url)  # names no table, so none is read
    with pytest.raises(StreamAppError, match=rf"^{table}: no database answers at DATABASE_URL: [^\n]*$") as error:
        ask("*", server.url)
    assert server.url.split(":")[2].split("@")[0] not in str(error.value)
