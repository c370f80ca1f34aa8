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

import pytest

from stream_app.runtime import submit
from stream_app.settings import PROJECT
from tests.api_process import ApiProcess
from tests.helpers import UNUSUAL
from tests.ports import free_port
from tests.service.harness import NO_UI, Service, jvm_options, quick, taken_from, transaction
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
    processes of tests the first makes it for all: by the run that many tests share (drained.py), or else by this one.
    """
    archive = class_archive_path()
    if _makes(archive):
        with class_option(archive) as option:
            _first_run(option, broker, tmp_path_factory.mktemp("classes"))
    return archive


def class_archive_path() -> Path:
    """Where the archive is, or is to be."""
    return PROJECT / ".jars" / f"tests-{_digest()}.jsa"


@contextmanager
def class_option(archive: Path) -> Iterator[str]:
    """The option of Java that takes the classes from the archive, or has the run that is within keep them there."""
    if not _makes(archive):
        yield taken_from(archive)
        return
    partial = archive.with_suffix(f".{os.getpid()}")
    try:
        yield f"-XX:ArchiveClassesAtExit={partial}"
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)


def _makes(archive: Path) -> bool:
    """Whether it is up to this process to make the archive."""
    return not archive.exists() and os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"


def _digest() -> str:
    """What the archive depends on: Java itself names the rest of it where it does not fit."""
    java = subprocess.run(["java", "-version"], capture_output=True, check=True).stderr
    found = [f"{jar} {jar.stat().st_mtime_ns} {jar.stat().st_size}" for jar in submit.class_path()]
    return hashlib.sha256(java + "\n".join(found).encode()).hexdigest()[:16]


def _first_run(option: str, broker: KafkaBroker, folder: Path) -> None:
    broker.create_topic("classes")
    broker.send("classes", [transaction(i, time.time() - 3600 + i) for i in range(1000)])
    (feeds := folder / "feeds").mkdir()
    declared = (PROJECT / "conf" / "feeds" / "transactions.toml").read_text()
    (feeds / "transactions.toml").write_text(declared.replace('topic = "transactions"', 'topic = "classes"'))
    first = Service(folder / "output", feeds, broker.address, jvm_options(folder, option, NO_UI))
    try:
        first.drain()
    finally:
        first.kill()


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


@pytest.fixture
def api(service: Service) -> Iterator[ApiProcess]:
    """The API beside the service, not started."""
    temporary = service.root.parent / "api"
    temporary.mkdir()  # for what kill -9 leaves
    api = ApiProcess(service.root, {"FEEDS_PATH": str(service.feeds_path), "TMPDIR": str(temporary)})
    yield api
    if api.process:
        api.end()
