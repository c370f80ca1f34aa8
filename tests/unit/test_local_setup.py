"""What a bare clone needs: what is missing is named with the command that installs it, and work is done once."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local import java, lock, setup
from local.places import ROOT, Places
from stream_app.errors import ConfigError


def program(folder: Path, name: str, script: str) -> Path:
    """Put a shell script on a PATH of our own."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout without a virtual environment, with local/setup.sh alone."""
    (tmp_path / "clone" / "local").mkdir(parents=True)
    (tmp_path / "clone" / "local" / "setup.sh").write_bytes((ROOT / "local" / "setup.sh").read_bytes())
    return tmp_path / "clone"


def run_setup_sh(clone: Path, path: Path) -> subprocess.CompletedProcess[str]:
    (path / "dirname").symlink_to(shutil.which("dirname", path=os.defpath) or "")
    command = ["/bin/sh", str(clone / "local" / "setup.sh"), "--venv-only"]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, check=False)


def java_of_version(folder: Path, version: str) -> Path:
    return program(folder, "java", f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")


def test_no_python_is_one_line_with_the_command_that_installs_it(clone: Path, path: Path) -> None:
    program(path, "apt-get", "")
    done = run_setup_sh(clone, path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "sudo apt-get install python3.11 python3.11-venv" in done.stderr


def test_a_python_of_the_wrong_version_is_none(clone: Path, path: Path) -> None:
    program(
        path, "python3", "exit 1"
    )  # what asking it for 3.11 or 3.12 answers, as a pyenv shim without a version does
    assert run_setup_sh(clone, path).returncode == 2


def test_python_without_venv_names_the_package(clone: Path, path: Path) -> None:
    # Debian's: the version is right, ensurepip is missing.
    program(path, "python3", f'case "$2" in *ensurepip*) exit 1;; esac; exec "{sys.executable}" "$@"')
    done = run_setup_sh(clone, path)
    assert done.returncode == 2
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert f"sudo apt-get install {name}-venv" in done.stderr


def test_the_first_python_that_works_goes_on(clone: Path, path: Path) -> None:
    program(path, "python3.11", "exit 127")
    program(path, "python3.12", 'if [ "$1" = -m ]; then echo "$@"; fi')
    assert run_setup_sh(clone, path).stdout == "-m local setup --venv-only\n"


def test_setup_imports_nothing_that_is_not_installed_yet() -> None:
    code = "import sys; sys.path.insert(0, '.'); import local.__main__; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "local.setup" in done.stdout


def test_no_java_names_the_command_that_installs_it(path: Path) -> None:
    program(path, "apt-get", "")
    with pytest.raises(ConfigError, match=r"Java 17 or later .* none in PATH.* sudo apt-get install openjdk-17"):
        java.find()


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2"])
def test_an_old_java_is_named(path: Path, version: str) -> None:
    old = java_of_version(path, version)
    with pytest.raises(ConfigError, match=rf"{old} is version (8|11); install it with"):
        java.find()


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.2", "25-ea"])
def test_java_17_or_later_is_taken(path: Path, version: str) -> None:
    new = java_of_version(path, version)
    assert java.find() == str(new)


def test_java_home_is_asked_before_path_as_spark_does(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java_of_version(path, "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(path / "no-java"))
    with pytest.raises(ConfigError, match=r"JAVA_HOME=.*no-java"):
        java.find()


def test_pins_are_installed_once_and_again_when_they_change(tmp_path: Path) -> None:
    pins = tmp_path / "pins.lock"
    pins.write_text("a==1")
    setup.Stamp(tmp_path / "stamp", pins).set()
    assert setup.Stamp(tmp_path / "stamp", pins).is_current()
    pins.write_text("a==2")
    assert not setup.Stamp(tmp_path / "stamp", pins).is_current()


def test_a_failing_step_is_one_line_with_its_own_words_and_the_log(tmp_path: Path) -> None:
    log = tmp_path / "setup.log"
    command = ["/bin/sh", "-c", "echo fine; echo ERROR: no such host; echo bye; exit 3"]
    with pytest.raises(ConfigError, match=r"^pip failed: ERROR: no such host; see .*setup\.log, then try again$"):
        list(setup.lines(command, log, "pip failed"))
    assert log.read_text() == "fine\nERROR: no such host\nbye\n"


def test_a_lock_is_free_again_when_its_holder_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "setup.lock"
    held = lock.acquire(path)
    assert held is not None
    assert lock.is_held(path)
    assert lock.acquire(path, patience=0) is None
    os.close(held)
    assert not lock.is_held(path)


def test_everything_lives_under_data(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.make()
    assert {place.parent.parent for place in (places.pid("app"), places.log("app"))} == {tmp_path}
    assert places.pid_of("app") == "?"


def test_make_lists_every_target_of_the_design() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[1] for line in done.stdout.splitlines()}
    assert listed >= {
        *("run", "broker", "app", "produce", "up", "down", "logs", "ps", "status", "query", "show"),
        *("audit", "replay", "reset", "test", "check", "bench", "postgres", "psql"),
    }
    assert all(len(line.split()) > 2 for line in done.stdout.splitlines())


@pytest.mark.parametrize("sql", ["SELECT 'a b'", r"SELECT 'Inc$', $$x$$, $(shell false) #,\"\\n"])
@pytest.mark.parametrize("is_argument", [True, False])
def test_settings_reach_the_programs_as_make_arguments_and_as_environment(sql: str, is_argument: bool) -> None:
    """As they were typed: a $ is none of make's."""
    arguments = [f"SQL={sql}"] if is_argument else []
    environment = dict(os.environ) if arguments else {**os.environ, "SQL": sql}
    command = ["make", "-s", "-f", "-", "show-sql", *arguments]
    rule = "include Makefile\nshow-sql:\n\t@printenv SQL\n"
    done = subprocess.run(command, cwd=ROOT, env=environment, input=rule, capture_output=True, text=True, check=True)
    assert done.stdout == f"{sql}\n"
