"""Runs the project's commands for the DAGs, by the path of its own Python: nothing of it is imported here."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

WRONG = 2
"""The exit code of a command for what somebody must set right."""
RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}
"""How often a task is tried again, and when: what is away for a while is waited for."""
_PR_SET_PDEATHSIG = 1


def home() -> Path:
    """Return the folder of the project: APP_HOME, or the one that these DAGs are in."""
    return Path(os.environ.get("APP_HOME", Path(__file__).resolve().parents[1]))


def given(name: str) -> Any:
    """Return a parameter of the run that the task is of."""
    return get_current_context()["params"][name]


def run(*arguments: str, program: str = "stream_app", may: tuple[int, ...] = (), **environment: str) -> str:
    """Run a command, with its output in the task's log; return what it printed.

    A command that exits with 2 was told something wrong, which no retry mends, so the task fails at once. Another code
    that it `may` exit with is an answer where it printed JSON, and trouble as any other where it did not.
    """
    lines = []
    with _started(program, *arguments, **environment) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)  # noqa: T201 - it is the task's log
            lines.append(line)
    printed = "".join(lines)
    if process.returncode == 0 or (process.returncode in may and _last_json(printed)):
        return printed
    problem = lines[-1].strip() if lines else f"{program} {arguments[0]}: exit {process.returncode}"
    raise (AirflowFailException if process.returncode == WRONG else AirflowException)(problem)


def answer(printed: str) -> Any:
    """Return the last JSON that a command printed on lines of its own, whatever was logged before and after it."""
    if not (found := _last_json(printed)):
        raise AirflowException("the command printed no JSON; its lines are above")
    return found[0]


def _last_json(printed: str) -> list[Any]:
    """Return the last document alone, or nothing."""
    found: list[Any] = []
    end = 0
    for begin in re.finditer(r"^[\[{]", printed, re.MULTILINE):
        if begin.start() < end:
            continue  # within the one before
        with suppress(ValueError):  # a line that only begins as JSON does
            document, stop = json.JSONDecoder().raw_decode(printed, begin.start())
            if not printed[stop:].partition("\n")[0].strip():
                found, end = [document], stop
    return found


@contextmanager
def _started(program: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command of the project; it ends with the task, however that ends."""
    python = os.environ.get("APP_PYTHON", str(home() / ".venv" / "bin" / "python"))
    # Airflow's own packages and settings of Python are not for the service's
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    inherited["LOG_FORMAT"] = "text"  # a line of the log as JSON would be taken for the answer
    libc, parent = ctypes.CDLL(None), os.getpid()

    def die_with_task() -> None:
        # A task that is killed could not end it, and the retry would find folders in use.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    process = subprocess.Popen(
        [python, "-m", program, *arguments],
        cwd=home(),
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=die_with_task,  # noqa: PLW1509 - one call of libc, nothing that could deadlock
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
