"""What the commands of this package share: the settings and flows, and one line for expected trouble."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Callable

import duckdb

from stream_app.errors import ConfigError, StreamAppError, no_room_is_expected
from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import Flow, flows
from stream_app.plain import plain
from stream_app.settings import Settings, load_settings

Command = Callable[[Settings, tuple[Flow, ...]], int]


def run(name: str, command: Command) -> None:
    """Call the command with the settings and every flow of FEEDS (of FEED alone where it is given), and exit."""
    usage = sys.modules["__main__"].__doc__ or ""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(usage)
        sys.exit(0)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal that has not every letter
    try:
        _refuse_arguments(usage)
        settings = load_settings()
        feed = option("FEED")
        chosen = load_feeds(settings.feeds_path, (feed,) if feed else settings.feeds)
        with no_room_is_expected(settings.output_path):
            code = command(settings, flows(chosen, settings.output_path))
            sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # as by `| head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's last flush would fail again
        sys.exit(128 + signal.SIGPIPE)
    except StreamAppError as error:
        print(f"{name}: {plain(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"{name}: {plain(error)}", file=sys.stderr)
        sys.exit(1)
    except duckdb.Error as error:
        print(f"{name}: {plain(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(1)


def options(usage: str) -> list[str]:
    """The options of a command, as the first line of its help names them."""
    return re.findall(r"([A-Z_]+)=", usage.partition("\n")[0])


def _refuse_arguments(usage: str) -> None:
    """Options are variables: an argument would be passed over."""
    if sys.argv[1:]:
        given = " ".join(sys.argv[1:])
        takes = " ".join(f"{name}=" for name in options(usage))
        raise ConfigError(
            f'"{given}": there are no arguments; before the command, or after that of make, it takes {takes}'
        )


def option(name: str, *allowed: str) -> str:
    """An option of a make target, which comes as an environment variable; "" where it is not given."""
    value = os.environ.get(name, "").strip()
    if value and allowed and value not in allowed:
        problem = f'{name}: "{value}" is none of {", ".join(allowed)}'
        raise ConfigError(problem)
    return value


def flag(name: str) -> bool:
    """An option that is on or off."""
    return option(name, "0", "1") == "1"
