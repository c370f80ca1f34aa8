"""What librdkafka says of a login becomes one line that names the setting; what passes is told from what does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from stream_app.errors import StreamAppError, UnavailableError
from stream_app.kafka.connection import KafkaConnection
from stream_app.kafka.refusal import refusal
from tests.helpers import app_settings

TOKEN = "Failed to acquire SASL OAUTHBEARER token: "
URL = "https://login.example/token"


def _connection(root: Path, *, by_token: bool) -> KafkaConnection:
    login = {"sasl_username": "app", "sasl_password": "x", "sasl_mechanism": "PLAIN"}
    if by_token:
        names = {"token_endpoint_url": URL, "client_id": "app", "client_secret": "x"}
        login = {f"sasl_oauthbearer_{name}": value for name, value in names.items()} | {"sasl_mechanism": "OAUTHBEARER"}
    given = {f"kafka_{name}": value for name, value in ({"security_protocol": "SASL_SSL"} | login).items()}
    return app_settings(root, kafka_bootstrap_servers="b:1", **given).kafka


@pytest.mark.parametrize(
    ("by_token", "code", "said", "kind", "told"),
    [
        (True, KafkaError._AUTHENTICATION, f'{TOKEN}{{"error":\n"invalid_client"}}', StreamAppError, URL),
        (True, KafkaError._AUTHENTICATION, f"{TOKEN}Could not resolve host: x", UnavailableError, URL),
        (True, KafkaError._AUTHENTICATION, f"{TOKEN}Must supply an unexpired token", StreamAppError, URL),
        (True, KafkaError._AUTHENTICATION, '{"status":"invalid_token"}', UnavailableError, "KAFKA_SASL_OAUTHBEARER_*"),
        (False, KafkaError._AUTHENTICATION, "Authentication failed", StreamAppError, "KAFKA_SASL_USERNAME, _PASSWORD"),
        (False, KafkaError._TRANSPORT, "SSL alert number 42", StreamAppError, "KAFKA_SSL_CERTIFICATE_LOCATION"),
        (False, KafkaError._SSL, "certificate verify failed", StreamAppError, "KAFKA_SSL_CA_LOCATION"),
    ],
)
def test_a_refusal_is_one_line_and_what_passes_is_waited_for(
    by_token: bool, code: int, said: str, kind: type[StreamAppError], told: str, tmp_path: Path
) -> None:
    found = refusal(_connection(tmp_path, by_token=by_token), KafkaError(code, said))
    assert type(found) is kind
    assert told in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT])
def test_a_broker_that_is_away_refuses_nothing(code: int, tmp_path: Path) -> None:
    assert refusal(_connection(tmp_path, by_token=True), KafkaError(code, "Connection refused")) is None
