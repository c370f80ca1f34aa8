"""Kafka by password, by client certificate and by OAuth token, for producer and service; no secret shows anywhere."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from stream_app.errors import StreamAppError
from stream_app.kafka.broker import Broker
from stream_app.kafka.client import client_config
from stream_app.kafka.connection import KafkaConnection
from stream_app.settings import PROJECT, load_settings
from tests.authority import Authority
from tests.helpers import Deadline
from tests.ports import free_port
from tests.service import secure
from tests.service.harness import Service, ui_at, wait_for
from tests.service.secure import SecureBroker, secure_broker
from tests.service.servers import KafkaBroker

SECRET = "battery"
"""In every secret that there is."""


@pytest.fixture(scope="module")
def secured() -> Iterator[SecureBroker]:
    with tempfile.TemporaryDirectory() as folder, secure_broker(Path(folder)) as made:
        yield made


@dataclass(frozen=True)
class Client:
    """Settings that a broker lets in, and others that it does not."""

    port: int
    settings: dict[str, str]
    refused: dict[str, str]
    told: str
    """What the service says of the others."""

    @property
    def client_id(self) -> str:
        """What both clients of the service are told to call themselves."""
        return f"a client of port {self.port}"

    @property
    def producer_id(self) -> str:
        """What the producer's is told."""
        return f"a producer of port {self.port}"


def by_password(broker: SecureBroker) -> Client:
    settings = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SSL_CA_LOCATION": str(broker.authority.location),
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": secure.SCRAM_USER,
        "KAFKA_SASL_PASSWORD": secure.SCRAM_PASSWORD,
    }
    return Client(broker.scram_port, settings, {"KAFKA_SASL_PASSWORD": "wrong battery"}, "does not let us in")


def by_certificate(broker: SecureBroker) -> Client:
    certificate, key = broker.authority.issue("stream-app", password=secure.KEY_PASSWORD)
    stranger, its_key = Authority(broker.folder, "another-authority").issue("stranger")
    settings = {
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_SSL_CA_LOCATION": str(broker.authority.location),
        "KAFKA_SSL_CERTIFICATE_LOCATION": str(certificate),
        "KAFKA_SSL_KEY_LOCATION": str(key),
        "KAFKA_SSL_KEY_PASSWORD": secure.KEY_PASSWORD,
    }
    refused = {"KAFKA_SSL_CERTIFICATE_LOCATION": str(stranger), "KAFKA_SSL_KEY_LOCATION": str(its_key)}
    return Client(broker.certificate_port, settings, refused, "does not let us in")


def by_token(broker: SecureBroker) -> Client:
    settings = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SSL_CA_LOCATION": str(broker.authority.location),
        "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": broker.tokens.url,
        "KAFKA_SASL_OAUTHBEARER_CLIENT_ID": secure.OAUTH_ID,
        "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": secure.OAUTH_SECRET,
        "KAFKA_SASL_OAUTHBEARER_SCOPE": secure.OAUTH_SCOPE,
        "KAFKA_SASL_OAUTHBEARER_EXTENSIONS": "tenant=a b",
        "KAFKA_HTTPS_CA_LOCATION": str(broker.authority.location),
    }
    wrong = {"KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": "wrong battery"}
    return Client(broker.oauth_port, settings, wrong, "gives us no token")


