"""What a client needs to reach the brokers, as one value: Settings.kafka makes it, kafka/client.py translates it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import SecretStr


@dataclass(frozen=True)
class Password:
    """A login by PLAIN or SCRAM."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    username: str
    password: SecretStr


@dataclass(frozen=True)
class KafkaConnection:
    """Where the brokers are, how to talk to them, and who we are. Its text holds no secret."""

    bootstrap_servers: str
    security_protocol: str
    isolation_level: str
    ca_location: Path | None
    """A PEM file of the authorities to trust; None: the system's."""
    login: Password | None
    """None where the security protocol asks for no SASL."""
