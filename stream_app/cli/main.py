"""Find the command that was typed, run it, and make one line and an exit code of expected trouble."""

from __future__ import annotations

import ast
import gc
import importlib
import io
import os
import pkgutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from stream_app.cli import commands
from stream_app.cli.command import PROGRAM, Command, parser
from stream_app.errors import ConfigError, StreamAppError
from stream_app.plain import plain

SERVE = "serve"
"""What runs where no command is given, as spark-submit starts this program."""
_HELP = {"-h", "--help"}


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name, and return its exit code (docs/operations.md#exit-codes)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal that has not every letter
    name, *rest = arguments or [SERVE]
    try:
        code = _run(name, rest)
        print(end="", flush=True)  # where stdout was closed there is no sys.stdout
    except BrokenPipeError:  # as by `| head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's last flush would fail again
        return 128 + signal.SIGPIPE
    except StreamAppError as error:
        return _say(name, error, error.exit_code)
    except OSError as error:
        return _say(name, error, 1)
    return code


def names() -> list[str]:
    """Return what the commands are called: each is a file of commands/."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))


def command(name: str) -> Command:
    """Return the command of that name, which imports what it needs. Raises ConfigError where there is none."""
    if name not in names():
        raise ConfigError(f"there is no such command; there are {', '.join(names())}")
    found: Command = importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}").COMMAND
    return found


def _run(name: str, arguments: Sequence[str]) -> int:
    if name in _HELP:
        print(_help())
        return 0
    found = command(name)
    gc.enable()  # __main__.py has had it wait for the imports
    return found.run(parser(name, found).parse_args(arguments))


def _help() -> str:
    """Return the list of commands, without an import of what each needs."""
    folder = Path(commands.__path__[0])
    files = {name: folder / f"{name.replace('-', '_')}.py" for name in names()}
    lines = [f"  {name:<12}{ast.get_docstring(ast.parse(file.read_text()))}" for name, file in files.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} [<command>] [<options>]",
            "",
            f"Without a command it is {SERVE}. {PROGRAM} <command> --help says more of each:",
            "",
            *lines,
        ]
    )


def _say(name: str, error: Exception, code: int) -> int:
    print(f"{plain(name)}: {plain(' '.join(str(error).split()))}", file=sys.stderr)
    return code
