"""The tests leave nothing behind: no program, no listening socket, no file. What is left fails them by its name."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from stream_app.ops.views import _spill
from stream_app.settings import PROJECT

_MARK = "TESTS_PROCESS"
_LISTENS = "0A"
# What `make airflow` sets up once and keeps, as .venv is kept: a test may be the first that asks for it.
_KEPT = {".venv-airflow"}
# What ends as soon as its parent has noticed.
_PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the last test of this process if a program, a socket or a file of its tests is there when all have ended.

    A mark in the environment finds programs whatever became of their parents. A TMPDIR of its own shows every file.
    """
    tmp_path_factory.getbasetemp()  # which stays where it is
    before = _names(PROJECT)
    with pytest.MonkeyPatch.context() as patch:
        temporary = Path(tempfile.mkdtemp(prefix="tests-"))
        temporary.chmod(0o755)  # the database's user must get to its folder
        mark = uuid.uuid4().hex
        patch.setenv(_MARK, mark)
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", str(temporary))
        yield
    programs = _programs(mark)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while programs and time.monotonic() < deadline:
        time.sleep(0.1)
        programs = _programs(mark)
    sockets = _listening()
    at_exit = {_spill().name}
    files = sorted((_names(temporary) - at_exit) | (_names(PROJECT) - before))
    shutil.rmtree(temporary)
    assert not programs, f"programs of the tests still run: {programs}"
    assert not sockets, f"pytest still listens on ports {sockets}"
    assert not files, f"files of the tests are left: {files}"


@pytest.fixture(scope="module", autouse=True)
def no_view_is_left_behind() -> Iterator[None]:
    """Fail the last test of a module that leaves a name in DuckDB's own connection.

    The `FROM rows` of a later module would read that, and not the variable that it means.
    """
    yield
    left = duckdb.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    for (name,) in left:
        duckdb.sql(f'DROP VIEW "{name}"')
    assert not left, f"views of the tests are left: {left}"


def _names(folder: Path) -> set[str]:
    kept = {".hypothesis", *_KEPT}
    return {str(path) for path in folder.iterdir() if not (path.name.endswith("_cache") or path.name in kept)}


def _programs(mark: str) -> dict[int, str]:
    """Return the command line of each process that was started with that mark, by its id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if f"{_MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                # a zombie has no command; both end with this process, whose own they are
                if command and "multiprocessing.resource_tracker" not in command:
                    found[int(process.name)] = command[:200]
    return found


def _listening() -> list[int]:
    """Return the TCP ports that this process listens on."""
    own = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            own.add(os.readlink(descriptor))  # noqa: PTH115 - it is no path
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS and f"socket:[{fields[9]}]" in own:
                found.append(int(fields[1].rpartition(":")[2], 16))
    return sorted(found)
