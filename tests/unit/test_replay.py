"""make replay: what it takes out of quarantine, over files as the service writes them."""

import fcntl
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.sinks.registry import flows
from stream_app.storage.batch_files import REPLAY, batch_files
from stream_app.storage.planned import merged, pinned
from tests.helpers import START_MS, Row, bronze_row, silver_row, tree, value, write_layer
from tests.unit.conftest import Cli

TOO_LATE = 600  # seconds after its event that Kafka took a record; the feed allows three minutes

Replay = Callable[..., str]


@pytest.fixture
def made(feed: Feed, tmp_path: Path) -> dict[str, Flow]:
    return {flow.sink: flow for flow in flows([feed], tmp_path)}


@pytest.fixture
def run(made: dict[str, Flow], cli: Cli) -> Replay:
    """A function that replays with those options, and returns what was printed."""

    def run(*options: str, code: int = 0) -> str:
        done = cli(made["bronze"].root, "replay", *options)
        assert done.code == code
        return done.out + done.err

    return run


def quarantined(offset: int, record: bytes, *reasons: str, seconds: float = 0) -> Row:
    return bronze_row(offset, record, seconds) | {"value_text": record.decode(), "reasons": list(reasons)}


def ledgers(made: dict[str, Flow]) -> list[list[Row]]:
    """The rows of each file of the ledger, oldest first."""
    files = sorted(batch_files(made["silver"].layout.replay, REPLAY))
    return [pq.read_table(file.path).to_pylist() for file in files]


def taken(made: dict[str, Flow]) -> list[str]:
    return [row["txn_id"] for rows in ledgers(made) for row in rows]


def test_a_record_that_passes_now_goes_into_the_ledger_once(made: dict[str, Flow], run: Replay) -> None:
    """Nothing twice: the ledger itself says what was taken; and each row is what silver would have held at first."""
    fails_still = quarantined(1, value(1, amount=-1), "out_of_range:amount")
    write_layer(made["quarantine"], 0, [quarantined(0, value(0), "not_allowed:currency"), fails_still])
    made["silver"].layout.replay.mkdir(parents=True)
    died = made["silver"].layout.replay / "_replay_20260101_000000_0000000000.parquet.tmp"
    died.write_text("a part of it")
    printed = run()
    assert not died.exists(), "what a replay that was killed has left stays for ever"
    assert "1 records are in the ledger" in printed
    assert "silver takes them with the next start" in printed
    assert ledgers(made) == [[silver_row(0)]]
    assert "in the ledger" not in run()
    assert ledgers(made) == [[silver_row(0)]]
    write_layer(made["quarantine"], 1, [quarantined(2, value(2), "not_allowed:currency")])
    run()
    assert ledgers(made) == [[silver_row(0)], [silver_row(2)]]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("", ["t0", "t1", "t2"]),
        ("not_allowed", ["t0", "t1"]),
        ("not_allowed:currency", ["t0"]),
        ("future", ["t1"]),
        ("missing:amount", ["t2"]),
        ("missing:am", []),
        ("not", []),
    ],
)
def test_reason_chooses_whole_reasons_with_or_without_their_field(
    made: dict[str, Flow], run: Replay, reason: str, expected: list[str]
) -> None:
    """Only what was asked for is taken: not what merely begins with the same letters."""
    reasons = [["not_allowed:currency"], ["not_allowed:status", "future"], ["missing:amount"]]
    write_layer(made["quarantine"], 0, [quarantined(n, value(n), *why) for n, why in enumerate(reasons)])
    run(f"--reason={reason}")
    assert taken(made) == expected


@pytest.mark.parametrize(("allow", "expected"), [("", []), ("--allow=late", ["t0"])])
def test_allow_forgives_the_time_and_nothing_else(
    made: dict[str, Flow], run: Replay, allow: str, expected: list[str]
) -> None:
    """A row of silver is whole, whatever was forgiven."""
    late = quarantined(0, value(0), "late", seconds=TOO_LATE)
    future = quarantined(1, value(1, 2 * TOO_LATE), "future", seconds=TOO_LATE + 1)
    not_whole = quarantined(2, value(2, amount=None), "missing:amount", "late", seconds=TOO_LATE)
    write_layer(made["quarantine"], 0, [late, future, not_whole])
    run(*filter(None, [allow]))
    assert taken(made) == expected


@pytest.mark.parametrize("bronze_is", ["there", "merged", "pruned"])
def test_a_client_s_clock_is_no_way_past_ours(made: dict[str, Flow], run: Replay, bronze_is: str) -> None:
    """Records that say they are an hour ahead, to Kafka too. Bronze's files know when they came."""
    hour = 3600
    ahead = [value(n, hour) for n in range(3)]
    refused = [quarantined(n, record, "not_allowed:currency", seconds=hour) for n, record in enumerate(ahead)]
    plans = [START_MS + hour * 1000, START_MS, START_MS + hour * 1000]
    if bronze_is != "pruned":
        files = [write_layer(made["bronze"], n, [bronze_row(n, ahead[n], hour)]) for n in range(3)]
        for file, plan in zip(files, plans, strict=True):
            pq.write_table(pq.read_table(file.path).replace_schema_metadata(pinned(plan)), file.path)
        if bronze_is == "merged":
            says = merged([pq.read_metadata(file.path) for file in files])
            rows = pa.concat_tables([pq.read_table(file.path) for file in files]).replace_schema_metadata(says)
            for file in files:
                file.path.unlink()
            whole = write_layer(made["bronze"], 0, [], last=2)
            pq.write_table(rows, whole.path)
        write_layer(made["quarantine"], 2 * hour, refused)
        expected = ["t0", "t2"]
    else:  # the time of quarantine's file is the next best
        write_layer(made["quarantine"], 0, refused[:1])
        write_layer(made["quarantine"], hour, refused[1:])
        expected = ["t1", "t2"]
    printed = run("--allow=late")
    assert taken(made) == expected
    assert "future" in printed


