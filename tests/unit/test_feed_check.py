"""feed-check tells every mistake of every file, as the start would, and needs nothing but the files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.errors import ConfigError
from stream_app.feeds.load import feeds_in, load_feeds
from stream_app.settings import PROJECT
from tests.unit.conftest import Cli

FEEDS = PROJECT / "conf" / "feeds"
SHIPPED = ", ".join(feeds_in(FEEDS))
TRANSACTIONS = (FEEDS / "transactions.toml").read_text()
ORDERS = TRANSACTIONS.replace('topic = "transactions"', 'topic = "orders"')


def test_the_shipped_feeds_have_no_mistake(cli: Cli, tmp_path: Path) -> None:
    done = cli(tmp_path, "feed-check", FEEDS_PATH=str(FEEDS))
    assert (done.code, done.out, done.err) == (0, f"no mistakes in {SHIPPED}\n", "")


def test_a_mistake_is_a_line_that_an_editor_finds_and_the_start_says_the_same(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "orders.toml").write_text(ORDERS.replace("[-90, 90]", "[90, -90]").replace("sum(amount)", "sum(city)"))
    (tmp_path / "transactions.toml").write_text(TRANSACTIONS)
    (tmp_path / "zz.toml").write_text(TRANSACTIONS)
    done = cli(tmp_path, "feed-check", FEEDS_PATH=str(tmp_path))
    assert (done.code, done.err) == (2, "")
    lines = done.out.splitlines()
    for line, (file, text) in zip(
        lines,
        [("orders", "range = [90, -90]"), ("orders", 'sum_amount = "sum(city)"'), ("zz", 'topic = "transactions"')],
        strict=True,
    ):
        match = re.match(r"(.*\.toml):([0-9]+): ([a-z_.]+): ", line)
        assert match is not None
        assert match[1] == f"{file}.toml"
        assert Path(match[1]).read_text().splitlines()[int(match[2]) - 1] == text
        assert text.startswith(match[3].rpartition(".")[2])
    with pytest.raises(ConfigError) as refused:
        load_feeds(tmp_path, ["orders", "transactions", "zz"])
    assert str(refused.value) == "; ".join(f"{tmp_path / line}" for line in lines)


def test_one_feed_alone_is_compared_with_no_other(cli: Cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(TRANSACTIONS)
    assert cli(tmp_path, "feed-check", "--feed=b", FEEDS_PATH=str(tmp_path)).code == 0
    assert cli(tmp_path, "feed-check", FEEDS_PATH=str(tmp_path)).code == 2
    assert cli(tmp_path, "feed-check", "--feed=c", FEEDS_PATH=str(tmp_path)).code == 2


@pytest.mark.parametrize(
    "ill", ['to = "lake"\ndates = "0 days"', 'to = "excel"', 'to = "csv"\ntopic = "x"', 'to = "kafka"']
)
def test_an_ill_formed_sink_of_one_feed_hides_no_mistake_of_another(cli: Cli, tmp_path: Path, ill: str) -> None:
    (tmp_path / "a.toml").write_text(f'{ORDERS}\n[sinks.ill]\nof = "silver"\n{ill}\n')
    for feed in ("b", "c"):  # which are sound, but for their topic
        (tmp_path / f"{feed}.toml").write_text(TRANSACTIONS)
    done = cli(tmp_path, "feed-check", FEEDS_PATH=str(tmp_path))
    assert (done.code, done.err) == (2, "")
    assert [line.split(":")[0] for line in done.out.splitlines()] == ["a.toml", "c.toml"]


@pytest.mark.parametrize(
    ("ill", "problem"),
    [
        ('type = "map"', "fields.tags.value: is missing: what a map holds"),
        ('type = "array"\nelement = { type = "map" }', "fields.tags.element.value: is missing: what a map holds"),
        ('type = "struct"\nfields = {}', "fields.tags.fields: is empty"),
    ],
)
def test_a_field_that_does_not_say_what_it_holds_hides_no_mistake_of_a_rule(
    cli: Cli, tmp_path: Path, ill: str, problem: str
) -> None:
    rules = '[rules.a]\ncheck = "amount > 0"\n[rules.b]\ncheck = "len(tags) > 0"\n[rules.c]\ncheck = "amuont > 0"\n'
    (tmp_path / "a.toml").write_text(f"{ORDERS}\n[fields.tags]\n{ill}\n{rules}")
    done = cli(tmp_path, "feed-check", FEEDS_PATH=str(tmp_path))
    assert (done.code, done.err) == (2, "")
    first, second = (line.partition(": ")[2] for line in done.out.splitlines())
    assert first == problem
    assert second.startswith("rules.c.check: ")


def test_as_json_a_mistake_has_its_parts(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "orders.toml").write_text(ORDERS.replace("[event_time]", "[event_tim]"))
    done = cli(tmp_path, "feed-check", "--format=json", FEEDS_PATH=str(tmp_path))
    path = str(tmp_path / "orders.toml")
    line = ORDERS.splitlines().index("[event_time]") + 1
    assert json.loads(done.out) == {
        "feeds": ["orders"],
        "mistakes": [
            {"file": path, "line": None, "key": "event_time", "problem": "is missing"},
            {"file": path, "line": line, "key": "event_tim", "problem": "unknown key"},
        ],
    }


def test_a_folder_without_feeds_is_a_mistake(cli: Cli, tmp_path: Path) -> None:
    done = cli(tmp_path, "feed-check", FEEDS_PATH=str(tmp_path))
    assert (done.code, done.out) == (2, ".: no feed is named; there are: none\n")


def test_it_needs_neither_spark_nor_kafka() -> None:
    """No JVM is started, and no broker is asked: there is no java, and nothing at the broker's address."""
    code = "from stream_app.cli.main import main; main(['feed-check'])"
    environment = {"PATH": "", "KAFKA_BOOTSTRAP_SERVERS": "localhost:1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"no mistakes in {SHIPPED}\n"), done.stderr
