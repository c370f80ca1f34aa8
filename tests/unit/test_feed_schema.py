"""docs/feed.schema.json is Feed's: it takes what the service takes, and refuses what an editor can tell is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from stream_app.settings import PROJECT
from tests import feed_schema

FILES = sorted((PROJECT / "conf" / "feeds").glob("*.toml"))
TRANSACTIONS = (PROJECT / "conf" / "feeds" / "transactions.toml").read_text()


def test_the_schema_is_what_feed_says() -> None:
    assert feed_schema.PAGE.read_text() == feed_schema.page(), "make it again with: .venv/bin/python -m tests.docs"
    Draft7Validator.check_schema(json.loads(feed_schema.page()))


def test_every_key_says_what_it_means() -> None:
    def keys(schema: Any) -> Iterator[tuple[str, Any]]:
        for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
            yield from keys(part)
        if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
            yield from schema["properties"].items()

    found = list(keys(json.loads(feed_schema.page())))
    assert len(found) > 20
    assert [name for name, said in found if "description" not in said] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_feed_names_the_schema_and_keeps_it(file: Path) -> None:
    text = file.read_text()
    named = re.match(r"#:schema (.*)\n", text)
    assert named is not None
    assert (file.parent / named[1]).resolve() == feed_schema.PAGE
    assert feed_schema.mistakes(text) == []


WRONG = {
    "unknown key": ("length = [1, 64]", "lenght = [1, 64]"),
    "unknown part": ("[dedupe]", "[gold]\n[dedupe]"),
    "missing key": ('within = "1 hour"', ""),
    "missing part": ('topic = "transactions"', ""),
    "bad duration": ('"1 hour"', '"soon"'),
    "bad measure": ('"count"', '"median(amount)"'),
    "bad type": ('"double"', '"number"'),
    "column in capitals": ("[fields.lat]", "[fields.Lat]"),
    "one bound": ("[-90, 90]", "[-90]"),
}


@pytest.mark.parametrize(("old", "new"), WRONG.values(), ids=WRONG.keys())
def test_an_editor_shows_what_the_service_would_refuse(old: str, new: str) -> None:
    assert old in TRANSACTIONS
    assert len(feed_schema.mistakes(TRANSACTIONS.replace(old, new, 1))) == 1
