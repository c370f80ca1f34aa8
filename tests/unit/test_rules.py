"""Silver and quarantine judge each batch of bronze by the same rules, whenever a feed file is changed."""

import math
import shutil
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from stream_app.admission import reset_journal, rule_versions
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.flows import chain, rules
from stream_app.flows.flow import Flow
from stream_app.settings import PROJECT
from stream_app.sinks.protocol import rows_of
from stream_app.sources.split import Split, encoded
from stream_app.storage.batch_files import BatchFile
from tests.helpers import agree, bronze_row, claim, commit, flow_of, plan, value, write_file, write_layer


@pytest.fixture
def mended(feed: Feed) -> Feed:
    """The feed with a rule mended."""
    amount = feed.fields["amount"]
    wider = amount.model_copy(update={"range": (Decimal(0), Decimal(2_000_000))})
    return feed.model_copy(update={"fields": feed.fields | {"amount": wider}})


def test_the_shipped_feeds_have_the_rules_that_version_0_1_0_wrote() -> None:
    """Else every upgrade would ask for a reset: these are on users' disks."""
    shipped = load_feeds(PROJECT / "conf" / "feeds", ["transactions", "user_activity"])
    found = {feed.name: feed.verdict_digest() for feed in shipped}
    assert found == {"transactions": "961b58cba4ae6b11", "user_activity": "ca559c3147acc1cb"}


def halves(feed: Feed, root: Path) -> tuple[Flow, Flow]:
    made = flow_of(feed, "quarantine", root), flow_of(feed, "silver", root)
    for flow in made:
        claim(flow)
        flow.layout.seen.mkdir()
    return made


def judge(flow: Flow, batch: int, *, dies: str = "") -> None:
    """Take batch `batch` of bronze; die before the file is there, or before the commit."""
    plan(flow, batch, {"batch": batch, "replay": -1, "clock": 0})
    if dies != "before the file":
        chain.remember(flow, write_file(flow, batch))
        if dies != "before the commit":
            commit(flow, batch)