def test_what_leaves_no_whole_row_cannot_be_allowed(made: dict[str, Flow], run: Replay) -> None:
    """A refusal touches nothing."""
    write_layer(made["quarantine"], 0, [quarantined(0, value(0, amount=None), "missing:amount")])
    before = tree(made["bronze"].root)
    assert "invalid choice: 'missing' (choose from 'late')" in run("--allow=missing", code=2)
    assert tree(made["bronze"].root) == before


def test_records_go_to_silver_alone(made: dict[str, Flow], run: Replay, cli: Cli) -> None:
    assert "quarantine" in run("--sink=silver")
    done = cli(made["bronze"].root, "replay", "--sink=gold")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("replay: --sink: records go to silver alone")
    assert cli(made["bronze"].root, "replay", "--sink=nothing").code == 2


def test_a_dry_run_counts_and_writes_nothing(made: dict[str, Flow], run: Replay) -> None:
    """To look changes nothing that anybody reads; the lock alone is left, empty."""
    rows = [quarantined(n, value(n, amount=12.5 if n < 3 else -1), "out_of_range:amount") for n in range(5)]
    write_layer(made["quarantine"], 0, rows)
    root = made["bronze"].root
    before = tree(root)
    printed = run("--dry-run")
    assert ["out_of_range:amount", "3", "2"] in [line.split() for line in printed.splitlines()]
    assert "in the ledger" not in printed
    assert tree(root) == before | {"transactions/_replay.lock": b""}
    run()
    assert taken(made) == ["t0", "t1", "t2"]


def test_a_record_whose_dedupe_key_silver_holds_is_not_taken(made: dict[str, Flow], run: Replay) -> None:
    """Silver holds each key once: its own dedupe forgets a key after an hour, so that the replay must look."""
    write_layer(made["silver"], 0, [silver_row(0)])
    rows = [quarantined(7, value(0), "not_allowed:city"), quarantined(8, value(1), "not_allowed:city")]
    write_layer(made["quarantine"], 0, rows)
    assert "repeat of a record that silver holds" in run()
    assert taken(made) == ["t1"]


def test_of_two_with_one_dedupe_key_kafkas_first_is_taken(made: dict[str, Flow], run: Replay) -> None:
    """Silver holds each key once, and the same one whatever the order of the files."""
    second, first = (
        quarantined(offset, value(0, city=city), "not_allowed:city", seconds=offset)
        for offset, city in ((9, "Bonn"), (4, "Jena"))
    )
    write_layer(made["quarantine"], 0, [second, first])
    run()
    assert [(row["city"], row["offset"]) for rows in ledgers(made) for row in rows] == [("Jena", 4)]


def test_a_second_replay_of_the_feed_is_refused_while_one_is_under_way(made: dict[str, Flow], run: Replay) -> None:
    """Nothing twice: two that judge at once would both find a record not yet in the ledger."""
    write_layer(made["quarantine"], 0, [quarantined(0, value(0), "not_allowed:city")])
    with made["silver"].layout.replay_lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "replay: another replay of transactions is under way" in run(code=2)
    assert taken(made) == []
    run()
    assert taken(made) == ["t0"]


@pytest.mark.parametrize(("holder", "step"), [(pq, "write_table"), (Path, "replace")])
def test_a_replay_that_dies_is_done_again_once(
    made: dict[str, Flow], run: Replay, monkeypatch: pytest.MonkeyPatch, holder: object, step: str
) -> None:
    """While it writes the ledger's next file, and before that appears."""
    write_layer(made["quarantine"], 0, [quarantined(n, value(n), "not_allowed:city") for n in range(2)])
    write = pq.write_table

    def die(what: pa.Table | Path, target: Path, **_: object) -> None:
        if isinstance(what, pa.Table):
            write(what.slice(0, 1), target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(holder, step, die)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert taken(made) == []
    run()
    assert ledgers(made) == [[silver_row(0), silver_row(1)]]
    run()
    assert taken(made) == ["t0", "t1"]


def test_a_reason_that_no_record_has_is_answered_with_those_there_are(made: dict[str, Flow], run: Replay) -> None:
    """An empty table would leave a typing mistake unseen."""
    rows = [quarantined(0, value(0), "not_allowed:city", "late"), quarantined(1, value(1, amount=None), "future")]
    write_layer(made["quarantine"], 0, rows)
    nothing = "transactions: no record that waits in quarantine has the reason"
    assert run("--reason=foo") == f"{nothing} foo; there are future, late, not_allowed:city\n"
    assert taken(made) == []
    run()
    assert run("--reason=late") == (
        "transactions: no record that waits in quarantine has the reason late; there are future\n"
    )


def test_what_a_replay_did_is_told_as_json(made: dict[str, Flow], run: Replay) -> None:
    write_layer(made["quarantine"], 0, [quarantined(0, value(0), "late"), quarantined(1, b"x", "not_json")])
    (told,) = json.loads(run("--format=json"))
    (ledger,) = batch_files(made["silver"].layout.replay, REPLAY)
    assert told.pop("token").startswith("0.")
    assert told == {
        "feed": "transactions",
        "passing": {"late": 1},
        "failing": {"not_json": 1},
        "records": 1,
        "ledger": ledger.path.name,
        "is_running": False,
        "reasons": [],
    }
