"""Commands as a person types them beside a service: options as make is given them, and what came of it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from stream_app.cli.main import main

# What make hands on to a command; anything else that is given is a setting.
_OPTIONS = {"FEED", "TOPIC", "SAMPLE", "SINK", "SQL", "REASON", "ALLOW", "TO", "FORMAT"}
_FLAGS = {"YES", "DRY_RUN"}
PROCESSES = {"drain", "replay", "reset"}
"""Those that must be processes: they take locks, or become spark-submit. The others only look."""


def options(given: Mapping[str, str]) -> list[str]:
    """What is typed for the options among them."""
    return [_typed(option, value) for option, value in given.items() if option in _OPTIONS | _FLAGS]


def settings(given: Mapping[str, str]) -> dict[str, str]:
    """What is no option."""
    return {setting: value for setting, value in given.items() if setting not in _OPTIONS | _FLAGS}


def started(python: str, project: Path, typed: list[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit code and all that is printed by a process of its own."""
    done = subprocess.run(
        [python, "-m", "stream_app", *typed],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def called(project: Path, typed: list[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """The same in this process, which has all imported that a command needs: that takes a process a second."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(project)
        for name, value in environment.items():
            patch.setenv(name, value)
        code = main(typed)
    return code, out.getvalue() + err.getvalue()


def _typed(option: str, value: str) -> str:
    name = f"--{option.lower().replace('_', '-')}"
    return name if option in _FLAGS else f"{name}={value}"
