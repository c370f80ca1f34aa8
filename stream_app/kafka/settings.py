"""The KAFKA_* settings, and the connection that they make. Where librdkafka has an option, they are named as that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from stream_app.kafka import options
from stream_app.kafka.certificate import ClientCertificate
from stream_app.kafka.connection import KafkaConnection, OAuth, Password
from stream_app.paths import FromRoot

# Without a name or a password: they would be in lines that name the server.
_URL = re.compile(r"https?://[^\s/@,]+(/[^\s@,]*)?")
# What SASL allows (RFC 7628).
_EXTENSION = re.compile(r"[A-Za-z]+=[\x20-\x7e\t\r\n]+")

_PASSWORD = ("kafka_sasl_username", "kafka_sasl_password")
_OAUTH = tuple(f"kafka_sasl_oauthbearer_{name}" for name in ("token_endpoint_url", "client_id", "client_secret"))
_FILES = (
    "kafka_ssl_ca_location",
    "kafka_ssl_certificate_location",
    "kafka_ssl_key_location",
    "kafka_https_ca_location",
)


def _no_text(value: object) -> object:
    if isinstance(value, str):
        problem = f"is no setting by itself; {options.PREFIX}REQUEST_TIMEOUT_MS is one of the many"
        raise ValueError(problem)
    return value


class _ClientOptions(PydanticBaseSettingsSource):
    """Reads KAFKA_CLIENT_* from the sources of the other settings; the first of them takes precedence."""

    def __init__(self, settings: type[BaseSettings], sources: tuple[PydanticBaseSettingsSource, ...]) -> None:
        super().__init__(settings)
        self._sources = sources

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return nothing: what there is depends on no field."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, str | None] = {}
        for source in reversed(self._sources):
            if isinstance(source, EnvSettingsSource):  # .env, too
                found |= source.env_vars
            elif isinstance(source, SecretsSettingsSource) and source.secrets_dir:
                files = Path(str(source.secrets_dir)).glob(f"{options.PREFIX.lower()}*")
                found |= {file.name: file.read_text().strip() for file in files}
        named = {name: value for name, value in found.items() if name.startswith(options.PREFIX.lower()) and value}
        return {"kafka_client": {name.removeprefix(options.PREFIX.lower()): value for name, value in named.items()}}


class KafkaSettings(BaseSettings):
    """Part of Settings."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    kafka_bootstrap_servers: str = "localhost:9094"
    """The brokers, host:port with commas between. `make run` starts one where this is unset, or a free port here."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to talk to the brokers. The service and the producer use the same. The containers need none."""
    kafka_ssl_ca_location: FromRoot | None = None
    """A PEM file of the authorities to trust. Unset: the system's."""
    kafka_ssl_certificate_location: FromRoot | None = None
    """A PEM file of our own certificate, and of its issuers after it, for brokers that ask for one (mTLS)."""
    kafka_ssl_key_location: FromRoot | None = None
    """A PEM file of the certificate's private key. Unset: the certificate's file holds it, too."""
    kafka_ssl_key_password: SecretStr = SecretStr("")
    """The password of the private key, if it is encrypted. Never logged."""
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = ""
    """How to log in. Needed for SASL."""
    kafka_sasl_username: str = ""
    """The user name. Needed for PLAIN and SCRAM."""
    kafka_sasl_password: SecretStr = SecretStr("")
    """The password. Needed for PLAIN and SCRAM, never logged."""
    kafka_sasl_oauthbearer_token_endpoint_url: str = ""
    """Where the OAuth server gives tokens (client credentials), http:// or https://. Needed for OAUTHBEARER."""
    kafka_sasl_oauthbearer_client_id: str = ""
    """Our id at the OAuth server. Needed for OAUTHBEARER."""
    kafka_sasl_oauthbearer_client_secret: SecretStr = SecretStr("")
    """Our secret at the OAuth server. Needed for OAUTHBEARER, never logged."""
    kafka_sasl_oauthbearer_scope: str = ""
    """The scope to ask the OAuth server for, if it wants one."""
    kafka_sasl_oauthbearer_extensions: str = ""
    """What the brokers ask for beside a token: name=value with commas between."""
    kafka_https_ca_location: FromRoot | None = None
    """A PEM file of the authorities to trust for the OAuth server's certificate. Unset: the system's."""
    kafka_isolation_level: Literal["read_committed", "read_uncommitted"] = "read_committed"
    """read_committed skips aborted records, and reads up to the first open transaction. The other reads all at once."""

    kafka_client: Annotated[dict[str, str], NoDecode, BeforeValidator(_no_text)] = {}
    """Further options of both Kafka clients, each by a variable of its own: KAFKA_CLIENT_REQUEST_TIMEOUT_MS is
    `request.timeout.ms`. What would break a guarantee is refused: see [operations](operations.md#kafkas-clients)."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read KAFKA_CLIENT_* where the other settings are read, and with the same precedence."""
        usual = init_settings, env_settings, dotenv_settings, file_secret_settings
        return *usual, _ClientOptions(settings_cls, usual)

    @model_validator(mode="after")
    def _kafka_is_whole(self) -> Self:
        unfit = options.problems(options.named(self.kafka_client))
        if problems := [*self._missing_for_sasl(), *self._unfit_for_ssl(), *unfit]:
            raise ValueError("; ".join(problems))
        return self

    def _missing_for_sasl(self) -> Iterator[str]:
        if self.kafka_security_protocol.startswith("SASL"):
            needed = "kafka_sasl_mechanism", *(_OAUTH if self.kafka_sasl_mechanism == "OAUTHBEARER" else _PASSWORD)
            if not all(getattr(self, name) for name in needed):
                *names, last = map(str.upper, needed)
                asked = f"{self.kafka_security_protocol} asks for {', '.join(names)} and {last}"
                yield f"KAFKA_SECURITY_PROTOCOL: {asked}"
        url = self.kafka_sasl_oauthbearer_token_endpoint_url
        if url and not _URL.fullmatch(url):
            yield "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: is no URL such as https://host/path, without a user name"
        if not all(map(_EXTENSION.fullmatch, _listed(self.kafka_sasl_oauthbearer_extensions))):
            yield "KAFKA_SASL_OAUTHBEARER_EXTENSIONS: is no name=value, a name of letters alone, with commas between"

    def _unfit_for_ssl(self) -> Iterator[str]:
        for name in _FILES:
            path = getattr(self, name)
            if path and not path.is_file():
                yield f"{name.upper()}: there is no file {path}"
        if self.kafka_ssl_certificate_location and not self.kafka_security_protocol.endswith("SSL"):
            unused = f"is for SSL, and KAFKA_SECURITY_PROTOCOL is {self.kafka_security_protocol}"
            yield f"KAFKA_SSL_CERTIFICATE_LOCATION: {unused}"
        if self.kafka_ssl_key_location and not self.kafka_ssl_certificate_location:
            yield "KAFKA_SSL_KEY_LOCATION: asks for KAFKA_SSL_CERTIFICATE_LOCATION"

    @property
    def kafka(self) -> KafkaConnection:
        """What a client needs to reach the brokers."""
        return KafkaConnection(
            bootstrap_servers=self.kafka_bootstrap_servers,
            security_protocol=self.kafka_security_protocol,
            isolation_level=self.kafka_isolation_level,
            ca_location=self.kafka_ssl_ca_location,
            certificate=self._certificate,
            login=self._login,
            options=options.named(self.kafka_client),
        )

    @property
    def _certificate(self) -> ClientCertificate | None:
        certificate = self.kafka_ssl_certificate_location
        if certificate is None:
            return None
        return ClientCertificate(certificate, self.kafka_ssl_key_location or certificate, self.kafka_ssl_key_password)

    @property
    def _login(self) -> Password | OAuth | None:
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            return OAuth(
                token_endpoint_url=self.kafka_sasl_oauthbearer_token_endpoint_url,
                client_id=self.kafka_sasl_oauthbearer_client_id,
                client_secret=self.kafka_sasl_oauthbearer_client_secret,
                scope=self.kafka_sasl_oauthbearer_scope,
                extensions=dict(one.split("=", 1) for one in _listed(self.kafka_sasl_oauthbearer_extensions)),
                ca_location=self.kafka_https_ca_location,
            )
        if self.kafka_sasl_mechanism:
            return Password(self.kafka_sasl_mechanism, self.kafka_sasl_username, self.kafka_sasl_password)
        return None


def _listed(value: str) -> list[str]:
    return [one.strip() for one in value.split(",") if one.strip()]
