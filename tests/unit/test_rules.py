"""Silver and quarantine judge each batch of bronze by the same rules, whenever a feed file is changed."""

from decimal import Decimal
from pathlib import Path

import pytest

from stream_app.admission import reset_journal, rule_versions
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.flows import lineage
from stream_app.flows.flow import Flow
from stream_app.settings import PROJECT
from tests.helpers import agree, claim, commit, flow_of, plan, write_file


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
        lineage.remember(flow, write_file(flow, batch))
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


@pytest.mark.proves("Silver and quarantine judge by the same rules")
def test_mended_rules_are_refused_while_one_is_ahead(feed: Feed, mended: Feed, tmp_path: Path) -> None:
    """What silver has judged by the old rules, quarantine would judge by the new: a record in both, or in none."""
    quarantine, silver = halves(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    judge(quarantine, 0)
    for _ in range(2):
        with pytest.raises(
            ConfigError,
            match=r"quarantine up to 0 and silver up to -1; .* put the old feed file back, and type: make app "
            r"FEEDS=transactions TRIGGER_INTERVAL=available-now; .*make reset FEED=transactions SINK=silver",
        ):
            agree(flow_of(mended, "bronze", tmp_path))
    agree(flow_of(feed, "bronze", tmp_path))
    judge(silver, 0)
    agree(flow_of(mended, "bronze", tmp_path))


@pytest.mark.parametrize("dies", ["before the file", "before the commit"])
def test_a_batch_that_died_counts_if_its_file_stands(feed: Feed, mended: Feed, tmp_path: Path, dies: str) -> None:
    quarantine, silver = halves(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    judge(quarantine, 0)
    judge(silver, 0, dies=dies)
    if dies == "before the commit":
        agree(flow_of(mended, "bronze", tmp_path))
    else:
        with pytest.raises(ConfigError, match="silver up to -1"):
            agree(flow_of(mended, "bronze", tmp_path))


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
        assert rule_versions.version_of(shipped) == f"{OLD_VERSIONS[shipped.name]}-{rule_versions.CONTRACT}"


def test_an_old_version_is_taken_over_where_both_have_judged_as_far(feed: Feed, tmp_path: Path) -> None:
    made = judged_by_the_old_version(feed, tmp_path)
    agree(flow_of(feed, "bronze", tmp_path))
    for flow in made:
        noted = (flow.checkpoint.path / "rules").read_text().split()
        assert noted == [OLD_VERSIONS[feed.name], rule_versions.version_of(feed)]
    judge(made[0], 1)
    agree(flow_of(feed, "bronze", tmp_path))


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