@pytest.mark.proves("Silver and quarantine judge by the same rules")
def test_mended_rules_take_effect_where_both_have_judged_as_far(feed: Feed, mended: Feed, tmp_path: Path) -> None:
    quarantine, silver = halves(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    judge(quarantine, 0)
    judge(silver, 0)
    agree(flow_of(mended, "bronze", tmp_path))
    judge(silver, 1)
    agree(flow_of(mended, "bronze", tmp_path))


mark = rules.version_of


def versions(flow: Flow) -> list[tuple[int | None, str]]:
    """The versions that are noted, each with the batch after which it counts."""
    return [(one.after, one.version) for one in rules.noted(flow)]


@pytest.mark.parametrize("ahead", ["quarantine", "silver"])
@pytest.mark.parametrize("dies", ["", "before the commit"])
@pytest.mark.proves("Silver and quarantine judge by the same rules")
def test_the_one_that_is_behind_judges_by_the_rules_of_before(
    feed: Feed, mended: Feed, tmp_path: Path, ahead: str, dies: str
) -> None:
    """Else a record that one has judged by the old rules would be in both, or in none. Whatever dies, both agree."""
    bronze = flow_of(feed, "bronze", tmp_path)
    files = [write_layer(bronze, batch, [bronze_row(batch, value(batch, amount=1_500_000))]) for batch in range(4)]
    made = {flow.sink: flow for flow in halves(feed, tmp_path)}
    agree(bronze)
    for batch in range(2):
        judge(made[ahead], batch, dies=dies if batch else "")
    for _ in range(2):
        agree(flow_of(mended, "bronze", tmp_path))
    silver, quarantine = (flow_of(mended, sink, tmp_path) for sink in ("silver", "quarantine"))
    both = [(-1, mark(feed)), (1, mark(mended))]
    assert versions(silver) == versions(quarantine) == both
    behind = {"silver": quarantine, "quarantine": silver}[ahead]
    assert offsets(behind, files) == ([0, 1] if behind is quarantine else [2, 3])
    judge(behind, 0)
    agree(flow_of(mended, "bronze", tmp_path))
    assert offsets(behind, files[1:]) == ([1] if behind is quarantine else [2, 3])
    judge(behind, 1)
    agree(flow_of(mended, "bronze", tmp_path))
    assert [one.feed is not None for one in rules.noted(behind)] == [False, True], "nothing is judged by them"
    assert versions(silver) == versions(quarantine) == both
    assert rule_versions.judged_by_others(bronze) == math.inf
    assert rule_versions.judged_by_others(flow_of(mended, "bronze", tmp_path)) == 1


def offsets(flow: Flow, files: Sequence[BatchFile]) -> list[int]:
    """The offsets of the rows that a half makes of those files of bronze."""
    split = Split([(str(file.path), [0]) for file in files], clock=0)
    return [row for rows in rows_of(flow).read(iter([encoded([split])])) for row in rows["offset"].to_pylist()]


@pytest.mark.parametrize("at", range(6))
def test_each_of_many_changes_counts_from_its_batch(feed: Feed, tmp_path: Path, at: int) -> None:
    """They come while quarantine has judged nothing; what it judges is what silver has not taken, batch by batch."""
    limits = [100, 1_000, 100, 10, 10_000]
    feeds = [limited(feed, limit) for limit in limits]
    files = [
        write_layer(flow_of(feed, "bronze", tmp_path), batch, [bronze_row(batch, value(batch, amount=500))])
        for batch in range(5)
    ]
    halves(feeds[0], tmp_path)
    taken = list[int]()
    for batch, changed in enumerate(feeds):
        agree(flow_of(changed, "bronze", tmp_path))
        silver = flow_of(changed, "silver", tmp_path)
        taken += offsets(silver, files[batch : batch + 1])
        judge(silver, batch)
        if batch == at:
            judge(flow_of(changed, "quarantine", tmp_path), batch)
    quarantine = flow_of(feeds[-1], "quarantine", tmp_path)
    refused = offsets(quarantine, files[(at + 1) % 6 :])
    assert taken == [1, 4]
    assert refused == [offset for offset in (0, 2, 3) if offset > at or at == 5]


def limited(feed: Feed, limit: int) -> Feed:
    """The feed with amounts up to a limit."""
    amount = feed.fields["amount"].model_copy(update={"range": (Decimal(0), Decimal(limit))})
    return feed.model_copy(update={"fields": feed.fields | {"amount": amount}})


def test_what_is_put_back_before_anything_is_judged_by_it_was_never_there(
    feed: Feed, mended: Feed, tmp_path: Path
) -> None:
    """Also where a start died between the two notes."""
    quarantine, silver = halves(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    judge(silver, 0)
    agree(flow_of(mended, "bronze", tmp_path))
    for died in (silver, quarantine):
        rules.note(died, [rules.Rules.of(feed)])
        agree(flow_of(mended, "bronze", tmp_path))
        assert versions(silver) == versions(quarantine) == [(-1, mark(feed)), (0, mark(mended))]
        rules.note(died, [rules.Rules.of(feed)])
        agree(flow_of(feed, "bronze", tmp_path))
        assert versions(silver) == versions(quarantine) == [(-1, mark(feed))]


def test_one_that_was_reset_alone_judges_again_as_the_other_has(feed: Feed, mended: Feed, tmp_path: Path) -> None:
    quarantine, silver = halves(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    judge(quarantine, 0)
    judge(silver, 0)
    reset_journal.begin(quarantine, {})
    reset_journal.finish(quarantine)
    claim(quarantine)
    agree(flow_of(mended, "bronze", tmp_path))
    assert versions(quarantine) == [(-1, mark(feed)), (0, mark(mended))]
    assert [batch for batch, _ in rules.earlier(quarantine)] == [0]
    assert not list(rules.earlier(silver))


REFUSED = (
    r"quarantine up to 0 and silver up to -1; .* put the old feed file back, and type: make app "
    r"FEEDS=transactions TRIGGER_INTERVAL=available-now; .*make reset FEED=transactions SINK=silver"
)


@pytest.mark.parametrize("was_noted_by", ["an older version", "a newer version"])
@pytest.mark.proves("Silver and quarantine judge by the same rules")
def test_mended_rules_are_refused_where_those_of_before_are_not_kept(
    feed: Feed, mended: Feed, tmp_path: Path, was_noted_by: str
) -> None:
    """What silver has judged by the old rules, quarantine would judge by the new: a record in both, or in none."""
    quarantine, silver = halves(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    for flow in (quarantine, silver):
        text = flow.layout.rules.read_text()
        other = mark(feed) if was_noted_by == "an older version" else text.replace('"fields"', '"things"')
        flow.layout.rules.write_text(other)
    judge(quarantine, 0)
    for _ in range(2):
        with pytest.raises(ConfigError, match=REFUSED):
            agree(flow_of(mended, "bronze", tmp_path))
    agree(flow_of(feed, "bronze", tmp_path))
    agree(flow_of(mended, "bronze", tmp_path))
    judge(flow_of(mended, "silver", tmp_path), 0)
    agree(flow_of(mended, "bronze", tmp_path))


def test_a_half_whose_rules_are_gone_is_reset_with_the_other(feed: Feed, mended: Feed, tmp_path: Path) -> None:
    """As where somebody has deleted quarantine and its checkpoint: nobody knows how silver has judged."""
    quarantine, silver = halves(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    for flow in (quarantine, silver):
        judge(flow, 0)
    agree(flow_of(mended, "bronze", tmp_path))
    for path in (quarantine.layout.output, quarantine.checkpoint.path):
        shutil.rmtree(path)
    claim(quarantine)
    reset = r"^earlier rules of transactions are not kept while .* up to -1 .*; reset both with: make reset FEED=.*"
    with pytest.raises(ConfigError, match=reset):
        agree(flow_of(mended, "bronze", tmp_path))


@pytest.mark.parametrize("dies", ["before the file", "before the commit"])
def test_a_batch_that_died_counts_if_its_file_stands(feed: Feed, mended: Feed, tmp_path: Path, dies: str) -> None:
    quarantine, silver = halves(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    judge(quarantine, 0)
    judge(silver, 0, dies=dies)
    agree(flow_of(mended, "bronze", tmp_path))
    assert versions(silver) == [(-1, mark(feed)), (0, mark(mended))]
    is_kept = [one.feed is not None for one in rules.noted(silver)]
    assert is_kept == ([False, True] if dies == "before the commit" else [True, True])


def test_one_is_reset_without_the_other_under_the_same_rules(feed: Feed, tmp_path: Path) -> None:
    quarantine, silver = halves(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    judge(quarantine, 0)
    judge(silver, 0)
    assert [flow.sink for flow in rule_versions.reset_with(silver)] == ["silver", "gold", "raw_csv"]
    assert [flow.sink for flow in rule_versions.reset_with(quarantine)] == ["quarantine"]


@pytest.mark.parametrize("was_known", [True, False])
def test_each_takes_the_other_along_under_other_rules(
    feed: Feed, mended: Feed, tmp_path: Path, was_known: bool
) -> None:
    """Also where it was judged before rules were noted at all."""
    quarantine, silver = halves(feed, tmp_path)
    if was_known:
        agree(flow_of(feed, "bronze", tmp_path))
    judge(quarantine, 0)
    judge(silver, 0)
    agree(flow_of(mended, "bronze", tmp_path))
    quarantine, silver = (flow_of(mended, flow.sink, tmp_path) for flow in (quarantine, silver))
    both = {"silver", "quarantine", "gold", "raw_csv"}
    assert {flow.sink for flow in rule_versions.reset_with(silver)} == both
    assert {flow.sink for flow in rule_versions.reset_with(quarantine)} == both
    reset_journal.begin(silver, {})
    reset_journal.finish(flow_of(mended, "bronze", tmp_path))
    assert not quarantine.layout.output.exists()
    assert not silver.checkpoint.path.exists()
    halves(mended, tmp_path)
    agree(flow_of(mended, "bronze", tmp_path))
    assert [flow.sink for flow in rule_versions.reset_with(quarantine)] == ["quarantine"]


# What commit c6c8daf, whose contract is 1, noted of the feeds that the project ships.
OLD_VERSIONS = {"transactions": "961b58cba4ae6b11", "user_activity": "ca559c3147acc1cb"}


def judged_by_the_old_version(feed: Feed, root: Path) -> tuple[Flow, Flow]:
    made = halves(feed, root)
    for flow in made:
        (flow.checkpoint.path / "rules").write_text(OLD_VERSIONS[feed.name])
        judge(flow, 0)
    return made


def test_a_version_is_the_old_one_with_the_contract_s_number(feed: Feed) -> None:
    """Else each start after an upgrade would take the rules for changed."""
    for shipped in (feed, load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])[0]):
        assert mark(shipped) == f"{OLD_VERSIONS[shipped.name]}-{rules.CONTRACT}"


def test_an_old_version_is_taken_over_where_both_have_judged_as_far(feed: Feed, tmp_path: Path) -> None:
    made = judged_by_the_old_version(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    for flow in made:
        assert versions(flow) == [(-1, OLD_VERSIONS[feed.name]), (0, mark(feed))]
    judge(made[0], 1)
    agree(flow_of(feed, "bronze", tmp_path))


def test_what_the_contract_before_has_judged_is_taken_over_and_the_rest_is_judged_by_this_one(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(rules, "CONTRACT", rules.CONTRACT - 1)
        made = halves(feed, tmp_path)
        agree(flow_of(feed, "bronze", tmp_path))
        judged_by = mark(feed)
        for flow in made:
            judge(flow, 0)
        judge(made[1], 1)
    with pytest.raises(ConfigError, match=r"^this version judges the records of transactions otherwise while "):
        agree(flow_of(feed, "bronze", tmp_path))
    judge(made[0], 1)
    agree(flow_of(feed, "bronze", tmp_path))
    for flow in made:
        assert versions(flow) == [(-1, judged_by), (1, mark(feed))]


def test_a_new_contract_is_refused_while_one_is_ahead(feed: Feed, tmp_path: Path) -> None:
    """By the old contract silver has taken what quarantine would refuse by the new one, or the other way round."""
    quarantine, silver = judged_by_the_old_version(feed, tmp_path)
    judge(silver, 1)
    with pytest.raises(
        ConfigError,
        match=r"^this version judges .* transactions otherwise .* quarantine up to 0 and silver up to 1; so that "
        r"both get as far, in the old version type: make app FEEDS=transactions TRIGGER_INTERVAL=available-now; .*: "
        r"make reset FEED=transactions SINK=silver$",
    ):
        agree(flow_of(feed, "bronze", tmp_path))
    judge(quarantine, 1)
    agree(flow_of(feed, "bronze", tmp_path))


def test_each_takes_the_other_along_under_another_contract(feed: Feed, tmp_path: Path) -> None:
    quarantine, silver = judged_by_the_old_version(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    both = {"silver", "quarantine", "gold", "raw_csv"}
    assert {flow.sink for flow in rule_versions.reset_with(silver)} == both
    assert {flow.sink for flow in rule_versions.reset_with(quarantine)} == both
