"""How the producer reaches the brokers, and who it is: the settings that it shares with the service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource

from producer import client_options

_BROKERS = re.compile(r"[^\s,:/]+:\d{1,5}(,[^\s,:/]+:\d{1,5})*|(\[[0-9A-Fa-f:]+\]:\d{1,5},?)+")
_PASSWORD = ("kafka_sasl_username", "kafka_sasl_password")
_OAUTH = tuple(f"kafka_sasl_oauthbearer_{name}" for name in ("token_endpoint_url", "client_id", "client_secret"))
# Each is librdkafka's option of that name, an underscore for a dot.
_HANDED_ON = (
    "kafka_ssl_ca_location",
    "kafka_ssl_certificate_location",
    "kafka_ssl_key_location",
    "kafka_ssl_key_password",
    "kafka_sasl_mechanism",
    *_PASSWORD,
    *_OAUTH,
    "kafka_sasl_oauthbearer_scope",
    "kafka_sasl_oauthbearer_extensions",
    "kafka_https_ca_location",
)

_File = Annotated[Path, AfterValidator(Path.expanduser)] | None


def _brokers(value: str) -> str:
    if not _BROKERS.fullmatch(value):
        problem = "expected host:port, or several with commas between"
        raise ValueError(problem)
    return value


def _no_text(value: object) -> object:
    if isinstance(value, str):
        problem = "is no setting by itself; KAFKA_CLIENT_REQUEST_TIMEOUT_MS is one of the many"
        raise ValueError(problem)
    return value


class ConnectionSettings(BaseSettings):
    """Part of Settings."""

    kafka_bootstrap_servers: Annotated[str, AfterValidator(_brokers)] = Field(
        default="localhost:9094", description="the brokers, host:port with commas between"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_ssl_ca_location: _File = Field(
        default=None, description="PEM file of the authorities to trust; unset: system's"
    )
    kafka_ssl_certificate_location: _File = Field(
        default=None, description="PEM file of our own certificate, for brokers that ask for one"
    )
    kafka_ssl_key_location: _File = Field(
        default=None, description="PEM file of its private key; unset: the certificate's file"
    )
    kafka_ssl_key_password: SecretStr = Field(default=SecretStr(""), description="the key's password, never logged")
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        default="", description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
    )
    kafka_sasl_username: str = Field(default="", description="user name for PLAIN and SCRAM")
    kafka_sasl_password: SecretStr = Field(default=SecretStr(""), description="password for them, never logged")
    kafka_sasl_oauthbearer_token_endpoint_url: str = Field(
        default="", description="for OAUTHBEARER: where the OAuth server gives tokens"
    )
    kafka_sasl_oauthbearer_client_id: str = Field(default="", description="our id there")
    kafka_sasl_oauthbearer_client_secret: SecretStr = Field(
        default=SecretStr(""), description="our secret there, never logged"
    )
    kafka_sasl_oauthbearer_scope: str = Field(default="", description="the scope to ask for")
    kafka_sasl_oauthbearer_extensions: str = Field(
        default="", description="what brokers ask for beside a token: name=value with commas between"
    )
    kafka_https_ca_location: _File = Field(
        default=None, description="PEM file of the authorities to trust for the OAuth server; unset: system's"
    )

    kafka_client: Annotated[dict[str, str], NoDecode, BeforeValidator(_no_text)] = Field(
        default={}, description="further options of the client, KAFKA_CLIENT_<OPTION> each, with _ for its dots"
    )

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
        return *usual, client_options.ClientOptions(settings_cls, usual)

    @model_validator(mode="after")
    def _connection_is_whole(self) -> Self:
        unfit = client_options.problems(self.kafka_client)
        if problems := [*self._missing(), *self._without_a_file(), *unfit]:
            raise ValueError("; ".join(problems))
        return self

    def _missing(self) -> Iterator[str]:
        if self.kafka_security_protocol.startswith("SASL"):
            needed = "kafka_sasl_mechanism", *(_OAUTH if self.kafka_sasl_mechanism == "OAUTHBEARER" else _PASSWORD)
            if not all(getattr(self, name) for name in needed):
                *names, last = map(str.upper, needed)
                asked = f"{self.kafka_security_protocol} asks for {', '.join(names)} and {last}"
                yield f"KAFKA_SECURITY_PROTOCOL: {asked}"

    def _without_a_file(self) -> Iterator[str]:
        for name in _HANDED_ON:
            path = getattr(self, name)
            if isinstance(path, Path) and not path.is_file():
                yield f"{name.upper()}: there is no file {str(path)!r}"

    def connection_config(self) -> dict[str, Any]:
        """Return the settings as librdkafka's; it holds the secrets."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            # as librdkafka writes it: it compares by the locale, and in Turkish i is no small I
            "security.protocol": self.kafka_security_protocol.lower(),
        }
        for name in _HANDED_ON:
            if value := getattr(self, name):
                shown = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                config[name.removeprefix("kafka_").replace("_", ".")] = shown
        if certificate := config.get("ssl.certificate.location"):
            config.setdefault("ssl.key.location", certificate)
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            config["sasl.oauthbearer.method"] = "oidc"
            config.setdefault("https.ca.location", "probe")  # by itself it looks where one distribution keeps them
        return config
