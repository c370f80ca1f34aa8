"""The documentation holds together: settings.md is made of the settings, links resolve, README stays short."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected
from stream_app.feeds.load import load_feeds
from stream_app.ops.feed_test import feed_test
from stream_app.settings import PROJECT, Settings
from stream_app.sinks.registry import SINKS, check
from tests import docs, feed_schema, proofs

FEEDS = PROJECT / "docs" / "feeds.md"
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md"]
PAGES += sorted((PROJECT / "docs").rglob("*.md"))
NAMES = [str(page.relative_to(PROJECT)) for page in PAGES]
# A page is named so in code, in messages and in other files of the project.
MENTION = re.compile(r"\b(docs/[a-z/0-9_-]+\.(?:md|svg))(#[a-z0-9_-]+)?")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without what it shows as code."""
    text = FENCE.sub("", page.read_text())
    return re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.*)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found.add(next(name for n in range(99) if (name := f"{anchor}-{n}" if n else anchor) not in found))
    return found


def links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_to_a_file_or_a_heading_resolves(name: str) -> None:
    page = PROJECT / name
    broken = []
    for link in links(page):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (heading and heading not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_that_code_names_is_there() -> None:
    folders = ("stream_app", "producer", "local", "conf", "tests")
    files = [
        file for folder in folders for file in (PROJECT / folder).rglob("*") if file.suffix in {".py", ".toml", ".sh"}
    ]
    files += [PROJECT / name for name in ("Makefile", "compose.yaml", ".env.example", "Dockerfile", "pyproject.toml")]
    missing = []
    for file in files:
        for path, heading in MENTION.findall(file.read_text()):
            target = PROJECT / path
            if not target.exists() or (heading and heading[1:] not in anchors(target)):
                missing.append(f"{file.relative_to(PROJECT)}: {path}{heading}")
    assert not missing


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/")])
def test_every_page_is_reached_from_readme(name: str) -> None:
    reached, todo = set[Path](), [PROJECT / "README.md"]
    while todo:
        page = todo.pop()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            todo += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
    assert PROJECT / name in reached


def test_readme_is_for_who_has_just_found_the_project() -> None:
    assert len((PROJECT / "README.md").read_text().split()) <= 900


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_page_of_settings_is_what_the_settings_say() -> None:
    assert docs.PAGE.read_text() == docs.page(), "make it again with: .venv/bin/python -m tests.docs"


def test_every_test_that_proves_a_promise_is_there() -> None:
    """docs/guarantees.md names the tests of each promise."""
    text = (PROJECT / "docs" / "guarantees.md").read_text()
    named = set(re.findall(r"tests/[a-z_/]+\.py", text))
    assert named
    assert [name for name in named if not (PROJECT / name).exists()] == []
    promises = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert [promise.partition("\n")[0] for promise in promises if "Proven by" not in promise] == []


def test_the_table_of_proofs_is_what_the_tests_say() -> None:
    assert docs.GUARANTEES.read_text() == docs.guarantees_page(), "make it again with: .venv/bin/python -m tests.docs"


def test_every_mark_of_a_proof_is_of_a_promise_and_of_an_output_that_it_is_about() -> None:
    headings = re.findall(r"^## (.*)$", docs.GUARANTEES.read_text(), re.MULTILINE)
    assert [*proofs.PROMISES] == headings[:-1]
    for proof in proofs.proofs():
        assert {*proof.outputs} <= {*proofs.PROMISES[proof.promise]}, proof


def test_every_key_of_the_files_metadata_is_on_the_page_of_the_storage() -> None:
    text = (PROJECT / "docs" / "storage.md").read_text()
    code = "".join(path.read_text() for path in (PROJECT / "stream_app").rglob("*.py"))
    keys = set(re.findall(r'^_?(?:KEY|QUERY|FOLLOWS) = b"([a-z_]+)"', code, re.MULTILINE))
    assert len(keys) > 3
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_the_feed_of_the_tutorial_takes_the_record_of_the_tutorial(tmp_path: Path) -> None:
    text = re.sub(r"^ {3}", "", (PROJECT / "docs" / "tutorial.md").read_text(), flags=re.MULTILINE)
    declared = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "orders.toml").write_text("\n".join(declared))
    assert feed_schema.mistakes("\n".join(declared)) == []
    (feed,) = load_feeds(tmp_path, ["orders"], check)
    assert {*feed.windows} == {"by_country"}
    assert {*feed.sinks} == {"orders_by_country"}
    (case := tmp_path / "orders.tests" / "first").mkdir(parents=True)
    (records,) = re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (case / "input.jsonl").write_text(records)
    (made,) = feed_test(tmp_path, "orders", accept=True).cases
    rows = {one.file.stem: one.file.read_text() for one in made.differences}
    assert {name: len(text.splitlines()) for name, text in rows.items()} == {
        "quarantine": 1,
        "silver": 2,
        "by_country": 1,
    }
    assert '"not_allowed:country"' in rows["quarantine"]
    assert '"2026-11-21T08:00:00Z"' in rows["by_country"]
    order = re.search(r"^order = (\{.*\})$", text, re.MULTILINE)
    assert order is not None
    record = order[1].replace("datetime.now(timezone.utc).isoformat()", '"2026-11-21T08:00:00.5+00:00"')
    at = 1_795_248_000_000_000  # 2026-11-21T08:00:00Z
    assert not isinstance(verdict := Contract(feed).check(record.encode(), at, at), Rejected), verdict


