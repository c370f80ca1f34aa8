"""Kafka over SASL_SSL with SCRAM, for producer and service; the password shows nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from stream_app.settings import PROJECT
from tests.ports import free_port
from tests.service.harness import Service, wait_for
from tests.service.servers import KafkaBroker

PASSWORD = "correct; horse battery"
JARS = f"{PROJECT}/.jars/kafka/*"


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a broker with TLS and SCRAM made for this test, and the settings of its clients."""
    port, controller = free_port(), free_port()
    store, ca = tmp_path / "broker.p12", tmp_path / "ca.pem"
    keytool = ["keytool", "-keystore", str(store), "-storetype", "PKCS12", "-storepass", "changeit", "-alias", "b"]
    name = ["-dname", "CN=localhost", "-ext", "san=dns:localhost,ip:127.0.0.1"]
    subprocess.run([*keytool, "-genkeypair", "-keyalg", "RSA", "-validity", "2", *name], check=True)
    subprocess.run([*keytool, "-exportcert", "-rfc", "-file", str(ca)], check=True)
    properties = tmp_path / "server.properties"
    properties.write_text(f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_SSL://localhost:{port}
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule \
required username="broker" password="b";
ssl.keystore.type=PKCS12
ssl.keystore.location={store}
ssl.keystore.password=changeit
ssl.truststore.type=PEM
ssl.truststore.location={ca}
offsets.topic.replication.factor=1
log.dirs={tmp_path / "kafka"}
""")
    java = ["java", "-Xmx512m", "-cp", JARS]
    scram = ["--add-scram", "SCRAM-SHA-512=[name=broker,password=b]"]
    scram += ["--add-scram", f"SCRAM-SHA-512=[name=app,password={PASSWORD}]"]
    storage = [*java, "kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(properties)]
    subprocess.run([*storage, *scram], check=True, capture_output=True)
    with (tmp_path / "kafka.log").open("wb") as log:
        kafka = subprocess.Popen([*java, "kafka.Kafka", str(properties)], stdout=log, stderr=log)
    settings = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "app",
        "KAFKA_SASL_PASSWORD": PASSWORD,
        "KAFKA_SSL_CA_LOCATION": str(ca),
    }
    yield f"localhost:{port}", settings
    kafka.kill()
    kafka.wait()


def test_scram_over_tls(secure: tuple[str, dict[str, str]], new_service: Callable[..., Service]) -> None:
    address, settings = secure
    service = new_service(KafkaBroker(Path(), int(address.rsplit(":", 1)[1])), topic="secure", **settings)
    admin = AdminClient(
        {
            "bootstrap.servers": address,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "app",
            "sasl.password": PASSWORD,
            "ssl.ca.location": settings["KAFKA_SSL_CA_LOCATION"],
            "log_level": 0,
        }
    )
    wait_for(lambda: _answers(admin), "the broker", 60)
    admin.create_topics([NewTopic("secure", 3, 1)])["secure"].result()
    producer = subprocess.run(
        [sys.executable, "-m", "producer"],
        cwd=PROJECT,
        env=os.environ | settings | {"KAFKA_BOOTSTRAP_SERVERS": address, "KAFKA_TOPIC": "secure", "COUNT": "500"},
        capture_output=True,
        text=True,
        check=True,
    )
    ui = free_port()
    service.environment["SPARK_SUBMIT_OPTS"] += f" -Dspark.ui.port={ui}"
    service.start()
    wait_for(lambda: service.count("silver") > 0, "the records")
    command_lines = list(_command_lines(service))
    assert any("SparkSubmit" in line for line in command_lines)
    pages = list(_spark_ui(f"http://127.0.0.1:{ui}"))
    assert any("transactions.bronze" in page for page in pages)
    log = service.stop()
    assert service.count("bronze") == 500
    for shown in (*command_lines, *pages, log, producer.stdout, producer.stderr):
        assert "battery" not in shown

    settings["KAFKA_SASL_PASSWORD"] = service.environment["KAFKA_SASL_PASSWORD"] = "wrong battery"
    assert "battery" not in service.op("status")
    service.start()
    wait_for(lambda: "localhost" in service.log.read_text()[len(log) :], "the service to be refused")
    said = service.stop()[len(log) :]
    assert "does not let us in" in said, said
    refused = subprocess.Popen(
        [sys.executable, "-m", "producer"],
        cwd=PROJECT,
        env=os.environ | settings | {"KAFKA_BOOTSTRAP_SERVERS": address, "KAFKA_TOPIC": "secure", "COUNT": "1"},
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
    assert "battery" not in told + said


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
