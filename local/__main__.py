"""`python -m local broker|postgres|app|produce|run|psql|setup`: what the make targets of the same names call."""

from __future__ import annotations

import argparse
import subprocess
import sys

from local.console import say
from local.places import ROOT, Places
from local.setup import set_up
from stream_app.errors import StreamAppError

_COMMANDS = {
    "run": "broker, database if a feed has tables, app, page and producers together, with a live view",
    "broker": "the Kafka broker alone, in the foreground",
    "postgres": "a PostgreSQL alone, in the foreground",
    "app": "the streaming service, in the foreground; with a PostgreSQL where it needs one and there is none",
    "produce": "the producers alone, in the foreground",
    "airflow": "Airflow with the DAGs of dags/, and its UI at http://127.0.0.1:8082",
    "psql": "a shell on the database",
    "setup": "make the virtual environment and fetch the jars, where their pins changed",
}
_EPILOG = """Settings are environment variables or .env, as docs/settings.md lists them; here these matter most:
  KAFKA_BOOTSTRAP_SERVERS  where Kafka is, or is to be if that is a free port of this machine [localhost:9094]
  DATABASE_URL             the database of feeds with tables [a PostgreSQL that is started here]
  FEEDS                    which feeds, with commas between [transactions]
  API_PORT                 where `run` serves the page, or next to it; 0: nowhere [5000]
  OUTPUT_PATH              the outputs' folder [data/output]
  SECONDS_TO_RUN           stop `run` that many seconds after the app is up [never]

Ctrl-C or SIGTERM stops in order. Exit codes: 0 ended as asked; 1 a program died or did not stop in order;
2 something is missing, in use or set wrongly, and one line on stderr says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "setup":
            set_up(Places(), jars=not options.venv_only)
            return 0
        return _run(options)
    except StreamAppError as error:
        say(options.command, str(error), trouble=True)
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    from local.stack import load_stack  # noqa: PLC0415 - set-up runs before what these import is installed
    from local.supervise import follow, stop_signals  # noqa: PLC0415

    if options.command != "psql":
        subprocess.run(["sh", str(ROOT / "local" / "private_env.sh"), options.command], check=False)
    stack = load_stack(Places(), getattr(options, "feed", ""))
    match options.command:
        case "run":
            from local.run import run  # noqa: PLC0415

            return run(stack)
        case "broker":
            return follow([stack.broker()])
        case "postgres":
            return follow([stack.postgres()])
        case "app":
            return follow(stack.app_alone())
        case "airflow":
            from local.airflow import run_airflow  # noqa: PLC0415

            return run_airflow(stack.settings, stack.places, stack.address())
        case "psql":
            from local.postgres import shell  # noqa: PLC0415

            shell(stack.database_url(), options.sql, stack.tables(options.feed, options.sink))
    with stop_signals() as stopping:
        stack.make_topics(stopping)
    return 0 if stopping.is_set() else follow(stack.producers(stack.address()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description="The whole stack on this machine without Docker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, purpose in _COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        match name:
            case "setup":
                command.add_argument("--venv-only", action="store_true", help="no jars: for what needs no Java")
            case "produce":
                command.add_argument("--feed", default="", help="the one feed to send, in FEEDS or not [all of FEEDS]")
            case "psql":
                command.add_argument("--sql", default="", help="a statement to run instead")
                command.add_argument("--feed", default="", help="show the tables of this feed first")
                command.add_argument("--sink", default="", help="show the table of this sink first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