@pytest.mark.faults
@pytest.mark.parametrize("client_of", [by_password, by_certificate, by_token])
def test_service_and_producer_are_let_in_and_show_no_secret(
    client_of: Callable[[SecureBroker], Client], secured: SecureBroker, new_service: Callable[..., Service]
) -> None:
    client, topic = client_of(secured), client_of.__name__
    client.settings["KAFKA_CLIENT_CLIENT_ID"] = client.client_id
    service = new_service(KafkaBroker(Path(), client.port), topic=topic, **client.settings)
    _make_topic(client, topic)
    producer = _produce(client, topic)
    assert "confluent-kafka-python" in _clients(secured, client.producer_id)
    ui = free_port()
    service.environment["SPARK_SUBMIT_OPTS"] = ui_at(service, ui)
    service.start()
    wait_for(lambda: service.count("silver") > 0, "the records")
    if client_of is by_token:  # and go on being let in when tokens have expired
        given = len(secured.tokens.askers)
        wait_for(lambda: _asked_by_both(secured.tokens.askers[given:]), "both clients' next tokens")
        secured.tokens.is_away = True
        wait_for(lambda: service.log.read_text().count("transactions.bronze failed") > 2, "a query that is tried again")
        secured.tokens.is_away = False
        _produce(client, topic)
        wait_for(lambda: service.count("bronze") == 1000, "the records that came later")
    assert _clients(secured, client.client_id) >= {"apache-kafka-java", "confluent-kafka-python"}
    command_lines = list(_command_lines(service))
    assert any("SparkSubmit" in line for line in command_lines)
    pages = list(_spark_ui(f"http://127.0.0.1:{ui}"))
    assert any("transactions.bronze" in page for page in pages)
    log = service.stop()
    assert "failures=1" not in log  # an OAuth server that is away is waited for
    assert service.count("bronze") == (1000 if client_of is by_token else 500)
    for shown in (*command_lines, *pages, log, producer):
        assert SECRET not in shown
        assert "PRIVATE KEY" not in shown

    service.environment |= client.refused
    assert SECRET not in service.op("status")
    service.start()
    wait_for(lambda: client.told in service.log.read_text()[len(log) :], "the service to be refused")
    said = service.stop()[len(log) :]
    assert "restarts" not in said  # it has not begun
    assert SECRET not in said


def _asked_by_both(askers: list[str]) -> bool:
    """Whether librdkafka, which names itself not, and Java's client have asked twice each."""
    by_java = sum(asker.startswith("Java") for asker in askers)
    return by_java >= 2 and len(askers) - by_java >= 2


def _clients(broker: SecureBroker, client_id: str) -> set[str]:
    """The libraries that have sent the broker requests by that name."""
    requests = [line for line in broker.log.splitlines() if f'"clientId":"{client_id}"' in line]
    return {name for line in requests for name in re.findall(r'"softwareName":"([^"]+)"', line)}


def test_each_way_to_be_refused_is_one_line_that_names_the_setting(secured: SecureBroker) -> None:
    password, certificate, token = by_password(secured), by_certificate(secured), by_token(secured)
    stranger = Authority(secured.folder, "unknown-authority").location
    expired, expired_key = secured.authority.issue("expired", valid=timedelta(hours=-1))
    expired_settings = {"KAFKA_SSL_CERTIFICATE_LOCATION": str(expired), "KAFKA_SSL_KEY_LOCATION": str(expired_key)}
    nowhere = {"KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": f"https://localhost:{free_port()}/token"}
    none = {name: "" for name in certificate.settings if "CERTIFICATE" in name or "KEY" in name}
    ways: Sequence[tuple[Client, dict[str, str], str]] = (
        (password, password.refused, "KAFKA_SASL_USERNAME, _PASSWORD: .* does not let us in .*uthentication failed"),
        (password, {"KAFKA_SSL_CA_LOCATION": str(stranger)}, "KAFKA_SSL_CA_LOCATION: .* is not to be trusted"),
        (certificate, certificate.refused, "KAFKA_SSL_CERTIFICATE_LOCATION: .* does not let us in .*bad certificate"),
        (certificate, none, "KAFKA_SSL_CERTIFICATE_LOCATION: .* does not let us in .*certificate"),
        (certificate, expired_settings, r"KAFKA_SSL_CERTIFICATE_LOCATION: .*expired\.pem expired at 20.*; renew it"),
        (token, token.refused, r"KAFKA_SASL_OAUTHBEARER_\*: https://.*/token gives us no token .*invalid_client"),
        (token, {"KAFKA_SASL_OAUTHBEARER_SCOPE": "another"}, r"KAFKA_SASL_OAUTHBEARER_\*: .*invalid_scope"),
        (token, nowhere, r"KAFKA_SASL_OAUTHBEARER_\*: .*Could not connect"),
        (token, {"KAFKA_HTTPS_CA_LOCATION": str(stranger)}, r"KAFKA_SASL_OAUTHBEARER_\*: .*certificate"),
    )
    with ThreadPoolExecutor(len(ways)) as at_once:
        for refused in [at_once.submit(_is_refused, *way) for way in ways]:
            refused.result()


