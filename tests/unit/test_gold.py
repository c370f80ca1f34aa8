"""What a run of the ETL takes, and how readers come to see it: all tables at once, or none. Without Spark."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.errors import ConfigError
from stream_app.feeds.load import load_feeds
from stream_app.gold import store
from stream_app.gold.files import link_files
from stream_app.gold.judge import shares
from stream_app.gold.manifest import Manifest, Taken, loaded
from stream_app.gold.plain import Plain
from stream_app.gold.plan import Selection, plan, shape_of, taken_of
from stream_app.gold.store import Gold
from stream_app.gold.tables import Table, check, load_tables
from stream_app.landing.ranges import of_files
from stream_app.landing.zone import LandedFile, Zone
from stream_app.settings import PROJECT, Settings, load_settings
from tests.examples import examples
from tests.helpers import tree
from tests.unit.conftest import Cli, Done

FEED = load_feeds(PROJECT / "conf" / "feeds", ["user_events"])[0]
NOW = datetime(2026, 11, 21, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(_env_file=None, landing_path=tmp_path / "landing", gold_path=tmp_path / "gold")


def touch(settings: Settings, partition: int, first: int, last: int, hours: int = 0) -> LandedFile:
    file = Zone(settings.landing_path, FEED.topic).file(NOW + timedelta(hours=hours), partition, first, last)
    file.path.parent.mkdir(parents=True, exist_ok=True)
    file.path.touch()
    return file


def committed(settings: Settings, before: Manifest | None, selection: Selection = Selection()) -> Manifest:  # noqa: B008
    found = plan(settings, [FEED], before, selection)
    shapes = {FEED.name: shape_of(FEED)}
    made = Manifest(found.run, "test", "", "", {}, {}, found.taken(), shapes=shapes)
    return loaded(_written(settings, made))  # as the next run reads it


def _written(settings: Settings, manifest: Manifest) -> Path:
    path = settings.gold_path / f"{manifest.run:010d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(manifest)))
    return path


def test_a_run_takes_what_no_run_has_taken(settings: Settings) -> None:
    one, other = touch(settings, 0, 0, 9), touch(settings, 1, 0, 4)
    first = plan(settings, [FEED], None, Selection())
    assert (first.run, first.feeds[0].files, first.feeds[0].again) == (1, [one, other], {})
    before = committed(settings, None)
    assert taken_of(before, FEED.topic) == of_files([one, other])
    assert plan(settings, [FEED], before, Selection()).is_empty
    new = touch(settings, 0, 12, 20, hours=1)
    second = plan(settings, [FEED], before, Selection())
    assert (second.run, second.feeds[0].files) == (2, [new])
    assert taken_of(committed(settings, before), FEED.topic) == {0: [(0, 9), (12, 20)], 1: [(0, 4)]}


def test_limits_choose_by_the_hour_of_landing_and_take_again(settings: Settings) -> None:
    one, two, three = (touch(settings, 0, i * 10, i * 10 + 9, hours=i) for i in range(3))
    before = committed(settings, None)
    chosen = plan(settings, [FEED], before, Selection(since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=2)))
    assert (chosen.feeds[0].files, chosen.feeds[0].again) == ([two], of_files([two]))
    assert not chosen.feeds[0].starts_anew
    assert plan(settings, [FEED], before, Selection(since=NOW)).feeds[0].files == [one, two, three]
    full = plan(settings, [FEED], before, Selection(full=True))
    assert (full.feeds[0].files, full.feeds[0].starts_anew) == ([one, two, three], True)


def test_a_full_run_is_refused_where_files_are_gone_and_others_go_on(settings: Settings) -> None:
    one, two = touch(settings, 0, 0, 9), touch(settings, 0, 10, 19, hours=1)
    before = committed(settings, None)
    one.path.unlink()
    with pytest.raises(ConfigError, match=r"--full: offsets 0 to 9 of partition 0 of topic user_events .* are gone"):
        plan(settings, [FEED], before, Selection(full=True))
    assert plan(settings, [FEED], before, Selection()).is_empty
    assert plan(settings, [FEED], before, Selection(since=NOW)).feeds[0].files == [two]


def test_a_file_of_which_a_part_was_taken_is_refused(settings: Settings) -> None:
    one = touch(settings, 0, 0, 9)
    before = committed(settings, None)
    one.path.unlink()
    touch(settings, 0, 5, 14)
    with pytest.raises(ConfigError, match=r"_p0_5-14\.jsonl\.zst: a part of its offsets was taken from another file"):
        plan(settings, [FEED], before, Selection())


def test_changed_columns_ask_for_a_full_run(settings: Settings) -> None:
    touch(settings, 0, 0, 9)
    before = replace(committed(settings, None), shapes={FEED.name: "others"})
    assert plan(settings, [FEED], before, Selection()).is_empty
    touch(settings, 0, 10, 19)
    with pytest.raises(ConfigError, match=r"feed user_events: its columns, time or dedupe key were changed; .* --full"):
        plan(settings, [FEED], before, Selection())
    assert plan(settings, [FEED], before, Selection(full=True)).feeds[0].starts_anew


def test_it_is_known_by_which_rules_each_record_was_judged(settings: Settings) -> None:
    touch(settings, 0, 0, 9)
    touch(settings, 0, 10, 19, hours=1)
    before = committed(settings, None)
    (rules,) = before.taken[FEED.topic]
    older = replace(before, taken={FEED.topic: {"older": before.taken[FEED.topic][rules]}})
    again = committed(settings, older, Selection(since=NOW + timedelta(hours=1)))
    assert again.taken[FEED.topic] == {"older": {0: [(0, 9)]}, rules: {0: [(10, 19)]}}
    assert committed(settings, older, Selection(full=True)).taken[FEED.topic] == {rules: {0: [(0, 19)]}}


class Died(BaseException):
    """As by kill -9."""


def version(gold: Gold, run: int, **tables: str) -> Path:
    """A prepared version of tables of one file each."""
    folder = gold.staging / "version"
    for table, content in tables.items():
        day = folder / table / "event_date=2026-11-21"
        day.mkdir(parents=True)
        (day / f"{table}_{run:010d}_00000.parquet").write_text(content)
    return folder


def manifest(run: int) -> Manifest:
    return Manifest(run, "test", "", "", {"f": Taken("t", "r", "s", {"x": {"records": run}})}, {})


def seen(gold: Gold) -> dict[str, str]:
    """What a reader sees of each table, by the plain paths."""
    tables = [path for path in gold.root.iterdir() if path.name[0] != "_"]
    return {table.name: next(table.glob("*/*.parquet")).read_text() for table in tables}


@pytest.mark.parametrize("point", ["prepared", "committed", "shown"])
def test_a_run_that_dies_at_any_point_was_or_was_not(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = Gold(tmp_path / "gold")
    gold.commit(manifest(1), version(gold, 1, a="1", b="1"))
    assert seen(gold) == {"a": "1", "b": "1"}

    def die(_flow: str, reached: str) -> None:
        if reached == point:
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(store, "reach", die)
        with pytest.raises(Died):
            gold.commit(manifest(2), version(gold, 2, a="2", b="2", c="2"))
    if point == "shown":
        assert seen(gold) == {"a": "2", "b": "2", "c": "2"}
    else:
        assert seen(gold) == {"a": "1", "b": "1"}, "readers see the run before, whole"
    gold.recover()
    newest = gold.newest()
    assert newest == manifest(1 if point == "prepared" else 2)
    assert seen(gold) == ({"a": "1", "b": "1"} if point == "prepared" else {"a": "2", "b": "2", "c": "2"})
    once = tree(gold.root)
    gold.recover()
    assert tree(gold.root) == once
    assert not gold.staging.exists()


def test_the_links_of_all_tables_change_by_one_rename(tmp_path: Path) -> None:
    gold = Gold(tmp_path)
    gold.commit(manifest(1), version(gold, 1, a="1", b="1"))
    for table in ("a", "b"):
        assert (tmp_path / table).readlink() == Path("_live", table)
    assert (tmp_path / "_live").readlink() == Path("_versions", "0000000001")
    tmp_path.rename(moved := tmp_path.with_name("moved"))
    assert seen(Gold(moved)) == {"a": "1", "b": "1"}, "gold may be moved, or mounted elsewhere"


def test_the_version_before_stays_for_who_has_listed_it_and_older_ones_go(tmp_path: Path) -> None:
    gold = Gold(tmp_path)
    for run in (1, 2, 3):
        folder = version(gold, run, a=str(run))
        if run > 1:
            link_files(
                Plain(gold.root).version(run - 1) / "a" / "event_date=2026-11-21",
                folder / "b" / "event_date=2026-11-20",
            )
        gold.commit(manifest(run), folder)
    assert sorted(path.name for path in (tmp_path / "_versions").iterdir()) == ["0000000002", "0000000003"]
    kept = Plain(gold.root).version(3) / "b" / "event_date=2026-11-20" / "a_0000000002_00000.parquet"
    assert kept.samefile(Plain(gold.root).version(2) / "a" / "event_date=2026-11-21" / kept.name), "no byte is copied"
    runs = sorted(path.name for path in (tmp_path / "_runs").iterdir())
    assert runs == ["0000000001.json", "0000000002.json", "0000000003.json"]


def test_what_is_in_the_way_of_a_table_or_damaged_is_named(tmp_path: Path) -> None:
    gold = Gold(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ConfigError, match=r"GOLD_PATH: .*/a is in the way of a table of that name"):
        gold.commit(manifest(1), version(gold, 1, a="1"))
    assert gold.recover() is None, "such a run never was"
    (tmp_path / "a").rmdir()
    gold.commit(manifest(1), version(gold, 1, a="1"))
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    with pytest.raises(ConfigError, match=r"GOLD_PATH: .*/a is in the way of a table of that name"):
        gold.recover()
    (tmp_path / "a").rmdir()
    gold.recover()
    assert seen(gold) == {"a": "1"}
    path = tmp_path / "_runs" / "0000000001.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"0000000001\.json: is damaged; it says what run 1 has taken"):
        gold.recover()


SQL = "-- Words.\n-- feeds: a, b\n-- looks back: 6 days\nSELECT 1"


def test_a_table_says_what_it_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "x.sql").write_text(SQL)
    assert load_tables(tmp_path) == (Table("x", ("a", "b"), 6, SQL),)
    assert load_tables(tmp_path / "none") == ()
    assert [table.name for table in load_tables(PROJECT / "conf" / "gold")] == ["product_daily", "user_daily"]


@pytest.mark.parametrize(
    ("name", "sql", "problem"),
    [
        ("x.sql", "SELECT 1", "a line such as `-- feeds: user_events` must say"),
        ("x.sql", SQL.replace("6 days", "a week"), "looks back: 'a week' is not a number of days"),
        ("X.sql", SQL, "the file's name is the table's, and must match"),
    ],
)
def test_a_mistake_in_a_table_is_one_line_that_names_the_file(
    tmp_path: Path, name: str, sql: str, problem: str
) -> None:
    (tmp_path / name).write_text(sql)
    with pytest.raises(ConfigError, match=problem) as refused:
        load_tables(tmp_path)
    assert str(tmp_path / name) in str(refused.value)


@pytest.mark.parametrize(("table", "feeds"), [("a", ["a"]), ("quarantine", ["a"]), ("x", ["a", "quarantine"])])
def test_no_table_has_the_name_of_another(table: str, feeds: list[str]) -> None:
    with pytest.raises(ConfigError, match="rename"):
        check([Table(table, ("a",), 0, "")], feeds)


def test_a_table_of_a_feed_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"x\.sql: feeds: there is no feed b; there are: a"):
        check([Table("x", ("a", "b"), 0, "")], ["a"])


DAYS = st.sets(st.integers(0, 30).map(lambda number: date(2026, 11, 1) + timedelta(number)))


@given(changed=DAYS, held=DAYS, back=st.integers(0, 7))
@examples(200)
def test_each_day_that_may_differ_is_made_anew_of_all_that_it_depends_on(
    changed: set[date], held: set[date], back: int
) -> None:
    table = Table("x", ("a",), back, "")
    affected = table.affected(changed, held)
    for day in changed | held:
        bears = any(timedelta(0) <= day - other <= timedelta(back) for other in changed)
        assert (day in affected) == bears
    assert table.read(affected) >= {day - timedelta(n) for day in affected for n in range(back + 1)}


@given(sizes=st.lists(st.integers(0, 1 << 25), max_size=30), cores=st.integers(1, 8))
@examples(200)
def test_shares_have_each_file_once_in_order(sizes: list[int], cores: int) -> None:
    files = [LandedFile(0, i, i, NOW, Path(str(i))) for i in range(len(sizes))]
    parts = shares(list(zip(files, sizes, strict=True)), cores)
    assert [file for part in parts for file in part] == files
    assert all(parts)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "LANDING_PATH: .* has no topic of any feed; land one first, as by: make land TOPIC=user_events"),
        (["--feeds=nothing"], "--feeds: there is no feed nothing; there are: "),
        (["--feeds=user_events"], "--feeds: nothing of user_events has landed; type: make land TOPIC=user_events"),
        (["--full", "--since=2026-11-21"], "--full: takes all that has landed; leave out --since and --until"),
        (["--since=2026-11-21T01:30"], "--since: .* is no whole hour such as 2026-11-27T14"),
        (["--since=2026-11-22", "--until=2026-11-22T00"], "--until: is not after --since"),
        (["--until=yesterday"], "--until: .* is no whole hour such as 2026-11-27T14"),
        (["--gold=s3://bucket/gold"], "GOLD_PATH: "),
    ],
)
def test_what_is_refused_is_one_line(cli: Cli, tmp_path: Path, arguments: list[str], problem: str) -> None:
    folders = {"LANDING_PATH": str(tmp_path / "landing"), "GOLD_PATH": str(tmp_path / "gold")}
    done = cli(tmp_path, "etl", *arguments, FEEDS_PATH=str(PROJECT / "conf" / "feeds"), **folders)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("etl: ")
    assert re.search(problem, done.err)


@pytest.mark.parametrize("arguments", [["--gold={}"], ["--batch"]])
def test_an_audit_of_the_batch_path_needs_a_run(cli: Cli, tmp_path: Path, arguments: list[str]) -> None:
    """It is of the folder that GOLD_PATH names, as the ETL's is, wherever that is set."""
    gold = str(tmp_path / "gold")
    given = [argument.format(gold) for argument in arguments]
    done = cli(tmp_path, "audit", *given, FEEDS_PATH=str(PROJECT / "conf" / "feeds"), GOLD_PATH=gold)
    assert (done.code, done.out) == (2, "")
    assert f"{gold} has no run that ended; make one with: make etl" in done.err


