"""What the local stack consists of: where Kafka and the database are, and the programs that use them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event

from local import agent, broker, ports, postgres
from local.broker import Broker
from local.console import say
from local.places import Places
from local.postgres import Postgres
from local.process import Child, WhenDone
from producer import events
from producer.settings import SettingsError
from producer.settings import load_settings as load_producer_settings
from stream_app.api.settings import ApiSettings, load_api_settings
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.settings import Settings, load_settings
from stream_app.sinks.protocol import sink_of
from stream_app.sinks.registry import check, flows, needs_database, topics

_LOCAL = re.compile(r"(?:localhost|127\.0\.0\.1):(\d{1,5})")
_LOOK_SECONDS = 0.5
_PRODUCER_PATIENCE_SECONDS = 30.0
_API_PATIENCE_SECONDS = 15.0
_APP_PATIENCE_SECONDS = 75.0  # the app promises to drain within 60


@dataclass(frozen=True)
class Stack:
    """The settings that the local stack is made from, all of them checked."""

    settings: Settings
    feeds: Sequence[Feed]
    """Those of FEEDS, or the one that was asked for instead."""
    topic_of_producer: str
    """KAFKA_TOPIC; empty where each feed's own topic is meant."""
    places: Places
    api_settings: ApiSettings
    broker_metrics_port: int

    def broker(self) -> Broker:
        """Return the broker where KAFKA_BOOTSTRAP_SERVERS says. Raises ConfigError where it cannot be there."""
        broker.refuse_another(self.places)
        port = self._asked_port()
        if port is None:
            problem = f"{self.settings.kafka_bootstrap_servers} is not this machine; unset it to run a broker here"
            raise ConfigError(f"KAFKA_BOOTSTRAP_SERVERS: {problem}")
        if not ports.is_free(port):
            other = f"KAFKA_BOOTSTRAP_SERVERS=localhost:{ports.next_free(port + 1)}"
            problem = f"port {port} is taken by another program; stop that, or choose another port: {other} make broker"
            raise ConfigError(problem)
        return self._broker_at(port)

    def broker_if_needed(self) -> Broker | None:
        """Return a broker on a free port; None where KAFKA_BOOTSTRAP_SERVERS names one that is there already."""
        port = self._asked_port()
        if port is None or (self._names_address and not ports.is_free(port)):
            say("broker", f"none is started: KAFKA_BOOTSTRAP_SERVERS names {self.settings.kafka_bootstrap_servers}")
            return None
        broker.refuse_another(self.places)
        free = ports.next_free(port)
        if free != port:
            say("broker", f"port {port} is taken by another program, so Kafka takes {free}")
        return self._broker_at(free)

    def postgres(self) -> Postgres:
        """Return a PostgreSQL. Raises ConfigError where DATABASE_URL names another one."""
        if self.settings.database_url.get_secret_value():
            problem = "DATABASE_URL: names the database already; unset it to run one here"
            raise ConfigError(problem)
        return Postgres(self.places)

    def postgres_if_needed(self) -> Postgres | None:
        """Return a PostgreSQL; None where none is to be started.

        That is where no feed has a table, DATABASE_URL names one, or one runs here already.
        """
        if not needs_database(self.feeds):
            return None
        if self.database_url():
            named = self.settings.database_url.get_secret_value()
            say("postgres", f"none is started: {'DATABASE_URL names one' if named else 'one runs here already'}")
            return None
        return Postgres(self.places)

    def app(self, address: str, database_url: str) -> Child:
        """Return the streaming service; its pid becomes spark-submit's."""
        when_done = WhenDone.ALL_IS_DONE if self.settings.trigger.drains else WhenDone.TROUBLE
        argv = [sys.executable, "-m", "stream_app"]
        environment = {"KAFKA_BOOTSTRAP_SERVERS": address, "DATABASE_URL": database_url}
        return Child("app", argv, self.places, _APP_PATIENCE_SECONDS, environment, when_done)

    def api_if_wanted(self, database_url: str) -> Child | None:
        """Return the API with the page, on a free port; None with API_PORT=0."""
        asked = self.api_settings.api_port
        if not asked:
            return None
        port = ports.next_free(asked)
        if port != asked:
            say("page", f"port {asked} is taken by another program, so the page takes {port}")
        say("page", f"http://{self.api_settings.api_host}:{port}/")
        environment = {"DATABASE_URL": database_url, "API_PORT": str(port)}
        return Child(
            "api", [sys.executable, "-m", "stream_app", "api"], self.places, _API_PATIENCE_SECONDS, environment
        )

    def app_alone(self) -> list[Child]:
        """Return the service for a terminal of its own.

        Its database comes first, where it needs one and there is none.
        """
        started = self.postgres_if_needed()
        app = self.app(self.address(), started.url if started else self.database_url())
        app.when_done = WhenDone.ALL_IS_DONE
        return [*filter(None, [started]), app]

    def producers(self, address: str) -> list[Child]:
        """Return a producer for each feed that has test traffic.

        Its name is `produce` where FEEDS names one feed, else `produce-<feed>`. Raises ConfigError where KAFKA_TOPIC
        names one topic for several feeds.
        """
        if self.topic_of_producer and len(self.feeds) > 1:
            problem = f"KAFKA_TOPIC: {self.topic_of_producer} cannot be the topic of {len(self.feeds)} feeds; unset it"
            raise ConfigError(problem)
        known = [feed for feed in self.feeds if feed.name in events.feeds()]
        for feed in self.feeds:
            if feed not in known:
                say("produce", f"feed {feed.name} gets no records: there is no producer/events/{feed.name}.py")
        return [
            Child(
                "produce" if self.settings.feeds == (feed.name,) else f"produce-{feed.name}",
                [sys.executable, "-m", "producer", "--feed", feed.name],
                self.places,
                _PRODUCER_PATIENCE_SECONDS,
                {"KAFKA_BOOTSTRAP_SERVERS": address, "KAFKA_TOPIC": self.topic_of_producer or feed.topic},
                WhenDone.OTHERS_GO_ON,
            )
            for feed in known
        ]

    def address(self) -> str:
        """Where app and producers in a terminal of their own find Kafka."""
        if self._names_address:
            return self.settings.kafka_bootstrap_servers
        return broker.running(self.places) or self.settings.kafka_bootstrap_servers

    def database_url(self) -> str:
        """DATABASE_URL, or that of a PostgreSQL which runs here; empty where there is neither."""
        return self.settings.database_url.get_secret_value() or postgres.running(self.places) or ""

    def tables(self, feed: str, sink: str) -> list[str]:
        """Return the tables of a feed, of a sink; none where neither is given. Raises ConfigError where it has none."""
        if not feed and not sink:
            return []
        kept = [flow for flow in flows(self.feeds, self.settings.output_path) if sink_of(flow).needs_database]
        found = [flow for flow in kept if sink in {"", flow.sink}]
        if not found:
            there_are = ", ".join(flow.name for flow in kept) or "none"
            raise ConfigError(f"{sink or feed} has no table in PostgreSQL; there are: {there_are}")
        return [sink_of(flow).qualified_name(flow, self.settings.servers)[1].rpartition(".")[2] for flow in found]

    def make_topics(self, stopping: Event) -> None:
        """Make the topics that are missing in a broker of ours, which may have been started for other feeds.

        One of this machine that is not up yet is waited for: who makes it later would make the topics of FEEDS alone.
        """
        told = False
        while self._is_awaited():
            if not told:
                say("produce", f"waits for the broker at {self.address()}; to start one: make broker")
            told = True
            if stopping.wait(_LOOK_SECONDS):
                return
        address = broker.running(self.places)
        if address == self.address():
            broker.make_topics(self.places, address, self._topics)

    @property
    def _names_address(self) -> bool:
        return "kafka_bootstrap_servers" in self.settings.model_fields_set

    def _is_awaited(self) -> bool:
        """Return whether Kafka is to be on this machine, and is not there yet."""
        if broker.running(self.places) == self.address():
            return not broker.answers(self.address())
        port = self._asked_port()
        return port is not None and ports.is_free(port)

    def _asked_port(self) -> int | None:
        """Return the port if the address, given or default, is one of this machine."""
        match = _LOCAL.fullmatch(self.settings.kafka_bootstrap_servers)
        return int(match[1]) if match else None

    @property
    def _topics(self) -> list[str]:
        return sorted(topics(self.feeds) | {self.topic_of_producer} - {""})

    def _broker_at(self, port: int) -> Broker:
        return Broker(self.places, port, self._topics, self.broker_metrics_port)


def load_stack(places: Places, feed: str = "") -> Stack:
    """Check the settings and feed files, of `feed` instead of FEEDS if that is given.

    Raises ConfigError, one line that names what is wrong.
    """
    settings, api_settings = load_settings(), load_api_settings()
    feeds = load_feeds(settings.feeds_path, (feed,) if feed else settings.feeds, check)
    try:
        topic = load_producer_settings().kafka_topic
    except SettingsError as error:
        raise ConfigError(str(error)) from None
    places.make()
    return Stack(settings, feeds, topic, places, api_settings, agent.load_metrics_port())
