"""The oracle of the random kills (tests/faults/test_random_kills.py) notices each thing that it is there for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stream_app.settings import PROJECT
from tests.faults.test_random_kills import KILLS, Place, check_oracle
from tests.helpers import START_MS, Row, at, bronze_row, commit, plan, silver_row, value, write_layer
from tests.service.harness import Service
from tests.unit.test_audit import Flows, gold_row, refused, write_csv, write_gold

SENT = KILLS * 4 * 25 + 100
BAD = [number for number in range(SENT) if number % 100 == 7]
GOOD = [number for number in range(SENT) if number % 100 != 7]
KAFKA: dict[Place, bytes] = {(0, n): b"\xff" + value(n) if n in BAD else value(n) for n in range(SENT)}
Acknowledged = dict[int, Place]


def bronze(*more: Row, without: int | None = None) -> list[Row]:
    rows = [bronze_row(offset, record) for (_, offset), record in KAFKA.items() if offset != without]
    return [*rows, *more]


def silver(without: int | None = None) -> list[Row]:
    return [silver_row(number) | {"kafka_ts": at(0)} for number in GOOD if number != without]


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """The files of a service that has done all as it should."""
    service = Service(tmp_path, PROJECT / "conf" / "feeds", "")
    flows: Flows = {flow.sink: flow for flow in service.flows.values()}
    write_layer(flows["bronze"], 0, bronze())
    write_layer(flows["silver"], 0, silver())
    write_layer(flows["quarantine"], 0, [refused(number, KAFKA[0, number]) for number in BAD])
    cards = [row["card_id"] for row in silver()]
    write_gold(flows, [gold_row(0, card, cards.count(card)) for card in sorted(set(cards))])
    write_csv(flows, silver())
    for flow in flows.values():
        end = {"batch": 0} if flow.upstream else {"transactions": {"0": SENT}}
        plan(flow, 0, end, watermark_ms=START_MS + 60_000)
        commit(flow, 0)
    return service


def test_the_oracle_is_content_with_what_is_right(service: Service) -> None:
    check_oracle(service, KAFKA, all_acknowledged(), KILLS)


def all_acknowledged() -> Acknowledged:
    return {number: (0, number) for number in range(SENT)}


def few(acknowledged: Acknowledged) -> None:
    for number in range(9, SENT):
        del acknowledged[number]


def flows_of(service: Service) -> Flows:
    return {flow.sink: flow for flow in service.flows.values()}


BREAKS: dict[str, Callable[[Service, Acknowledged], object]] = {
    "too little was sent": lambda _, acknowledged: few(acknowledged),
    "newest record has not arrived": lambda _, acknowledged: acknowledged.update({SENT: (0, SENT)}),
    "twice in bronze": lambda s, _: write_layer(flows_of(s)["bronze"], 0, bronze(bronze_row(5, value(5)))),
    "bronze is not what Kafka holds": lambda s, _: write_layer(flows_of(s)["bronze"], 0, bronze(without=5)),
    "acknowledged record is not in bronze": lambda _, acknowledged: acknowledged.update({5: (0, 6)}),
    "not all that are valid": lambda s, _: write_layer(flows_of(s)["silver"], 0, silver(without=5)),
    "twice in silver": lambda s, _: write_layer(flows_of(s)["silver"], 1, [silver_row(5)]),
    "each of the others once": lambda s, _: write_layer(flows_of(s)["quarantine"], 1, [refused(7)]),
    "no window became final": lambda s, _: write_gold(flows_of(s), []),
    "audit found something": lambda s, _: write_csv(flows_of(s), silver(without=5)),
}


@pytest.mark.parametrize("found", BREAKS)
def test_each_part_of_the_oracle_notices(service: Service, found: str) -> None:
    acknowledged = all_acknowledged()
    BREAKS[found](service, acknowledged)
    with pytest.raises(AssertionError, match=found):
        check_oracle(service, KAFKA, acknowledged, KILLS)