def test_an_audit_tells_what_no_run_has_taken(cli: Cli, settings: Settings) -> None:
    """Topics that have no record yet are right as they are: a scheduled run must not fail over them."""
    folders = {
        "FEEDS_PATH": str(PROJECT / "conf" / "feeds"),
        "LANDING_PATH": str(settings.landing_path),
        "GOLD_PATH": str(settings.gold_path),
    }

    def audit(*arguments: str) -> Done:
        return cli(settings.landing_path, "audit", "--batch", "--format=json", *arguments, **folders)

    def pending(done: Done) -> dict[str, tuple[str, int]]:
        assert done.code == 0, done.err
        return {one["feed"]: (one["verdict"], one["counts"]["pending files"]) for one in json.loads(done.out)}

    zone = Zone(settings.landing_path, FEED.topic)
    zone.folder.mkdir(parents=True)
    zone.claim("id")
    assert pending(audit()) == {f"{FEED.name} in gold": ("right", 0)}
    touch(settings, 0, 0, 9)
    assert "has no run that ended; make one with: make etl" in audit().err
    manifest = Manifest(1, "", "", "", {}, {}, {})
    (settings.gold_path / "_runs").mkdir(parents=True)
    _written(settings, manifest).rename(settings.gold_path / "_runs" / "0000000001.json")
    assert pending(audit()) == {f"{FEED.name} in gold": ("right", 1)}
    refusal = "audit: --feed: nothing of sales has landed; type: make land TOPIC=ventes_stream\n"
    assert audit("--feed=sales") == Done(2, "", refusal)


def test_a_manifest_says_by_which_reference_data_each_record_was_judged(settings: Settings) -> None:
    touch(settings, 0, 0, 9)
    first = plan(settings, [FEED], None, Selection())
    one = Manifest(1, "", "", "", {}, {}, first.taken(), first.pins({FEED.name: "one"}))
    again = touch(settings, 0, 10, 19, hours=1)
    second = plan(settings, [FEED], loaded(_written(settings, one)), Selection())
    other = Manifest(2, "", "", "", {}, {}, second.taken(), second.pins({FEED.name: "other"}))
    assert other.pins == {FEED.topic: {"one": {0: [(0, 9)]}, "other": {0: [(10, 19)]}}}
    read = loaded(_written(settings, other))
    assert read.pins == other.pins
    third = plan(settings, [FEED], read, Selection(since=again.hour))
    assert third.pins({FEED.name: "one"}) == {FEED.topic: {"one": {0: [(0, 19)]}}}
    full = plan(settings, [FEED], read, Selection(full=True))
    assert full.pins({FEED.name: "other"}) == {FEED.topic: {"other": {0: [(0, 19)]}}}
    assert full.pins({FEED.name: ""}) == {}, "a feed whose lookups went has none"
