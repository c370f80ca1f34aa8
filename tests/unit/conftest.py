"""What the unit tests share: commands as a person types them, a whole output, and a DuckDB of one thread."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from stream_app.cli.main import main
from tests.outputs import Output
from tests.unit.audited import FEED, made, with_tables
from tests.unit.served import filled


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    code: int
    out: str
    err: str


Cli = Callable[..., Done]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Run a command over the outputs at `root`, with those settings; where no .env lies."""
    monkeypatch.chdir(tmp_path)

    def run(root: Path, *arguments: str, **settings: str) -> Done:
        with monkeypatch.context() as patch:
            for name, value in {"OUTPUT_PATH": str(root), **settings}.items():
                patch.setenv(name, value)
            code = main(arguments)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run


@pytest.fixture(scope="session", autouse=True)
def _one_thread_for_duckdb() -> Iterator[None]:
    """Its queries are of a few rows each here: a fifth of the time of an audit went to waking its other threads."""
    connect = duckdb.connect

    def with_one_thread(*arguments: Any, **options: Any) -> duckdb.DuckDBPyConnection:
        connection = connect(*arguments, **options)
        connection.execute("SET threads = 1")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duckdb, "connect", with_one_thread)
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Output:
    return made(FEED, "main", tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Output:
    """What the API is asked about, for tests to copy: that takes a tenth of the time."""
    return filled(tmp_path_factory.mktemp("minutes"))


@pytest.fixture
def output(template: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    """An output in order, with its tables, for a test to change."""
    copied = template.copied(tmp_path)
    with_tables(copied, monkeypatch)
    return copied
