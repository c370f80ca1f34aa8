"""A contract for others: the JSON Schema takes what the feed takes and refuses what it can say; the ODCS file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected
from stream_app.feeds.feed import Feed
from stream_app.feeds.field_keys import anchored
from stream_app.feeds.fields import Field
from stream_app.feeds.load import feeds_in, load_feeds
from stream_app.ops.exports.json_schema import json_schema
from stream_app.ops.exports.pattern import ecma
from stream_app.settings import PROJECT
from stream_app.sinks.registry import check
from tests.examples import examples
from tests.unit.conftest import Cli
from tests.unit.test_any_feed import KAFKA_TS
from tests.unit.test_random_feeds import feeds_and_records

FEEDS = PROJECT / "conf" / "feeds"


def _is_whole(_: Any, value: object) -> bool:
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return number and value == int(value)  # type: ignore[call-overload]


# Most validators read doubles. This one reads numbers exactly, as the contract does.
EXACT = extend(Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole))


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def parsed(value: bytes, number: Callable[[str], object]) -> object:
    return json.loads(value.decode(), parse_float=number, parse_constant=_refuse)


def unsaid(reason: str, feed: Feed, value: bytes) -> bool:
    """Whether JSON Schema cannot say what a reason is for (ops/exports/json_schema.py)."""
    kind, _, path = reason.partition(":")
    if kind in {"late", "future", "bad_time", "bad_date"}:
        return True
    if kind == "not_json":
        return value.count(b"[") + value.count(b"{") > 100
    if kind == "bad_type":
        return rb"\ud" in value  # half of a pair
    return kind == "out_of_range" and any(map(_is_loose, _fields_at(feed.fields, path)))


def _fields_at(fields: dict[str, Field], path: str, prefix: str = "") -> list[Field]:
    """The fields that a path of a reason may be of."""
    found = []
    for name, field in fields.items():
        at, inner = f"{prefix}{'.'.join(field.path or (name,))}", field
        while inner.element or inner.value:
            at, inner = at + ("[]" if inner.element else "{}"), inner.inner
        found += [inner] if at == path else []
        found += _fields_at(inner.fields or {}, path, f"{at}.")
    return found


def _is_loose(field: Field) -> bool:
    """Whether the schema takes values of a field that are out of range: times, texts, too many decimals, bytes."""
    kind = field.type.partition("(")[0]
    is_edge = kind == "long" and field.range is None  # 2^63 itself
    return field.text or is_edge or kind in {"timestamp", "date", "binary", "decimal"}


@examples(400)
@given(feeds_and_records())
def test_the_schema_takes_what_the_contract_takes_and_refuses_what_it_can_say(case: tuple[Feed, list[bytes]]) -> None:
    feed, records = case
    schema = json_schema(feed)
    Draft202012Validator.check_schema(schema)
    usual, exact, contract = Draft202012Validator(schema), EXACT(schema), Contract(feed)
    for value in records:
        verdict = contract.check(value, KAFKA_TS, KAFKA_TS)
        if not isinstance(verdict, Rejected):
            assert [error.message for error in usual.iter_errors(parsed(value, float))] == [], value
            continue
        try:
            record = parsed(value, Decimal)
        except (ValueError, RecursionError):
            continue
        if exact.is_valid(record):
            assert [one for one in verdict.reasons if not unsaid(one, feed, value)] == [], value


@pytest.mark.parametrize("name", feeds_in(FEEDS))
def test_the_schema_of_a_shipped_feed_takes_the_records_of_its_examples(name: str) -> None:
    (feed,) = load_feeds(FEEDS, [name], check)
    validator = Draft202012Validator(json_schema(feed))
    lines = [line for file in (FEEDS / f"{name}.tests").rglob("input.jsonl") for line in file.read_text().splitlines()]
    for line in lines:
        given = json.loads(line)
        value = given["value"] if isinstance(given.get("value"), str) else json.dumps(given.get("value"))
        verdict = Contract(feed).check(value.encode(), KAFKA_TS, KAFKA_TS) if not feed.lookups else Rejected(("?",))
        if not isinstance(verdict, Rejected):
            assert validator.is_valid(json.loads(value)), value


PORTABLE = [
    "[a-z]+",
    "[A-Z]{2}",
    r"\d{3}-\w+",
    r"a.c",
    r"[\w.-]+@[^@\s]+",
    "(a|b)*",
    r"x\.y",
    "é+",
    r"[^\n-]",
    r"\-\@",
    "a{2,}?",
]
FOREIGN = ["(?i)a", r"\pL+", "[[:alpha:]]+", r"\Qa.b\E", "(?P<x>a)", r"\bword\b", "^a$", r"[\w-z]", r"[^\D]", "a{,3}"]


def test_a_pattern_is_exported_where_it_means_the_same() -> None:
    assert [one for one in PORTABLE if ecma(one) is None] == []
    assert [one for one in FOREIGN if ecma(one) is not None] == []


_SIGNS = st.sampled_from([*"ab.-[]^$(){}|?*+\\dDwWsSn/:@é", "[a-c]", "[^a]", r"\d", "(?:", "a{2}", "{2,3}"])
_TEXTS = st.text(st.sampled_from([*"abcdnDW09_-.@/:é \t\r\v\u00a0"]), max_size=6)


@examples(600)
@given(st.lists(_SIGNS, min_size=1, max_size=8).map("".join), st.lists(_TEXTS, min_size=3, max_size=6))
def test_an_exported_pattern_takes_the_same_texts(pattern: str, texts: list[str]) -> None:
    """Python's `re` stands for ECMAScript: of what is exported both read the same."""
    found = ecma(pattern)
    try:
        taken = pc.match_substring_regex(pa.array(texts), anchored(pattern)).to_pylist()
    except pa.ArrowInvalid:
        return
    if found is not None:
        assert [re.search(found, text) is not None for text in texts] == taken, found