def feed_of_the_page() -> str:
    """The examples of docs/feeds.md as one feed file, with the fields that they name."""
    lines = re.findall(r"^ {4}(.*)$", FEEDS.read_text(), re.MULTILINE)
    fields = {"txn_id": "string", "card_id": "string", "amount": "decimal(18,2)"}
    fields |= dict.fromkeys(("user_id", "event_id", "event_type", "session_id"), "string")
    return "\n".join([*lines, *(f"[fields.{column}]\ntype = {kind!r}" for column, kind in fields.items())])


def test_every_key_of_a_feed_file_has_an_example() -> None:
    """A key without one is to be shown on docs/feeds.md, in the part that it belongs to."""
    assert feed_schema.keys() - feed_schema.keys_in(feed_of_the_page()) == set()


def test_the_examples_of_feed_files_are_a_feed_that_takes_the_records_of_the_page(tmp_path: Path) -> None:
    text = feed_of_the_page()
    (tmp_path / "example.toml").write_text(text)
    assert feed_schema.mistakes(text) == []
    (feed,) = load_feeds(tmp_path, ["example"], check)
    assert {sink.to for sink in feed.sinks.values()} == {*SINKS}
    (case := tmp_path / "example.tests" / "page").mkdir(parents=True)
    (records,) = re.findall(r"^```json\n(.*?)^```", FEEDS.read_text(), re.MULTILINE | re.DOTALL)
    (case / "input.jsonl").write_text(records)
    (case / "products.csv").write_text("product_id,price,category\n7,12.50,Books\n")
    (case / "shops.csv").write_text("id\nb1\n")
    (made,) = feed_test(tmp_path, "example", accept=True).cases
    rows = {one.file.stem: [json.loads(row) for row in one.file.read_text().splitlines()] for one in made.differences}
    assert {*rows} >= {"silver", "quarantine", *feed.windows, *feed.sessions}
    first, _ = rows["silver"]
    assert None not in first.values()
    (refused,) = rows["quarantine"]
    shown = re.search(r"with the reasons (.*?) and more", FEEDS.read_text(), re.DOTALL)
    assert shown is not None
    assert {*re.findall(r"`(.*?)`", shown[1])} < {*refused["reasons"]}


def test_the_page_of_operations_has_the_exit_codes_of_every_command() -> None:
    """As their --help has them."""
    assert docs.OPERATIONS.read_text() == docs.operations_page(), "make it again with: .venv/bin/python -m tests.docs"


@pytest.mark.parametrize("name", NAMES)
def test_every_make_command_of_the_docs_is_there(name: str) -> None:
    """Its target is, and it takes what is given; other tests run what the targets call."""
    text = (PROJECT / name).read_text()
    shown = re.findall(r"^ {4,}(?:\$ )?(.*)$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    commands = [found for line in shown for found in re.findall(r"\bmake ([a-z-]+)((?: [A-Z_]+=)?)", line)]
    targets = set(re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert [target for target, _ in commands if target not in targets] == []
    taken = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (PROJECT / ".env.example").read_text(), re.MULTILINE))
    wrong = []
    for target, given in set(commands):
        command = ["sh", "local/options.sh", target]
        asked = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
        if given and given.strip(" =") not in {*asked.stdout.split(), *taken}:
            wrong.append(f"make {target}{given}")
    assert wrong == []
