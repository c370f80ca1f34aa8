"""The ODCS file of every shipped feed passes `datacontract lint`, the checker of the standard's own people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.feeds.load import feeds_in
from stream_app.settings import PROJECT
from tests.unit.conftest import Cli, cli  # noqa: F401 - a fixture

FEEDS = PROJECT / "conf" / "feeds"
CHECKER = "datacontract-cli==1.2.8"  # in an environment of its own: it is 80 MB, and pins much


@pytest.fixture(scope="module")
def datacontract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datacontract")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-cache-dir", CHECKER]
    subprocess.run(install, check=True, timeout=900)
    return folder / "bin" / "datacontract"


def test_the_odcs_file_of_every_feed_is_valid(cli: Cli, tmp_path: Path, datacontract: Path) -> None:  # noqa: F811
    for feed in feeds_in(FEEDS):
        file = tmp_path / f"{feed}.odcs.yaml"
        file.write_text(cli(tmp_path, "contract", f"--feed={feed}").out)
        done = subprocess.run([datacontract, "lint", file], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        assert "Data contract is valid" in done.stdout
        file.write_text(file.read_text().replace("kind: DataContract", "kind: Contract"))
        wrong = subprocess.run([datacontract, "lint", file], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert wrong.returncode != 0, "the checker tells"
