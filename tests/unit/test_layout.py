"""One list has every path under OUTPUT_PATH: code, outputs and docs/storage.md say the same."""

import re
import tarfile
from pathlib import Path, PurePath

import pytest

from stream_app.settings import PROJECT
from stream_app.storage.layout import PLACES, FeedLayout, Layout, OutputLayout, Place
from tests import docs

OLD_OUTPUTS = PROJECT / "tests" / "fixtures" / "outputs-c6c8daf.tar.xz"
NAMES = {name: place for name, place in vars(Layout).items() if isinstance(place, Place)}
NAMES |= {name: place for each in (FeedLayout, OutputLayout) for name, place in vars(each).items() if place in PLACES}
CODE = {path: path.read_text() for path in (PROJECT / "stream_app").rglob("*.py") if path.name != "layout.py"}


def known(place: Place) -> str:
    """What the paths of a place look like."""
    pattern = re.escape(place.path).replace("<late>", r"late(?:_[a-z0-9_]+)?")
    pattern = pattern.replace("<feed>", "[a-z][a-z0-9_]*").replace("<sink>", "[a-z][a-z0-9_]*")
    if place is Layout.output:  # a lake's are by date
        return f"{pattern}(?:event_date=[0-9-]+/)?(?:[a-z][^/]*|_staging/(?:merge/)?)?"
    if place is Layout.state:
        return f"{pattern}.*"
    if place is Layout.checkpoint or not place.path.endswith("/"):
        return pattern
    return f"{pattern}(?:[a-z0-9][^/]*|merge/)?"


def test_a_layout_has_the_paths_that_outputs_have() -> None:
    layout = Layout(Path("root"), "transactions", "gold")
    assert layout.output == Path("root/transactions/gold")
    assert layout.owner == Path("root/transactions/gold/_owner.json")
    assert layout.late == Path("root/transactions/late")
    assert layout.lock == Path("root/_lock")
    assert Layout(Path("root"), "activity", "per_page").late == Path("root/activity/late_per_page")
    assert Layout.first_offsets.under(Layout.checkpoint) == PurePath("sources/0/0")


def test_every_path_that_an_older_service_has_written_is_in_the_list() -> None:
    """Of two feeds with every kind of sink, merged, replayed, late: what the takeover test starts on."""
    with tarfile.open(OLD_OUTPUTS) as packed:
        paths = [f"{entry.name}{'/' if entry.isdir() else ''}" for entry in packed]
    found = [path.removeprefix("output/") for path in paths if path.startswith("output/") and path != "output/"]
    patterns = [re.compile(known(place)) for place in PLACES]
    folders = {f"{folder}/" for place in PLACES for folder in PurePath(place.path).parents}
    patterns += [re.compile(re.sub("<[a-z]+>", "[a-z0-9_]+", folder)) for folder in folders]
    assert [path for path in found if not any(pattern.fullmatch(path) for pattern in patterns)] == []
    seen = [place for place in PLACES if any(re.fullmatch(known(place), path) for path in found)]
    assert len(seen) > len(PLACES) / 2


@pytest.mark.parametrize("name", [name for name in NAMES if NAMES[name].writer != "Spark"])
def test_who_is_said_to_write_a_path_takes_it_from_the_list(name: str) -> None:
    writer = PROJECT / "stream_app" / NAMES[name].writer
    assert writer.exists()
    modules = writer.rglob("*.py") if writer.is_dir() else [writer]
    used = rf"\blayout\.{name}\b|Layout\([^()]*\)\.{name}\b|\bcheckpoint\.path\b|\bself\._folder\b"
    assert any(re.search(used, path.read_text()) for path in modules)


def test_no_other_module_spells_a_path() -> None:
    words = {"0", "state", "seen", "rules", "metadata"}  # which have other meanings, too
    own = {"_chk"} | {PurePath(place.path).name for place in PLACES} - {"<sink>", "<late>", *words}
    found = [(path.name, name) for path, text in CODE.items() for name in own if f'"{name}"' in text]
    assert found == []
    assert len(own) > 15


def test_the_page_of_the_storage_is_what_the_list_says() -> None:
    assert docs.STORAGE.read_text() == docs.storage_page(), "make it again with: .venv/bin/python -m tests.docs"
