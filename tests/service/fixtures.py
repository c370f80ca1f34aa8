"""What the tests of the whole service share: one broker, one database server and one archive of classes a process."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark
import pytest

from stream_app.settings import PROJECT
from tests.helpers import UNUSUAL
from tests.ports import free_port
from tests.service.harness import Service, jvm_options, quick, transaction
from tests.service.servers import Database, DatabaseServer, KafkaBroker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """One broker for all tests; each has topics of its own."""
    kafka = KafkaBroker(tmp_path_factory.mktemp("broker"), free_port())
    kafka.start()
    yield kafka
    kafka.stop()


@contextmanager
def running_database_server() -> Iterator[DatabaseServer]:
    """A server of its own. Started by root it belongs to another user, who must get to its folder."""
    folder = Path(tempfile.mkdtemp(prefix="database-"))
    folder.chmod(0o755)
    server = DatabaseServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def database_server() -> Iterator[DatabaseServer]:
    """One server for all tests; each has a database of its own."""
    with running_database_server() as server:
        yield server


@pytest.fixture
def database(database_server: DatabaseServer) -> Database:
    """An empty database of the test's own."""
    return database_server.create()


@pytest.fixture(scope="session")
def class_archive(broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JVM's classes, kept by a first run, so that each start is some seconds shorter. A JVM can do without.

    It is for one Java, one checkout and one set of jars; `make setup` removes it with the jars. Of several
    processes of tests the first makes it for all.
    """
    archive = PROJECT / ".jars" / f"tests-{_digest()}.jsa"
    if not archive.exists() and os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        _keep_classes(archive, broker, tmp_path_factory.mktemp("classes"))
    return archive


def _digest() -> str:
    """What the archive depends on: Java itself names the rest of it where it does not fit."""
    java = subprocess.run(["java", "-version"], capture_output=True, check=True).stderr
    jars = [*(PROJECT / ".jars" / "spark").iterdir(), *(Path(pyspark.__file__).parent / "jars").iterdir()]
    found = [f"{jar} {jar.stat().st_mtime_ns} {jar.stat().st_size}" for jar in sorted(jars)]
    return hashlib.sha256(java + "\n".join(found).encode()).hexdigest()[:16]


def _keep_classes(archive: Path, broker: KafkaBroker, folder: Path) -> None:
    partial = archive.with_suffix(f".{os.getpid()}")
    broker.create_topic("classes")
    broker.send("classes", [transaction(i, time.time() - 3600 + i) for i in range(1000)])
    (feeds := folder / "feeds").mkdir()
    declared = (PROJECT / "conf" / "feeds" / "transactions.toml").read_text()
    (feeds / "transactions.toml").write_text(declared.replace('topic = "transactions"', 'topic = "classes"'))
    keep = jvm_options(folder, f"-XX:ArchiveClassesAtExit={partial}")
    first = Service(folder / "output", feeds, broker.address, keep)
    try:
        first.drain()
        partial.replace(archive)
    finally:
        first.kill()
        partial.unlink(missing_ok=True)


@pytest.fixture
def new_service(tmp_path: Path, class_archive: Path) -> Iterator[Callable[..., Service]]:
    """A function that makes services on new topics and folders; what still runs at the end of the test is killed."""
    made: list[Service] = []

    def make(kafka: KafkaBroker, topic: str = "", feed: str = "transactions", **environment: str) -> Service:
        folder = tmp_path / str(len(made))
        feeds = folder / "feeds"
        feeds.mkdir(parents=True)
        if not topic:
            topic = f"{feed}-{uuid.uuid4().hex[:8]}"
            kafka.create_topic(topic)
        declared = (PROJECT / "conf" / "feeds" / f"{feed}.toml").read_text()
        declared = declared.replace(f'topic = "{feed}"', f'topic = "{topic}"')
        if (written := 'topic = "enriched_activity"') in declared:  # what it writes is its own, too
            kafka.create_topic(f"{topic}-enriched")
            declared = declared.replace(written, f'topic = "{topic}-enriched"')
        feeds.joinpath(f"{feed}.toml").write_text(declared)
        environment |= quick(folder, class_archive)
        made.append(Service(folder / UNUSUAL, feeds, kafka.address, environment, feed))
        return made[-1]

    yield make
    for service in made:
        service.kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def service(broker: KafkaBroker, new_service: Callable[..., Service]) -> Service:
    """A service on a topic of its own, not started."""
    return new_service(broker)
