"""A command: what a person types after `python -m stream_app`, its options, and the help that is made of both."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from stream_app.api.settings import ApiSettings
from stream_app.errors import ConfigError
from stream_app.feeds.parts import quoted
from stream_app.settings import Settings

PROGRAM = "python -m stream_app"
OF_FEEDS = ("feeds", "feeds_path", "output_path")
"""The settings by which a command finds the feeds and their outputs."""
_FIELDS = {**Settings.model_fields, **ApiSettings.model_fields}
_MISTAKE = "what was typed, a setting, a feed file or the state on disk is wrong; one line says what to type"


@dataclass(frozen=True)
class Command:
    """A command, which `python -m stream_app <its file's name>` runs. Each file of commands/ has one as COMMAND."""

    about: str
    """What it does, in paragraphs. The docstring of its file is the line that the list of commands has of it."""
    run: Callable[[argparse.Namespace], int]
    """Carries it out, prints what came of it and returns the exit code."""
    exits: Mapping[int, str]
    """What its exit codes mean, but for 2, which is the same everywhere."""
    examples: Sequence[str]
    """What a person may type after its name."""
    options: Callable[[argparse.ArgumentParser], object] = field(default=lambda _: None)
    """Adds its options to the parser."""
    settings: Sequence[str] = OF_FEEDS
    """The settings that matter most to it."""


class Parser(argparse.ArgumentParser):
    """Raises ConfigError, one line that lists what there is, where argparse would print the usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Refuse what was typed."""
        options = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        raise ConfigError(f"{message}; it takes {', '.join(options)}")


def parser(name: str, command: Command) -> Parser:
    """Return the parser of a command."""
    made = Parser(
        prog=f"{PROGRAM} {name}",
        description=inspect.cleandoc(command.about),
        epilog=_epilog(name, command),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.options(made)
    return made


def _epilog(name: str, command: Command) -> str:
    parts = {
        "settings (environment variables or .env; docs/settings.md lists all)": [
            f"  {setting.upper():<24}{_first_sentence(setting)}" for setting in command.settings
        ],
        "exit codes": [f"  {code}  {meaning}" for code, meaning in sorted({**command.exits, 2: _MISTAKE}.items())],
        "examples": [f"  {PROGRAM} {' '.join(filter(None, (name, example)))}" for example in command.examples],
    }
    return "\n\n".join("\n".join([f"{heading}:", *lines]) for heading, lines in parts.items() if lines)


def _first_sentence(setting: str) -> str:
    text = " ".join((_FIELDS[setting].description or "").split())
    return re.split(r"(?<=\.) ", text)[0]


def feed_option(parser: argparse.ArgumentParser, default: str = "FEEDS") -> None:
    """Add --feed; `default` says what is looked at without it."""
    meaning = f"the one feed to look at, in FEEDS or not [{default}]"
    parser.add_argument("--feed", metavar="FEED", default="", help=meaning)


def sink_option(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add --sink."""
    parser.add_argument("--sink", metavar="SINK", default="", help=meaning)


def format_option(parser: argparse.ArgumentParser, *more: str) -> None:
    """Add --format."""
    kinds = ("table", "json", *more)
    parser.add_argument("--format", choices=kinds, default="table", help="how to print what came of it [table]")


def number(text: str) -> int:
    """Read a number from 1 on, as the type of an option."""
    with suppress(ValueError):
        if (found := int(text)) >= 1:
            return found
    raise argparse.ArgumentTypeError(f"{quoted(text)} is no number from 1 on")


def flag(parser: argparse.ArgumentParser, name: str, meaning: str) -> None:
    """Add an option that is given or not."""
    parser.add_argument(name, action="store_true", help=meaning)
