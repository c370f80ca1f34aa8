"""Set-up: the virtual environment and the jars, each made once and again when its pins change.

Only the standard library: this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from local import java, lock
from local.console import say
from local.places import JARS, ROOT, VENV, Places, shown
from stream_app.errors import ConfigError
from stream_app.runtime import jvm

_REQUIREMENTS = ROOT / "requirements-dev.lock"
_IVY = ROOT / "conf" / "ivy.xml"
_PIP_NEWS = re.compile(r"\s*(Downloading \S+ \([\d.]+ MB\)|Building wheel for \S+|Installing collected packages)")
_IVY_NEWS = re.compile(r"downloading \S+/(\S+\.jar) \.\.\.")
_TROUBLE = re.compile(r"error|not found|FAILED", re.IGNORECASE)  # as pip and Ivy put it, the last time best
_LOCK_PATIENCE_SECONDS = 1800


def set_up(places: Places, *, jars: bool) -> None:
    """Make the virtual environment, and the jars if asked, where they are missing or their pins changed.

    Raises ConfigError, one line that says what is missing and how to get it.
    """
    path = places.run / "setup.lock"
    if lock.is_held(path):
        say("setup", "waiting for the set-up that already runs here")
    held = lock.acquire(path, _LOCK_PATIENCE_SECONDS)
    if held is None:
        problem = f"another set-up holds {shown(path)} for half an hour; end it and try again"
        raise ConfigError(problem)
    try:
        log = places.log("setup")
        log.parent.mkdir(parents=True, exist_ok=True)
        _make_venv(log)
        if jars:
            _fetch_jars(log)
    finally:
        os.close(held)


def _make_venv(log: Path) -> None:
    stamp = Stamp(VENV / ".installed", _REQUIREMENTS)
    if stamp.is_current():
        return
    python = VENV / "bin" / "python"
    # setup.sh takes the environment's own Python whenever that works; several checkouts may share one by a link.
    if Path(sys.prefix).resolve() != VENV.resolve():
        say("setup", f"making {shown(VENV)} with Python {sys.version.split()[0]}")
        run([sys.executable, "-m", "venv", "--clear", str(VENV)], log, "the virtual environment cannot be made")
    say("setup", f"installing {shown(_REQUIREMENTS)}, the first time some 600 MB and a few minutes")
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes"]
    for line in lines([*command, "-r", str(_REQUIREMENTS)], log, "pip failed"):
        if match := _PIP_NEWS.match(line):
            say("setup", f"  {match[1]}")
    stamp.set()


def _fetch_jars(log: Path) -> None:
    program = java.find()  # asked for each time: the broker and Spark need it too
    stamp = Stamp(JARS / ".fetched", _IVY)
    if stamp.is_current():
        return
    say("setup", f"fetching the jars of {shown(_IVY)}, some 100 MB")
    ivy = next(VENV.glob("lib/python3*/site-packages/pyspark/jars/ivy-*.jar"))
    fresh = JARS.with_name(".jars.new")
    shutil.rmtree(fresh, ignore_errors=True)
    command = [program, "-jar", str(ivy), "-ivy", str(_IVY), "-confs", "spark", "kafka", "monitor"]
    # relative to where Ivy runs: in a pattern, brackets have a meaning
    command += ["-retrieve", f"{fresh.relative_to(ROOT)}/[conf]/[artifact]-[revision].[ext]"]
    for line in lines(command, log, "fetching the jars failed"):
        if match := _IVY_NEWS.match(line):
            say("setup", f"  {match[1]}")
    # Swapped as a whole, so that no jar of older pins stays beside the new ones on a class path.
    shutil.rmtree(JARS, ignore_errors=True)
    fresh.rename(JARS)
    stamp.set()


class Stamp:
    """A file that holds the digest of the pins that were installed; written last, so half an install has none."""

    def __init__(self, path: Path, pins: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256(pins.read_bytes()).hexdigest()

    def is_current(self) -> bool:
        """Whether these very pins were installed."""
        return self._path.is_file() and self._path.read_text() == self._digest

    def set(self) -> None:
        """Remember that they are."""
        self._path.write_text(self._digest)


def run(command: list[str], log: Path, failure: str, environment: Mapping[str, str] = MappingProxyType({})) -> None:
    """Run a command, its output to the log. Raises ConfigError with what it said last."""
    for _line in lines(command, log, failure, environment):
        pass


def lines(
    command: list[str], log: Path, failure: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """Run a command, its output to the log and to the caller. Raises ConfigError with what it said last."""
    said = ""
    with (
        log.open("a", encoding="utf-8") as copy,
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **jvm.environment(), **environment},
        ) as process,
    ):
        for line in process.stdout or ():
            copy.write(line)
            said = line.strip(" :\t\n") if _TROUBLE.search(line) else said
            yield line
    if process.returncode:
        problem = f"{failure}: {said or f'exit {process.returncode}'}; see {shown(log)}, then try again"
        raise ConfigError(problem)
