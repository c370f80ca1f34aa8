"""A reset takes outputs and checkpoints together, and one that was cut short is finished by the next."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from stream_app.admission import reset_journal
from stream_app.errors import UnavailableError
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.kafka.topic import Topic
from stream_app.ops import reset as ops
from stream_app.sinks.registry import flows
from stream_app.storage import lock
from stream_app.storage.batch_files import batch_file
from tests.helpers import START, START_MS, bronze_row, claim, commit, plan, tree, write_file, write_layer
from tests.unit.conftest import Cli, Done

Reset = Callable[..., Done]


@pytest.fixture
def all_flows(feed: Feed, tmp_path: Path) -> tuple[Flow, ...]:
    """A feed that has run, with files in all of its outputs."""
    made = flows([feed], tmp_path)
    for flow in made:
        claim(flow, "topic-1" if flow.sink == "bronze" else None)
        write_file(flow, 0)
        plan(flow, 0, {"batch": 0} if flow.upstream else {feed.topic: {"0": 1}})
        commit(flow, 0)
    return made


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Reset:
    """Run the reset command with those options."""

    def no_broker(*_: object) -> Broker:
        raise UnavailableError

    monkeypatch.setattr(ops, "Broker", no_broker)

    return lambda *options: cli(tmp_path, "reset", *options)


def left(all_flows: tuple[Flow, ...]) -> list[str]:
    """The layers that still have their output and checkpoint; a half of the two would be neither."""
    found = []
    for flow in all_flows:
        assert flow.layout.output.exists() == flow.checkpoint.path.exists()
        found += [flow.sink] if flow.layout.output.exists() else []
    return found


@pytest.mark.parametrize(
    ("sink", "expected"),
    [
        ("", []),
        ("bronze", []),
        ("quarantine", ["bronze", "silver", "gold", "raw_csv"]),
        ("silver", ["bronze", "quarantine"]),
        ("gold", ["bronze", "quarantine", "silver", "raw_csv"]),
        ("raw_csv", ["bronze", "quarantine", "silver", "gold"]),
    ],
)
def test_a_reset_takes_what_follows(run: Reset, all_flows: tuple[Flow, ...], sink: str, expected: list[str]) -> None:
    assert run(f"--sink={sink}", "--yes").code == 0
    assert left(all_flows) == expected


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("", {"startingOffsets": "earliest"}),
        ("latest", {"startingOffsets": "latest"}),
        (
            "2026-11-21T01:00:00Z",
            {"startingTimestamp": "1795222800000", "startingOffsetsByTimestampStrategy": "latest"},
        ),
    ],
)
def test_to_says_where_bronze_reads_again(
    run: Reset, all_flows: tuple[Flow, ...], to: str, expected: dict[str, str]
) -> None:
    run("--to=latest", "--yes")  # an earlier reset's choice is forgotten
    assert run(f"--to={to}", "--yes").code == 0
    assert reset_journal.first_offsets(all_flows[0].feed, all_flows[0].root, "earliest") == expected


class OneTopic:
    """A broker that holds the offsets 5 to 90 of one partition, 40 at any time."""

    def __init__(self, *_: object) -> None:
        pass

    def topic(self, name: str) -> Topic:
        return Topic(name, "topic-1", (0,))

    def earliest_offsets(self, _topic: Topic) -> dict[int, int]:
        return {0: 5}

    def end_offsets(self, _topic: Topic) -> dict[int, int]:
        return {0: 90}

    def stable_offsets(self, _topic: Topic) -> dict[int, int]:
        return {0: 90}

    def offsets_at(self, _topic: Topic, at_ms: int) -> dict[int, int]:
        assert at_ms == START_MS
        return {0: 40}


@pytest.mark.parametrize(
    ("to", "default", "offset"),
    [("", "earliest", 5), ("", "latest", 90), ("earliest", "latest", 5), ("latest", "earliest", 90), (START, "", 40)],
)
def test_the_preview_says_what_goes_and_from_where_it_is_read_again(
    all_flows: tuple[Flow, ...],
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,
    to: str | datetime,
    default: str,
    offset: int,
) -> None:
    monkeypatch.setattr(ops, "Broker", OneTopic)
    monkeypatch.setenv("COLUMNS", "200")
    bronze, gold = all_flows[0], all_flows[3]
    write_layer(bronze, 0, [bronze_row(n, b"x" * 20_000) for n in range(3)])
    gold.layout.late.mkdir()
    write_layer(gold, 0, []).path.rename(
        batch_file(gold.layout.late, gold.layout.late_name, "parquet", START_MS, 0).path
    )
    size = f"{bronze.files()[0].path.stat().st_size / 1e6:.2f}"
    options = f"--to={to if isinstance(to, str) else to.isoformat()}", "--yes"
    done = cli(bronze.root, "reset", *options, STARTING_OFFSETS=default)
    assert done.code == 0
    lines = [line.replace("│", " ").split() for line in done.out.splitlines()]
    of_bronze = next(line for line in lines if "transactions.bronze" in line)
    assert of_bronze[:4] == ["transactions.bronze", "1", "3", size]
    assert of_bronze[-2:] == ["(partition:offset", f"0:{offset})"]
    of_silver = " ".join(next(line for line in lines if "transactions.silver" in line))
    assert of_silver.endswith("transactions.bronze, batch 0 (1 files)")
    assert ["its", "rows", "that", "came", "too", "late", "1", "0", "0.00"] in lines


def test_a_reset_of_silver_leaves_where_bronze_began(run: Reset, all_flows: tuple[Flow, ...]) -> None:
    run("--to=latest", "--yes")
    run("--sink=silver", "--yes")
    assert reset_journal.first_offsets(all_flows[0].feed, all_flows[0].root, "earliest") == {
        "startingOffsets": "latest"
    }


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--sink=platinum"], "reset: --sink: "),
        (["--to=yesterday"], "reset: --to: "),
        (["--sink=silver", "--to=latest"], "reset: --to: is for bronze"),
        (["--yes=yes"], "reset: argument --yes: "),
        ([], "reset: --yes: there is no terminal"),
    ],
)
def test_a_wrong_option_changes_nothing(
    run: Reset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], problem: str
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    before = tree(tmp_path)
    done = run(*options)
    assert done.code == 2
    assert done.err.startswith(problem)
    assert {name: data for name, data in tree(tmp_path).items() if name != "_lock"} == before


def test_a_reset_that_is_not_agreed_to_changes_nothing(
    run: Reset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    before = tree(tmp_path)
    done = run()
    assert done.code == 1
    assert "transactions.silver" in done.out
    assert done.out.endswith("nothing was changed\n")
    assert {name: data for name, data in tree(tmp_path).items() if name != "_lock"} == before


def test_it_refuses_while_the_service_runs(run: Reset, tmp_path: Path) -> None:
    with lock.sole_user(tmp_path, 0):
        done = run("--yes")
    assert (done.code, "is in use by process" in done.err) == (2, True)


def test_as_json_it_shows_and_deletes_only_what_was_agreed_to(run: Reset, all_flows: tuple[Flow, ...]) -> None:
    """A program is not asked, and no question is among the JSON."""
    shown = run("--sink=silver", "--format=json")
    assert shown.code == 1
    told = json.loads(shown.out)
    assert ([sink["name"].partition(".")[2] for sink in told["sinks"]], told["is_done"]) == (
        ["silver", "gold", "raw_csv"],
        False,
    )
    assert len(left(all_flows)) == 5
    done = run("--sink=silver", "--format=json", "--yes")
    assert (done.code, json.loads(done.out)) == (0, told | {"is_done": True})
    assert left(all_flows) == ["bronze", "quarantine"]


@pytest.mark.parametrize("options", [(), ("--sink=gold", "--yes")])
@pytest.mark.parametrize("deletions", range(10))
def test_a_reset_cut_short_anywhere_is_finished_by_the_next(
    run: Reset, all_flows: tuple[Flow, ...], monkeypatch: pytest.MonkeyPatch, deletions: int, options: tuple[str, ...]
) -> None:
    """Die before each of the folders that go; until it is finished, the service refuses to start."""
    feed, root = all_flows[0].feed, all_flows[0].root
    delete, done = shutil.rmtree, 0

    def delete_or_die(path: Path, **options: Any) -> None:
        nonlocal done
        if done == deletions:
            raise KeyboardInterrupt
        done += 1
        delete(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", delete_or_die)
        with pytest.raises(KeyboardInterrupt):
            run("--to=latest", "--yes")
    (refusal,) = reset_journal.inspect(all_flows[0])
    assert refusal.command == "make reset FEED=transactions"
    assert run(*options).code == 0
    assert list(reset_journal.inspect(all_flows[0])) == []
    assert left(all_flows) == []
    assert reset_journal.first_offsets(feed, root, "earliest") == {"startingOffsets": "latest"}


def test_to_finish_a_reset_deletes_no_more_than_that_was_to(run: Reset, all_flows: tuple[Flow, ...]) -> None:
    """What the service's line says to type has no SINK, which means bronze anywhere else."""
    gold = next(flow for flow in all_flows if flow.sink == "gold")
    reset_journal.begin(gold, {})
    assert run().code == 0
    assert left(all_flows) == ["bronze", "quarantine", "silver", "raw_csv"]


def test_the_ledger_of_replays_goes_with_silver(run: Reset, all_flows: tuple[Flow, ...]) -> None:
    silver = next(flow for flow in all_flows if flow.sink == "silver")
    silver.layout.replay.mkdir()
    run("--sink=gold", "--yes")
    assert silver.layout.replay.exists()
    run("--sink=silver", "--yes")
    assert not silver.layout.replay.exists()


def test_what_was_noted_is_whole_or_not_there(all_flows: tuple[Flow, ...]) -> None:
    reset_journal.begin(all_flows[2], {})
    folder = all_flows[0].root / "transactions"
    assert json.loads((folder / "_reset.json").read_text())["sinks"] == ["silver", "gold", "raw_csv"]
    assert not list(folder.glob("*.tmp"))


def test_that_a_reset_is_done_is_on_the_disk(all_flows: tuple[Flow, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a power cut brings it back, to be done to what was written since."""
    reset_journal.begin(all_flows[0], {})
    folder, synced = all_flows[0].root / "transactions", list[tuple[Path, bool]]()
    monkeypatch.setattr(reset_journal, "sync", lambda path: synced.append((path, (folder / "_reset.json").exists())))
    reset_journal.finish(all_flows[0])
    assert synced == [(folder, False)]
