"""One instance on an OUTPUT_PATH: the second is refused, and kill -9 leaves nothing to clean up."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream_app.errors import ConfigError, StreamAppError
from stream_app.settings import PROJECT
from stream_app.storage import lock
from stream_app.storage.lock import is_held, sole_run, sole_user
from tests.helpers import wait_until

HOLDER = """
import pathlib, sys
from stream_app.storage.lock import sole_user
with sole_user(pathlib.Path(sys.argv[1]), 0):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(root)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_instance_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert is_held(tmp_path)
        with (
            pytest.raises(ConfigError, match=rf"OUTPUT_PATH: .* process {process.pid};") as error,
            sole_user(tmp_path, 0),
        ):
            pass
        assert error.value.exit_code == 2


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not is_held(tmp_path)
    with sole_user(tmp_path, 0):
        assert (tmp_path / "_lock").read_text() == str(os.getpid())


def test_a_lock_that_is_let_go_in_time_is_taken(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert process.stdin is not None
        process.stdin.close()
        with sole_user(tmp_path, 300):
            assert is_held(tmp_path)


def test_a_run_that_ends_by_itself_is_no_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a scheduler tries again."""
    monkeypatch.setattr(lock, "LOCK_PATIENCE_SECONDS", 0)
    with holder(tmp_path) as process:
        problem = rf"^GOLD_PATH: .* is in use by process {process.pid}, another run; try again when it has ended$"
        with pytest.raises(StreamAppError, match=problem) as refused, sole_run(tmp_path, "GOLD_PATH"):
            pass
    assert refused.value.exit_code == 1


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    with sole_user(tmp_path, 0):
        pass
    wait_until(lambda: not is_held(tmp_path))


def test_a_folder_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="OUTPUT_PATH: cannot write to"), sole_user(tmp_path / "file", 0):
        pass


def test_no_lock_no_holder_and_nothing_is_made(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_no_reason_not_to_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    with sole_user(tmp_path, 0):
        assert is_held(tmp_path)
