"""What a client needs to reach the brokers, as one value: Settings.kafka makes it, kafka/client.py translates it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from stream_app.kafka.certificate import ClientCertificate


@dataclass(frozen=True)
class Password:
    """A login by PLAIN or SCRAM."""

    mechanism: str
    username: str
    password: SecretStr


@dataclass(frozen=True)
class OAuth:
    """A login by OAUTHBEARER: a token of an OAuth server for an id and a secret, fetched again before it expires."""

    token_endpoint_url: str
    client_id: str
    client_secret: SecretStr
    scope: str
    extensions: dict[str, str]
    """What a broker may ask for beside the token."""
    ca_location: Path | None
    """The authorities to trust for the token server's certificate; None: the system's."""


@dataclass(frozen=True)
class KafkaConnection:
    """Where the brokers are, how to talk to them, and who we are. Its text holds no secret."""

    bootstrap_servers: str
    security_protocol: str
    isolation_level: str
    ca_location: Path | None
    """A PEM file of the authorities to trust; None: the system's."""
    certificate: ClientCertificate | None
    login: Password | OAuth | None
    """None where the security protocol asks for no SASL."""
    options: Mapping[str, str]
    """Further options, named as by either client (kafka/options.py)."""

    @property
    def namespace(self) -> str:
        """What OpenLineage calls the brokers: the first of them."""
        return f"kafka://{self.bootstrap_servers.partition(',')[0].strip()}"
