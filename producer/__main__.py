"""`python -m producer`: send a feed's test traffic to Kafka until told to stop."""

from __future__ import annotations

import argparse
import math
import secrets
import signal
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any

from confluent_kafka import KafkaException, Producer

from producer import events
from producer.client_options import blamed
from producer.faults import Traffic
from producer.log import Log
from producer.publisher import Publisher, PublishError, Stop, client_config
from producer.run import Progress, Run
from producer.settings import Settings, SettingsError, describe_settings, load_settings
from producer.summary import Ranges, summary

LEAST_INTERVAL = 1e-7  # MSGS_PER_SEC has a limit


def main(arguments: list[str] | None = None) -> int:
    """Run the command. 0: done or stopped; 1: not all was delivered; 2: a wrong option or setting."""
    options = _options(arguments)
    try:
        settings = load_settings(**_given(options))
        if options.feed not in events.feeds():
            problem = f"--feed: there is no {options.feed!r}; there is {', '.join(events.feeds())}"
            raise SettingsError(problem)
        return _run(settings, options.feed, Ranges() if options.summary else None)
    except SettingsError as error:
        sys.stderr.write(f"producer: {error}\n")
        return 2


def _run(settings: Settings, feed: str, ranges: Ranges | None) -> int:
    log = Log(settings.log_format)
    stop = _stop_on_signals()
    # A seed of its own for each run: with a fixed one a restarted producer would send its first records
    # again, and the app would rightly drop them as repeats.
    seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
    source = events.source(feed, seed)
    topic = settings.kafka_topic or source.contract.topic or feed
    traffic = Traffic(source, settings.shares(source.contract.late.share), seed)
    try:
        told = ranges.add if ranges else None
        publisher = Publisher(Producer, client_config(settings), topic, stop, log, told)
    except KafkaException as error:
        said = " ".join(error.args[0].str().split())
        problem = f"{blamed(said, settings.kafka_client)}: the client refuses these settings: {said}"
        raise SettingsError(problem) from None
    log(
        "starting",
        feed=feed,
        topic=topic,
        brokers=settings.kafka_bootstrap_servers,
        per_second=settings.msgs_per_sec,
        count=settings.count,
        seed=seed,
        backfill_seconds=settings.backfill.total_seconds(),
    )
    publisher.wait_for_topic()
    progress = Progress(publisher.totals, log)
    refused = False
    try:
        Run(settings, traffic, publisher, progress, stop).publish()
    except PublishError as error:
        refused = True
        log("refused", reason=error)
    if stop.requested:
        log("stopping", signal=stop.signal)
    publisher.drain()
    progress.totals()
    if ranges:
        sys.stdout.write(f"{summary(feed, topic, publisher.totals, ranges)}\n")
    return 1 if refused or publisher.totals.failed else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m producer",
        description="Send a feed's test traffic to Kafka, until COUNT is reached or a signal stops it.",
        epilog=f"settings, from the environment or .env [default]:\n{describe_settings()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--feed", default="transactions", help="one of: " + ", ".join(events.feeds()))
    parser.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="instead of KAFKA_BOOTSTRAP_SERVERS")
    parser.add_argument("--topic", help="instead of KAFKA_TOPIC")
    parser.add_argument("--count", metavar="N", help="instead of COUNT")
    interval = "seconds between two messages, without a history; instead of MSGS_PER_SEC and BACKFILL"
    parser.add_argument("--interval", metavar="SECONDS", type=_interval, help=interval)
    last = "print a last line of JSON: what was sent, and the ranges of offsets where Kafka has it"
    parser.add_argument("--summary", action="store_true", help=last)
    return parser


def _options(arguments: list[str] | None) -> argparse.Namespace:
    return parser().parse_args(arguments)


def _interval(text: str) -> float:
    """Read a number of seconds; 0 means as fast as it can."""
    with suppress(ValueError):
        if (seconds := float(text)) == 0 or LEAST_INTERVAL <= seconds < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is neither 0 nor a number of seconds from {LEAST_INTERVAL} on")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were typed as options."""
    given = {
        "kafka_bootstrap_servers": options.bootstrap_servers,
        "kafka_topic": options.topic,
        "count": options.count,
    }
    if options.interval is not None:
        given |= {"msgs_per_sec": 1 / options.interval if options.interval else 0, "backfill": timedelta()}
    return {name: value for name, value in given.items() if value is not None}


def _stop_on_signals() -> Stop:
    stop = Stop()

    def request(number: int, _frame: Any) -> None:
        stop.requested = True
        stop.signal = signal.Signals(number).name

    signal.signal(signal.SIGINT, request)
    signal.signal(signal.SIGTERM, request)
    return stop


if __name__ == "__main__":
    sys.exit(main())
