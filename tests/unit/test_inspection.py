"""An inspection changes nothing and fails on nothing, and who does what it says may start."""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from stream_app import logs
from stream_app.admission import ownership
from stream_app.admission.inspection import inspect
from stream_app.admission.verdict import Code, Verdict, apply
from stream_app.errors import ConfigError, UnavailableError
from stream_app.kafka.broker import Broker
from stream_app.ops import reset
from stream_app.sinks.postgres import PostgresSink
from stream_app.sinks.registry import flows
from stream_app.storage.layout import Layout, Place
from tests.examples import examples
from tests.helpers import app_settings, plan
from tests.unit.test_admission import OneTopic
from tests.unit.test_ahead import FEEDS, run_all

GARBAGE = {
    "empty": b"",
    "no text": b"\xff\xfe\x00\x80",
    "a list": b"[]",
    "other keys": b'{"3": {"0": "x"}, "sinks": 5, "start": []}',
}
# Files of ours and of Spark's that a start reads.
STATE = {name: place for name, place in vars(Layout).items() if isinstance(place, Place)}
FILES = [name for name, place in STATE.items() if not place.path.endswith("/")] + ["reset", "start"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both feeds with every kind of sink and every file of state, as a service leaves them."""
    root = tmp_path_factory.mktemp("whole")
    found = run_all(root)
    for flow in found.values():
        layout = flow.layout
        layout.let_go.write_text("-1")
        if flow.sink == "bronze":
            layout.first_offsets.parent.mkdir(parents=True)
            layout.first_offsets.write_text(f'v1\n{{"{flow.feed.topic}":{{"0":0,"1":0}}}}')
            layout.leader_epochs.write_text('{"3": {"0": [30, 1]}}')
            layout.unread.write_text('{"batch": 1, "partition": 0, "first": 3, "end": 4, "reason": "cut"}\n')
            layout.start.write_text('{"startingOffsets": "earliest"}')
        if flow.sink == "silver":
            layout.judged_before.write_text("1")
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "output"))


def look(
    root: Path, broker: OneTopic | None = None, *, fail_on_data_loss: bool = True, has_database: bool = True
) -> Verdict:
    asked = cast(Broker, broker or OneTopic())
    return inspect(flows(FEEDS, root), asked, fail_on_data_loss=fail_on_data_loss, has_database=has_database)


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and folder, with its time and its bytes."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
    }


def type_all(root: Path, verdict: Verdict) -> None:
    """Type the commands of a verdict, but for what only a person can mend."""
    settings = app_settings(root)
    for command in dict.fromkeys(refusal.command for refusal in verdict.refusals):
        assert command.startswith("make reset FEED="), verdict.refusals
        feed, _, sink = command.removeprefix("make reset FEED=").partition(" SINK=")
        chosen = [flow for flow in flows(FEEDS, root) if flow.feed.name == feed]
        with reset.planned(chosen, settings.kafka, settings.starting_offsets, sink) as planned:
            reset.apply(planned)


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset's preview asks one for offsets."""

    def away(*_: object) -> Broker:
        raise UnavailableError

    monkeypatch.setattr(reset, "Broker", away)


def damaged(root: Path, data: st.DataObject) -> None:
    """Do to one file or folder what people, disks and other programs do."""
    path = data.draw(st.sampled_from(sorted(root.rglob("*")) or [root]), "path")
    kinds = ["deleted", "copied"] if path.is_dir() else ["deleted", "cut", "copied", *GARBAGE]
    kind = data.draw(st.sampled_from(kinds), "damage")
    if kind == "copied":
        copy = path.with_name(data.draw(st.sampled_from(["stranger", f"{path.name}0"]), "name"))
        if not copy.exists():
            (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
    elif kind == "deleted":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        path.write_bytes(GARBAGE[kind] if kind in GARBAGE else path.read_bytes()[:-1])


@given(data=st.data(), damages=st.integers(1, 3), goes_on=st.booleans())
@examples(60, HealthCheck.function_scoped_fixture)
def test_whatever_is_on_the_disk_an_inspection_returns_and_changes_nothing(
    whole: Path, data: st.DataObject, damages: int, goes_on: bool
) -> None:
    """Where it refuses, applying changes nothing either; where not, a second one finds nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(whole, Path(folder) / "output"))
        for _ in range(damages):
            damaged(root, data)
        before = snapshot(root)
        verdict = look(root, fail_on_data_loss=not goes_on)
        assert snapshot(root) == before
        for refusal in verdict.refusals:
            assert refusal.sentence.isprintable()
            assert refusal.command in refusal.sentence
            assert json.loads(json.dumps(asdict(refusal))) == asdict(refusal)
        if verdict.refusals:
            with pytest.raises(ConfigError):
                apply(verdict)
            assert snapshot(root) == before
        else:
            apply(verdict)
            again = look(root, fail_on_data_loss=not goes_on)
            assert (again.repairs, again.refusals, again.waits) == ((), (), ())


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_state_that_holds_garbage_is_a_line_that_names_what_to_type(root: Path, name: str, kind: str) -> None:
    """Or it is passed over; and who types that may start."""
    for flow in flows(FEEDS, root):
        path: Path = getattr(flow.layout, name)
        if path.exists() or name == "reset":
            path.write_bytes(GARBAGE[kind])
    verdict = look(root)
    if name == "reset":
        assert {refusal.code for refusal in verdict.refusals} == {Code.RESET_UNFINISHED}
        for flow in flows(FEEDS, root):
            flow.layout.reset.unlink(missing_ok=True)
        verdict = look(root)
    type_all(root, verdict)
    apply(look(root))


@pytest.mark.parametrize("name", ["rules", "let_go", "unread", "start"])
def test_the_line_names_the_file(root: Path, name: str) -> None:
    paths = {str(getattr(flow.layout, name)) for flow in flows(FEEDS, root) if getattr(flow.layout, name).exists()}
    for path in paths:
        Path(path).write_text("garbage")
    refusals = look(root).refusals
    assert {refusal.code for refusal in refusals} == {Code.DAMAGED}
    assert all(any(refusal.sentence.startswith(f"{path} cannot be read; ") for path in paths) for refusal in refusals)


def test_a_plan_of_another_kind_of_source_is_damaged(root: Path) -> None:
    silver = next(flow for flow in flows(FEEDS, root) if flow.sink == "silver")
    plan(silver, 4, {"transactions": {"0": 5}})
    (refusal,) = look(root).refusals
    assert refusal.sentence.startswith(f"{silver.layout.offsets}/4 cannot be read; reset it with: make reset")
    type_all(root, look(root))
    apply(look(root))


def test_all_that_is_wrong_is_told_at_once(root: Path) -> None:
    """A line for each, and none for what the reset of another takes along."""
    of = {flow.name: flow for flow in flows(FEEDS, root)}
    shutil.rmtree(of["transactions.bronze"].checkpoint.path)
    (of["transactions.gold"].layout.output / "notes.txt").touch()
    of["user_activity.silver"].layout.seen.rmdir()
    shutil.rmtree(of["user_activity.quarantine"].layout.output)
    refusals = look(root).refusals
    assert [(refusal.flow, refusal.code, refusal.command) for refusal in refusals] == [
        ("transactions.bronze", Code.CHECKPOINT_LOST, "make reset FEED=transactions SINK=bronze"),
        ("transactions.gold", Code.FILE_FOREIGN, ""),
        ("user_activity.quarantine", Code.OUTPUT_LOST, "make reset FEED=user_activity SINK=quarantine"),
        ("user_activity.silver", Code.SEEN_LOST, "make reset FEED=user_activity SINK=silver"),
    ]


def test_a_folder_of_strange_files_is_told_in_a_few_lines(root: Path) -> None:
    gold = next(flow for flow in flows(FEEDS, root) if flow.sink == "gold")
    for number in range(100):
        (gold.layout.output / f"notes{number}.txt").touch()
    assert len(look(root).refusals) == 10


def test_a_table_without_a_database_is_a_refusal_of_its_own(root: Path) -> None:
    tables = [flow for flow in flows(FEEDS, root) if isinstance(flow.to, PostgresSink)]
    refusals = look(root, has_database=False).refusals
    assert [(one.flow, one.code) for one in refusals] == [(flow.name, Code.NO_DATABASE) for flow in tables]
    assert refusals[0].sentence.startswith(f"DATABASE_URL: is not set, and {tables[0].name} is a table")


def test_a_feed_that_has_no_topic_keeps_no_other_from_being_looked_at(root: Path) -> None:
    class NoTopic(OneTopic):
        def topic(self, name: str) -> Any:
            if name == "transactions":
                raise ConfigError("there is no topic transactions")
            return super().topic(name)

    shutil.rmtree(next(flow for flow in flows(FEEDS, root) if flow.name == "user_activity.lake").layout.output)
    found = look(root, NoTopic()).refusals
    assert [refusal.code for refusal in found] == [Code.NO_TOPIC, Code.OUTPUT_LOST]


def test_who_follows_a_new_bronze_that_waits_for_its_broker_waits_too(tmp_path: Path) -> None:
    """It would be bound to none, and be refused as soon as bronze has begun."""

    class Away(OneTopic):
        def topic(self, _name: str) -> Any:
            raise UnavailableError("no answer")

    verdict = look(tmp_path, Away())
    waiting = {flow.name for flow in flows(FEEDS, tmp_path)}
    assert {wait.flow for wait in verdict.waits} == waiting
    assert (verdict.repairs, verdict.refusals) == ((), ())


def test_followers_of_a_bronze_that_only_waits_go_on(root: Path) -> None:
    broker = OneTopic()
    broker.open = {0: 1}
    verdict = look(root, broker)
    assert {wait.flow for wait in verdict.waits} == {"transactions.bronze", "user_activity.bronze"}
    assert verdict.refusals == ()


def test_a_first_start_binds_every_flow_to_the_one_that_it_follows(tmp_path: Path) -> None:
    verdict = look(tmp_path)
    bound = [repair for repair in verdict.repairs if isinstance(repair, ownership.Bind)]
    assert [repair.flow for repair in bound] == [*flows(FEEDS, tmp_path)]
    assert not any(tmp_path.iterdir())
    apply(verdict)
    again = look(tmp_path)
    assert (again.repairs, again.refusals) == ((), ())


def test_each_repair_is_logged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text")
    silver = next(flow for flow in flows(FEEDS, root) if flow.sink == "silver")
    emptied = silver.layout.commits / "3"
    emptied.write_bytes(b"")
    verdict = look(root)
    apply(verdict)
    assert not emptied.exists()
    said = f"WARNING transactions.silver deleted an entry of its checkpoint that a power cut left empty: {emptied}"
    assert said in capsys.readouterr().err


def test_a_log_that_was_cut_under_what_was_read_is_refused_or_by_setting_a_warning(root: Path) -> None:
    broker = OneTopic()
    broker.cuts = {0: 12}
    bronze = [flow for flow in flows(FEEDS, root) if flow.sink == "bronze"]
    found = look(root, broker).refusals
    assert [(refusal.flow, refusal.code) for refusal in found] == [(flow.name, Code.LOG_CUT) for flow in bronze]
    assert "partition 0: was read up to offset 30, but an unclean leader election has cut the log" in found[0].sentence
    assert "reset it with: make reset FEED=transactions SINK=bronze, or go on without" in found[0].sentence
    verdict = look(root, broker, fail_on_data_loss=False)
    assert verdict.refusals == ()
    assert [notice.flow for notice in verdict.notices] == [flow.name for flow in bronze]