def test_a_token_that_has_expired_is_told_in_one_line(secured: SecureBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secured.tokens, "lifetime", -60)
    _is_refused(by_token(secured), {}, r"KAFKA_SASL_OAUTHBEARER_\*: .*Must supply an unexpired token")


def _is_refused(client: Client, changed: dict[str, str], told: str) -> None:
    """Ask until the broker's answer is there, for longer each time: the question's time may be up before it comes."""
    seconds, deadline = itertools.count(1), Deadline(60)
    while True:
        with pytest.raises(StreamAppError) as error:
            Broker(_connection(client, changed), timeout_seconds=next(seconds)).topic("any")
        said = str(error.value)
        assert SECRET not in said
        assert "\n" not in said
        if re.match(told, said):
            return
        assert not deadline.has_passed(), f"waited in vain for: {told}; the last answer was: {said}"


def test_the_producer_says_why_it_is_refused(secured: SecureBroker) -> None:
    client = by_password(secured)
    refused = subprocess.Popen(
        [sys.executable, "-m", "producer"],
        cwd=PROJECT,
        env=_environment(client, client.refused) | {"KAFKA_TOPIC": "by_password", "COUNT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert refused.stdout
        told = next(line for line in refused.stdout if "waiting for the broker" in line and "uthenticat" in line)
    finally:
        refused.kill()
        refused.wait()
    assert SECRET not in told


def _environment(client: Client, changed: dict[str, str]) -> dict[str, str]:
    servers = {"KAFKA_BOOTSTRAP_SERVERS": f"localhost:{client.port}"}
    return os.environ | client.settings | servers | changed


def _connection(client: Client, changed: dict[str, str]) -> KafkaConnection:
    settings: dict[str, Any] = {name.lower(): value for name, value in (client.settings | changed).items() if value}
    return load_settings(_env_file=None, kafka_bootstrap_servers=f"localhost:{client.port}", **settings).kafka


def _make_topic(client: Client, topic: str) -> None:
    admin = AdminClient({**client_config(_connection(client, {})), "log_level": 0})
    wait_for(lambda: _answers(admin), "the broker", 60)
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result()


def _produce(client: Client, topic: str) -> str:
    """Send 500 records; what the producer says of it."""
    done = subprocess.run(
        [sys.executable, "-m", "producer"],
        cwd=PROJECT,
        env=_environment(client, {"KAFKA_TOPIC": topic, "COUNT": "500", "KAFKA_CLIENT_CLIENT_ID": client.producer_id}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout


def _command_lines(service: Service) -> Iterator[str]:
    """What `ps` shows of the service's processes."""
    assert service.process
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if os.getpgid(int(process.name)) == service.process.pid:
                yield (process / "cmdline").read_text()


def _spark_ui(address: str) -> Iterator[str]:
    """What the Spark UI and its REST API tell of settings, plans and queries."""
    application = json.loads(_get(f"{address}/api/v1/applications"))[0]["id"]
    of_it = f"api/v1/applications/{application}"
    for page in ("environment/", "StreamingQuery/", "SQL/", "jobs/", "executors/", f"{of_it}/environment"):
        yield _get(f"{address}/{page}")
    # The plans of all batches, with the options of their sources.
    yield _get(f"{address}/{of_it}/sql?details=true&planDescription=true&length=1000")


def _get(url: str) -> str:
    with urlopen(url, timeout=60) as answer:  # noqa: S310 - http, above
        return str(answer.read().decode())


def _answers(admin: AdminClient) -> bool:
    try:
        admin.list_topics(timeout=2)
    except Exception:
        return False
    return True
