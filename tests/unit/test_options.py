"""Options that nobody would read are refused; the Makefile's lines of help, the commands' and their code agree."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.ops.command import options
from stream_app.settings import PROJECT, Settings

OPS = ["status", "show", "query", "audit", "replay", "reset"]
TARGETS = re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE)


def listed(target: str) -> set[str]:
    command = ["sh", str(PROJECT / "local" / "options.sh"), target]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make without doing anything, from a shell of its own."""
    command = ["make", "--dry-run", *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=PROJECT, env=own | environment, capture_output=True, text=True, check=False)


def op(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"stream_app.ops.{name}", *arguments]
    return subprocess.run(
        command, cwd=PROJECT, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def asked_for(path: Path) -> set[str]:
    """The options that a module's code reads."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    read = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in {"option", "flag"}]
    return {str(argument.value) for call in read for argument in call.args[:1] if isinstance(argument, ast.Constant)}


@pytest.mark.parametrize("name", OPS)
def test_make_the_command_s_help_and_its_code_name_the_same_options(name: str) -> None:
    ops = PROJECT / "stream_app" / "ops"
    files = sorted((ops / name).glob("*.py")) or [ops / f"{name}.py"]
    main = ops / name / "__main__.py" if len(files) > 1 else files[0]
    usage = ast.get_docstring(ast.parse(main.read_text())) or ""
    assert listed(name) == set(options(usage)) == {"FEED"}.union(*map(asked_for, files))


@pytest.mark.parametrize("target", TARGETS)
def test_make_refuses_what_the_target_does_not_take(target: str) -> None:
    """One line that lists what it takes; a setting of the service or of the producer is taken."""
    done = make(target, "FED=x", "RETENTION=keep")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert (
        f"{target}: there is no option FED; it takes {' '.join(sorted(listed(target))) or 'none'}, and the set" in line
    )
    assert make(target, *(f"{name}=1" for name in listed(target)), "MSGS_PER_SEC=1").returncode == 0


@pytest.mark.parametrize(
    ("goals", "is_taken"),
    [
        (["audit", "SINK=silver"], False),
        (["reset", "SINK=silver"], True),
        (["run", "FEED=transactions"], False),
        (["run", "produce", "FEED=transactions"], True),
        (["audit", "-e", "SQL=x"], False),
        (["app", "SPARK_SUBMIT_OPTS=-Xmx1g", "JAVA_HOME=/x"], True),
        (["test", "PYTHON=python3", "PYTEST_ADDOPTS=-k x"], True),
        (["FED=x"], False),
    ],
)
def test_an_option_is_of_one_of_the_targets(goals: list[str], is_taken: bool) -> None:
    assert (make(*goals).returncode == 0) == is_taken


def test_variables_of_the_environment_are_not_make_s_to_refuse() -> None:
    assert make("audit", FED="x").returncode == 0


@pytest.mark.parametrize("name", OPS)
def test_a_command_takes_no_arguments_and_lists_its_options(name: str) -> None:
    done = op(name, "--fed", "x")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'{name}: "--fed x": there are no arguments; ')
    assert all(f"{one}=" in line for one in listed(name))
    assert all(f"{one}=" in op(name, "--help").stdout for one in listed(name))


def test_a_choice_without_a_value_is_refused_by_make() -> None:
    """As of SINK=$sink where that was not set: it would be all of them."""
    done = make("reset", "SINK=", "YES=1")
    assert done.returncode == 2
    assert "SINK: is given, but empty; leave it out" in done.stderr
    assert make("reset", "SINK=silver", "TO=").returncode == 0


@pytest.mark.parametrize(("name", "given"), [("audit", {"FEED": "nothing"}), ("reset", {"SINK": "nothing"})])
def test_what_names_nothing_is_refused(name: str, given: dict[str, str]) -> None:
    done = op(name, **given)
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", OPS)
def test_an_output_path_that_is_no_folder_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = op(name, OUTPUT_PATH=str(tmp_path / "file"), SQL="FROM silver", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert done.returncode in {1, 2}
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: OUTPUT_PATH: ")


def test_a_replay_of_nothing_makes_no_folder(tmp_path: Path) -> None:
    done = op("replay", OUTPUT_PATH=str(tmp_path / "typo"))
    assert (done.returncode, done.stderr) == (2, f"replay: OUTPUT_PATH: there is no folder {tmp_path / 'typo'}\n")
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("rows", [1, 100_000])
def test_a_reader_that_goes_away_is_no_error(rows: int, tmp_path: Path) -> None:
    """As `make query | true` is: neither a traceback nor Python's note of a flush that failed."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "stream_app.ops.query"],
        cwd=PROJECT,
        env={**os.environ, "SQL": f"FROM range({rows})", "OUTPUT_PATH": str(tmp_path)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_ctrl_c_in_a_command_prints_no_traceback() -> None:
    """Not even while it imports, which takes most of its first seconds."""
    program = "import stream_app.ops, signal; signal.raise_signal(signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_docker_is_told_the_options_that_are_given(tmp_path: Path) -> None:
    """Where there is no virtual environment here, the command runs in the service's image."""
    shutil.copytree(PROJECT / "local", tmp_path / "local", ignore=lambda *_: ["__pycache__"])
    for name in ("Makefile", ".env.example"):
        shutil.copy(PROJECT / name, tmp_path)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\ncase "$*" in *"ps --all"*) echo exited ;; *run*) echo "$*" ;; esac\n')
    docker.chmod(0o755)
    environment = {"PATH": f"{docker.parent}:{os.environ['PATH']}", "SINK": "silver", "YES": "1", "FED": "x", "SQL": ""}
    command = ["sh", str(tmp_path / "local" / "ops.sh"), "reset"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "--no-deps -e SINK -e YES stream-app" in told


def test_every_setting_is_one_that_make_takes() -> None:
    assert make("app", *(f"{name.upper()}=1" for name in Settings.model_fields)).returncode == 0
