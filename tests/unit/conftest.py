"""Commands as a person types them, in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream_app.cli.main import main


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
