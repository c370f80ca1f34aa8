"""Make a lost checkpoint again from its Delta table."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from stream_app.cli.agreed import REFUSAL, REFUSED, agreed, yes_option
from stream_app.cli.chosen import chosen, of_sink
from stream_app.cli.command import Command, feed_option, format_option, sink_option
from stream_app.cli.output import print_json
from stream_app.ops.restore import RestorePlan, apply, planned
from stream_app.plain import plain


def _options(parser: argparse.ArgumentParser) -> None:
    feed_option(parser)
    sink_option(parser, "the table whose checkpoint is to be made again")
    yes_option(parser, "do it without asking")
    format_option(parser)


def _run(options: argparse.Namespace) -> int:
    is_json = options.format == "json"
    with chosen(options) as (_, flows), planned(of_sink(flows, options.sink), options.sink) as plans:
        if not is_json:
            print(*map(_line, plans), sep="\n")
        is_agreed = agreed(options, "make it so?")
        for plan in plans if is_agreed else ():
            apply(plan)
    if is_json:
        print_json({"restored": [_as_json(plan) for plan in plans], "is_done": is_agreed})
    else:
        print("done: it goes on there with the next start" if is_agreed else "nothing was changed")
    return 0 if is_agreed else REFUSED


def _line(plan: RestorePlan) -> str:
    time = datetime.fromtimestamp(plan.time_ms / 1000, UTC)
    gone = " The checkpoint that is there is deleted." if plan.has_checkpoint else ""
    where = f"behind batch {plan.batch} of {time:%Y-%m-%d %H:%M:%S} UTC, version {plan.version}"
    return plain(f"{plan.flow.name} goes on {where}, which has taken {plan.end}.{gone}")


def _as_json(plan: RestorePlan) -> dict[str, object]:
    return {"sink": plan.flow.name, "version": plan.version, "batch": plan.batch, "taken": plan.end}


COMMAND = Command(
    about="""
        Makes the checkpoint of a Delta sink again, from what the newest version of its table says of its batch. So the
        query goes on behind that batch, and no row is lost or doubled. It also takes a table over from another
        checkpoint, as after a restore of an older copy. It refuses while the service runs, and where the layer before
        was reset since. What is fresh, or totals, has state that cannot be restored: reset it.
    """,
    options=_options,
    run=_run,
    exits={0: "done", REFUSED: f"nothing was changed, {REFUSAL}"},
    examples=("--feed=transactions --sink=table", "--sink=table --yes"),
)
