"""The settings of the service: environment variables or `.env`, nothing else. Feeds have files of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from stream_app.kafka.connection import KafkaConnection
from stream_app.kafka.settings import KafkaSettings
from stream_app.object_stores import StoreSettings, TableRoot
from stream_app.paths import FromRoot
from stream_app.settings_sources import SOURCES, read, secrets_of

PROJECT = Path(__file__).resolve().parents[1]
PYTHON_START = PROJECT / "stream_app" / "runtime" / "start"
"""Holds what each Python that Spark starts runs first; in the Dockerfile likewise."""
AVAILABLE_NOW = "available-now"
_INTERVAL = re.compile(r"([1-9]\d{0,5}) (second|minute|hour)s?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def _names(value: object) -> object:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


def _interval(value: str) -> str:
    if value != AVAILABLE_NOW and not _INTERVAL.fullmatch(value):
        problem = f'"{value}" is neither an interval such as "30 seconds" nor "{AVAILABLE_NOW}"'
        raise ValueError(problem)
    return value


def _posix(value: object) -> object:
    # Python workers open the files themselves, and a final name must appear by one atomic rename. An object
    # store has no rename, and Arrow reaches HDFS only through a native library that pyspark does not bring.
    if isinstance(value, str) and _SCHEME.match(value):
        problem = f'"{value}" must be a folder of a POSIX file system, local or mounted'
        raise ValueError(problem)
    return value


def _database(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url and not (url.startswith(("postgresql://", "postgres://")) and _libpq_reads(url)):
        problem = 'is no URL such as "postgresql://user:password@host:5432/db", where %40 stands for @ and %25 for %'
        raise ValueError(problem)
    return value


def _libpq_reads(url: str) -> bool:
    import psycopg  # noqa: PLC0415 - most who read settings need no database

    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:  # what it says would quote parts of the URL, and the password may be one
        return False
    # So would a connection's error, where the rest of a password with a bare @ or / was read as a host, a port, a name.
    hosts, ports = str(parts.get("host", "")), str(parts.get("port", ""))
    return "@" not in hosts + str(parts.get("dbname", "")) and re.fullmatch("[0-9,]*", ports) is not None


@dataclass(frozen=True)
class Servers:
    """What outputs are written to beside files. Its text holds no secret."""

    kafka: KafkaConnection
    database_url: SecretStr
    """Empty where no database is named."""
    retention_hours: int
    """For how many hours tables keep old versions."""


@dataclass(frozen=True)
class Trigger:
    """When a batch begins, and how much it takes."""

    interval: str
    """As TRIGGER_INTERVAL has it."""
    max_records: int
    """0: no limit."""

    @property
    def drains(self) -> bool:
        """Whether the service reads what is there and exits, rather than stay up."""
        return self.interval == AVAILABLE_NOW

    @property
    def seconds(self) -> float:
        """How often bronze reads Kafka, in seconds; 0 for a drain."""
        match = _INTERVAL.fullmatch(self.interval)
        return timedelta(**{f"{match[2]}s": int(match[1])}).total_seconds() if match else 0.0


@dataclass(frozen=True)
class SparkOptions:
    """Where Spark runs and with what. Its text holds no secret."""

    master: str
    driver_memory: str
    shuffle_partitions: int
    auth_secret: SecretStr

    @property
    def security(self) -> dict[str, str]:
        """What Spark needs so that nobody else reads what driver and workers of a cluster say, or has tasks run.

        For the driver's own process alone: the arguments of a process are for all users to read. Yarn and Kubernetes
        make a secret of their own.
        """
        secret, standalone = self.auth_secret.get_secret_value(), self.master.startswith("spark:")
        if self.master.startswith("local") or (standalone and not secret):
            return {}
        closed = ("spark.authenticate", "spark.network.crypto.enabled", "spark.io.encryption.enabled")
        return dict.fromkeys(closed, "true") | ({"spark.authenticate.secret": secret} if standalone else {})


class Settings(KafkaSettings, StoreSettings):
    """Deployment values only. Each field is the environment variable of its name in capitals.

    docs/settings.md is made of the fields and their docstrings: `python -m tests.docs`.
    """

    model_config = SOURCES

    database_url: Annotated[SecretStr, AfterValidator(_database)] = SecretStr("")
    """PostgreSQL 12 or later with encoding UTF8, for feeds that need one: postgresql://user:password@host:5432/db.
    Never logged. `make run` and `make app` start one where this is unset. The containers have the stack's own."""

    feeds: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ("transactions",)
    """The feeds to serve, with commas between."""
    feeds_path: FromRoot = PROJECT / "conf" / "feeds"
    """The folder of the feed files. The image of the containers has its own copy."""
    output_path: Annotated[FromRoot, BeforeValidator(_posix)] = Path("data/output")
    """The folder of the outputs, in a POSIX file system, local or mounted. `~` is the home folder."""

    landing_path: Annotated[FromRoot, BeforeValidator(_posix)] = Path("data/landing")
    """The folder of the landing zone, where `make land` writes what it takes from a topic. See [batch](batch.md)."""

    gold_path: Annotated[FromRoot, BeforeValidator(_posix)] = Path("data/gold")
    """The folder of the tables that `make etl` makes of what has landed."""

    trigger_interval: Annotated[str, AfterValidator(_interval)] = "30 seconds"
    """How often bronze reads Kafka. The other layers follow within a second or two.
    `available-now` reads what is there and exits with 0."""
    max_offsets_per_trigger: int = Field(default=500_000, ge=0)
    """The most records in a batch. The layers after bronze take whole files. 0: no limit."""
    starting_offsets: Literal["earliest", "latest"] = "earliest"
    """Where a new bronze begins to read."""
    fail_on_data_loss: bool = True
    """Refuse to skip records that expired or cannot be read, or files deleted before they were read.
    `false` skips exactly these."""
    max_files_per_sink: int = Field(default=48, ge=1)
    """Micro-batch files in a folder before RETENTION acts."""
    retention: Literal["compact", "prune", "keep"] = "compact"
    """compact merges old files and deletes no row. keep does nothing. prune deletes all but the newest
    MAX_FILES_PER_SINK files, bronze's too: at the defaults it keeps 24 minutes. It deletes no row of a
    Delta table: that is the archive."""
    retention_hours: int = Field(default=168, ge=1)
    """For how many hours tables of delta keep old versions."""
    max_failures: int = Field(default=5, ge=1)
    """Failures of one query in a row before the process gives up. It waits longer each time.
    An absent broker is no failure. It is waited for."""
    show_previews: bool = False
    """1: log the newest rows of silver and gold with each batch."""
    commit_group_offsets: bool = False
    """1: mirror the offsets read to consumer groups `stream-app.<feed>.<sink>`, for lag tools."""
    log_format: Literal["text", "json"] = "text"
    """json: one object a line, except a few lines that the JVM and pyspark print themselves. Containers use json."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """The port of /metrics, /healthz and /readyz. 0: off. With Compose, the port on this machine: by default 9108."""
    metrics_host: str = "127.0.0.1"
    """The address to listen on. Containers listen on all of theirs."""

    spark_master: str = "local[*]"
    """Or spark://…, whose workers have this project at the same path. yarn and k8s://… are not tested."""
    spark_auth_secret: SecretStr = SecretStr("")
    """The secret that driver, master and workers of spark://… share. It encrypts what they say. Never logged.
    Needed with any other secret, which tasks carry. `make up PROFILE=cluster` makes one."""
    spark_driver_memory: str = Field(default="1g", pattern=r"^[1-9]\d*[mg]$")
    """The heap of the driver's JVM."""
    spark_sql_shuffle_partitions: int = Field(default=4, ge=1)
    """Partitions of the state. The first start of a sink fixes it."""

    @model_validator(mode="after")
    def _cluster_is_closed(self) -> Settings:
        carried = [name.upper() for name in sorted(_SECRET - {"spark_auth_secret"}) if getattr(self, name)]
        if self.spark_master.startswith("spark:") and carried and not self.spark_auth_secret.get_secret_value():
            problem = f"is not set, and tasks carry {' and '.join(carried)} to {self.spark_master}, for all to read"
            raise ValueError(f"SPARK_AUTH_SECRET: {problem}; give driver, master and workers one (docs/scaling.md)")
        return self

    @property
    def servers(self) -> Servers:
        """What outputs are written to beside files."""
        return Servers(self.kafka, self.database_url, self.retention_hours)

    @property
    def tables(self) -> TableRoot:
        """Where the tables of all feeds lie."""
        return self.table_root(str(self.output_path))

    @property
    def trigger(self) -> Trigger:
        """When a batch begins, and how much it takes."""
        return Trigger(self.trigger_interval, self.max_offsets_per_trigger)

    @property
    def spark(self) -> SparkOptions:
        """Where Spark runs and with what."""
        memory, partitions = self.spark_driver_memory, self.spark_sql_shuffle_partitions
        return SparkOptions(self.spark_master, memory, partitions, self.spark_auth_secret)


_SECRET = secrets_of(Settings)


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env`. Raises ConfigError, one line that names each wrong setting and no secret."""
    return read(Settings, **overrides)