def exported(cli: Cli, root: Path, feed: str, form: str) -> Any:
    done = cli(root, "contract", f"--feed={feed}", f"--format={form}")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out) if form == "jsonschema" else yaml.safe_load(done.out)


def test_the_odcs_file_has_columns_keys_rules_and_semantics(cli: Cli, tmp_path: Path) -> None:
    made = exported(cli, tmp_path, "sales", "odcs")
    assert (made["apiVersion"], made["kind"], made["name"]) == ("v3.1.0", "DataContract", "sales")
    parts = {one["name"]: one for one in made["schema"]}
    assert [*parts] == ["bronze", "quarantine", "silver", "heures", "ventes_par_pays", "meilleurs_produits"]
    silver = {one["name"]: one for one in parts["silver"]["properties"]}
    assert silver["montant"]["logicalType"] == "number"
    assert silver["montant"]["physicalType"] == "decimal(18,2)"
    # a bound is no nearer than the next double
    assert silver["quantite"]["logicalTypeOptions"] == {"minimum": 1, "maximum": 2**63}
    assert silver["vente_id"]["required"] is True
    assert "required" not in silver["prix"]
    keys = [name for name, one in silver.items() if one.get("primaryKey")]
    assert keys == ["partition", "offset"]
    said = {one["property"]: one["value"] for one in made["customProperties"]}
    assert (said["lateness"], said["dedupeKey"], said["dedupeWithin"]) == ("10 minutes", ["vente_id"], "1 hour")
    hours = {one["property"]: one["value"] for one in parts["heures"]["customProperties"]}
    assert (hours["window"], hours["watermark"]) == ("1 hour", "15 minutes")
    assert hours["sinks"][0]["name"] == "hourly_sales"
    status = exported(cli, tmp_path, "transactions", "odcs")["schema"][2]["properties"][8]
    assert status["quality"][0]["arguments"] == {"validValues": ["approved", "declined", "pending"]}


def test_a_rule_is_a_query_that_finds_no_row(cli: Cli, tmp_path: Path) -> None:
    text = (FEEDS / "transactions.toml").read_text()
    (tmp_path / "transactions.toml").write_text(text + "\n[rules.cheap]\ncheck = \"amount < 100 OR category <> 'x'\"\n")
    done = cli(tmp_path, "contract", "--feed=transactions", FEEDS_PATH=str(tmp_path))
    (rule,) = yaml.safe_load(done.out)["schema"][2]["quality"]
    assert rule["mustBe"] == 0
    assert "(amount < 100 OR category <> 'x') IS NOT TRUE" in rule["query"]


def test_a_contract_is_of_one_feed(cli: Cli, tmp_path: Path) -> None:
    done = cli(tmp_path, "contract", FEEDS="transactions,sales")
    assert (done.code, done.out) == (2, "")
    assert "give one of transactions, sales" in done.err
