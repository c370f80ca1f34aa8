"""`python -m producer`: send a feed's test traffic to Kafka until told to stop."""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
from typing import Any

from confluent_kafka import KafkaException, Producer

from producer import events
from producer.faults import Traffic
from producer.log import Log
from producer.publisher import Publisher, PublishError, Stop, client_config
from producer.run import Progress, Run
from producer.settings import Settings, SettingsError, describe_settings, load_settings


def main(arguments: list[str] | None = None) -> int:
    """Run the command. 0: done or stopped; 1: not all was delivered; 2: a wrong option or setting."""
    options = _options(arguments)
    try:
        settings = load_settings()
        if options.feed not in events.feeds():
            problem = f"--feed: there is no {options.feed!r}; there is {', '.join(events.feeds())}"
            raise SettingsError(problem)
        return _run(settings, options.feed)
    except SettingsError as error:
        sys.stderr.write(f"producer: {error}\n")
        return 2


def _run(settings: Settings, feed: str) -> int:
    log = Log(settings.log_format)
    stop = _stop_on_signals()
    topic = settings.kafka_topic or feed
    # A seed of its own for each run: with a fixed one a restarted producer would send its first records
    # again, and the app would rightly drop them as repeats.
    seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
    source = events.source(feed, seed)
    traffic = Traffic(source, settings.shares(source.contract.late.share), seed)
    try:
        publisher = Publisher(Producer, client_config(settings), topic, stop, log)
    except KafkaException as error:
        problem = f"KAFKA_*: the client refuses these settings: {error.args[0].str()}"
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
    return 1 if refused or publisher.totals.failed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m producer",
        description="Send a feed's test traffic to Kafka, until COUNT is reached or a signal stops it.",
        epilog=f"settings, from the environment or .env [default]:\n{describe_settings()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--feed", default="transactions", help="one of: " + ", ".join(events.feeds()))
    return parser.parse_args(arguments)


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
