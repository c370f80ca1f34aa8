"""What make and the commands are given: options that nobody would read are refused, and each is in the help."""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.cli import main
from stream_app.cli.command import parser
from stream_app.settings import PROJECT, Settings
from tests.unit.conftest import Cli

OPS = ["status", "show", "query", "quarantine", "audit", "replay", "reset"]
MADE = [*OPS, "feed-check", "feed-test", "feed-new"]
COMMANDS = main.names()
TARGETS = re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE)


def listed(target: str) -> set[str]:
    """The options that make takes for a target."""
    command = ["sh", str(PROJECT / "local" / "options.sh"), target]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make without doing anything, from a shell of its own."""
    command = ["make", "--dry-run", *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=PROJECT, env=own | environment, capture_output=True, text=True, check=False)


def taken(name: str) -> dict[str, argparse.Action]:
    """The options of a command, by what make calls them."""
    actions = parser(name, main.command(name))._actions
    options = {option: action for action in actions for option in action.option_strings if option.startswith("--")}
    del options["--help"]
    return {option.lstrip("-").upper().replace("-", "_"): action for option, action in options.items()}


@pytest.mark.parametrize("name", MADE)
def test_make_and_the_command_take_the_same_options(name: str) -> None:
    assert listed(name) == {*taken(name)}


@pytest.mark.parametrize("name", MADE)
def test_make_s_help_names_what_an_option_may_be(name: str) -> None:
    (line,) = re.findall(rf"^{name}: ## (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    for option, action in taken(name).items():
        values = [str(choice) for choice in action.choices or () if choice != action.default]
        given = "1" if action.nargs == 0 else "|".join(values)
        assert f"{option}={given}" in line


def test_a_command_is_a_file_whose_first_line_is_in_the_list(cli: Cli, tmp_path: Path) -> None:
    done = cli(tmp_path, "--help")
    files = {path.stem.replace("_", "-") for path in (PROJECT / "stream_app" / "cli" / "commands").glob("[a-z]*.py")}
    assert {*COMMANDS} == files
    assert {line.split()[0] for line in done.out.splitlines() if line.startswith("  ")} == files
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_the_options_the_settings_the_exit_codes_and_an_example(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli(tmp_path, name, "--help")
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"--{option.lower().replace('_', '-')}" in shown for option in taken(name))
    command = main.command(name)
    assert all(re.search(rf"^  {setting.upper()} +\S", shown, re.MULTILINE) for setting in command.settings)
    assert all(re.search(rf"^  {code}  \S", shown, re.MULTILINE) for code in (*command.exits, 2))
    assert f"  python -m stream_app {name}" in shown
    assert max(map(len, shown.splitlines())) <= 140


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_of_the_help_is_one_that_the_parser_takes(name: str) -> None:
    for example in main.command(name).examples:
        command = ["sh", "-c", f'for one in "$@"; do echo "$one"; done; set -- {example}; printf "%s\\n" "$@"']
        arguments = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        parser(name, main.command(name)).parse_args([one for one in arguments if one])


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("given", [["--fed=x"], ["--fed", "x"], ["x"], ["--hel"]])
def test_what_a_command_does_not_take_is_refused_with_what_it_takes(
    cli: Cli, tmp_path: Path, name: str, given: list[str]
) -> None:
    """No prefix of an option is taken for it either: an option that comes later would change what it means."""
    done = cli(tmp_path, name, *given)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"{name}: unrecognized arguments: {' '.join(given)}; it takes --help")
    assert all(f"--{option.lower().replace('_', '-')}" in line for option in taken(name))


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_with_a_bad_value_is_refused(cli: Cli, tmp_path: Path, name: str) -> None:
    for option, action in taken(name).items():
        typed = f"--{option.lower().replace('_', '-')}"
        wrong = f"{typed}=0" if action.nargs == 0 else f"{typed}=\x1b" if action.choices else typed
        done = cli(tmp_path, name, wrong)
        (line,) = done.err.splitlines()
        assert (done.code, done.out) == (2, "")
        assert line.startswith(f"{name}: argument {typed}: ")
        assert "\x1b" not in line


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("land", "--seconds=-1", '"-1" is no number of seconds above 0'),
        ("land", "--seconds=nan", '"nan" is no number of seconds above 0'),
        ("land", "--max-records=x", '"x" is no number from 1 on'),
        ("etl", "--since=foo", '"foo" is no whole hour such as 2026-11-27T14'),
        ("etl", "--until=2026-11-27T14:30", '"2026-11-27T14:30" is no whole hour'),
        ("etl", "--until=0001-01-01T00+01:00", '"0001-01-01T00+01:00" is no whole hour'),
        ("preflight", "--brokers=0", '"0" is no number from 1 on'),
        ("history", "--most=-3", '"-3" is no number from 1 on'),
    ],
)
def test_a_value_that_is_none_is_answered_with_what_is_one(
    cli: Cli, tmp_path: Path, name: str, wrong: str, says: str
) -> None:
    done = cli(tmp_path, name, wrong)
    assert done.code == 2
    assert done.err.startswith(f"{name}: argument {wrong.partition('=')[0]}: {says}")


@pytest.mark.parametrize("typed", [["aduit"], ["--feed=x"], [""], ["status.x"]])
def test_a_command_that_is_not_there_is_answered_with_those_that_are(
    cli: Cli, tmp_path: Path, typed: list[str]
) -> None:
    done = cli(tmp_path, *typed)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.endswith(f"there is no such command; there are {', '.join(COMMANDS)}")


def test_the_options_of_a_command_are_never_read_from_the_environment(cli: Cli, tmp_path: Path) -> None:
    """A FEED or YES that a shell happens to have is no choice of whoever types a command."""
    given = dict.fromkeys(("FEED", "SINK", "SQL", "REASON", "ALLOW", "TO", "FORMAT"), "nothing")
    assert cli(tmp_path, "status", **given).code == 0
    done = cli(tmp_path, "reset", **given, YES="1", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (done.code, "there is no terminal to ask at" in done.err) == (2, True)


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
        (["query", "REASON=late"], False),
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


def test_a_choice_without_a_value_is_refused_by_make() -> None:
    """As of SINK=$sink where that was not set: it would be all of them."""
    done = make("reset", "SINK=", "YES=1")
    assert done.returncode == 2
    assert "SINK: is given, but empty; leave it out" in done.stderr
    assert make("reset", "SINK=silver", "TO=").returncode == 0


@pytest.mark.parametrize(
    "given", [["audit", "--feed=nothing"], ["reset", "--sink=nothing"], ["show", "--sink=nothing"]]
)
def test_what_names_nothing_is_refused(cli: Cli, tmp_path: Path, given: list[str]) -> None:
    done = cli(tmp_path, *given)
    assert done.code == 2
    assert "nothing" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("name", OPS)
def test_an_output_path_that_is_no_folder_is_one_line(cli: Cli, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = ["--sql=FROM silver"] if name == "query" else []
    done = cli(tmp_path / "file", name, *options, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert done.code in {1, 2}
    (line,) = done.err.splitlines()
    assert line.startswith(f"{name}: OUTPUT_PATH: ")


def test_a_replay_of_nothing_makes_no_folder(cli: Cli, tmp_path: Path) -> None:
    done = cli(tmp_path / "typo", "replay")
    assert (done.code, done.err) == (2, f"replay: OUTPUT_PATH: there is no folder {tmp_path / 'typo'}\n")
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("kind", ["table", "ndjson"])
@pytest.mark.parametrize("rows", [1, 100_000])
def test_a_reader_that_goes_away_is_no_error(rows: int, kind: str, tmp_path: Path) -> None:
    """As `make query | true` is: neither a traceback nor Python's note of a flush that failed."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "stream_app", "query", f"--sql=FROM range({rows})", f"--format={kind}"],
        cwd=PROJECT,
        env={**os.environ, "OUTPUT_PATH": str(tmp_path)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_ctrl_c_in_a_command_prints_no_traceback() -> None:
    """Not even while it imports, which takes most of its first seconds."""
    program = (
        "import runpy, signal, sys; sys.argv[1:] = ['status'];"
        "sys.modules['stream_app.cli.main'] = type('', (), {'__getattr__': lambda *_: signal.raise_signal(2)})();"
        "runpy.run_module('stream_app', run_name='__main__')"
    )
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
    path = f"{docker.parent}:{os.environ['PATH']}"

    def told(name: str, **given: str) -> str:
        command = ["sh", str(tmp_path / "local" / "ops.sh"), name]
        return subprocess.run(command, env={"PATH": path, **given}, capture_output=True, text=True, check=True).stdout

    run = "compose --progress quiet run --rm --no-deps stream-app python3 -m stream_app"
    assert told("reset", SINK="silver", YES="1", FED="x", TO="") == f"{run} reset --sink=silver --yes\n"
    assert told("replay", DRY_RUN="0", REASON="a b") == f"{run} replay --reason=a b\n"
    assert told("query", SQL="SELECT * FROM silver WHERE city = '$x' AND 1=") == (
        f"{run} query --sql=SELECT * FROM silver WHERE city = '$x' AND 1=\n"
    )


@pytest.mark.parametrize("target", ["up", "logs", "ps", "down"])
def test_what_is_done_by_compose_asks_for_it_in_one_line(target: str, tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho usage of docker; exit 125\n")
    docker.chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    own["PATH"] = f"{tmp_path}:{own['PATH']}"
    done = subprocess.run(["make", target], cwd=PROJECT, env=own, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0].startswith(f"{target}: Docker with Compose 2 is needed: https://")


def test_every_setting_is_one_that_make_takes() -> None:
    """KAFKA_CLIENT_<OPTION> whatever the option."""
    names = {name.upper() for name in Settings.model_fields} - {"KAFKA_CLIENT"} | {"KAFKA_CLIENT_CLIENT_ID"}
    assert make("app", *(f"{name}=1" for name in sorted(names))).returncode == 0


def test_a_command_ends_with_what_was_registered_for_its_end_and_without_taking_python_apart() -> None:
    """What libraries' threads do in that time can abort a command that has done all."""
    program = (
        "import atexit, os, runpy, sys, threading, time; sys.argv[1:] = ['--help'];"
        "sys.apart = type('', (), {'__del__': lambda _, write=os.write: write(2, b'taken apart')})();"
        "atexit.register(os.write, 2, b'registered');"
        "threading.Thread(target=lambda: (time.sleep(0.5), os.write(2, b'thread '))).start();"
        "runpy.run_module('stream_app', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "thread registered")


def test_a_command_whose_stdout_is_closed_has_nowhere_to_print_and_does_its_work() -> None:
    command = ["sh", "-c", '"$0" -m stream_app feed-check >&-', sys.executable]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
