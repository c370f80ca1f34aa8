from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.ports import any_free
from stream_app.settings import PROJECT
from tests.helpers import UNUSUAL
from tests.service.harness import Service, jvm_options, transaction
from tests.service.servers import Database, KafkaBroker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """One broker for all tests; each has topics of its own."""
    kafka = KafkaBroker(tmp_path_factory.mktemp("broker"), any_free())
    kafka.start()
    yield kafka
    kafka.stop()


@pytest.fixture(scope="session")
def class_archive(broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The JVM's classes, kept by a first run, so that a hundred starts are some seconds shorter each.

    Of two workers the first makes it for both; a JVM that does not find it does without.
    """
    worker, folder = os.environ.get("PYTEST_XDIST_WORKER"), tmp_path_factory.getbasetemp()
    archive = (folder.parent if worker else folder) / "classes.jsa"
    if worker in {None, "gw0"}:
        yield from _made(archive, broker, tmp_path_factory.mktemp("classes"))
    else:
        yield archive


def _made(archive: Path, broker: KafkaBroker, folder: Path) -> Iterator[Path]:
    partial = archive.with_suffix(".partial")
    broker.create_topic("transactions")
    broker.send("transactions", [transaction(i, time.time() - 3600 + i) for i in range(1000)])
    keep = jvm_options(folder, f"-XX:ArchiveClassesAtExit={partial}")
    first = Service(folder / "output", PROJECT / "conf" / "feeds", broker.address, keep)
    try:
        first.drain()
        partial.replace(archive)
        yield archive
    finally:
        first.kill()
        archive.unlink(missing_ok=True)


@pytest.fixture
def database() -> Iterator[Database]:
    """A database of the test's own. Started by root it belongs to another user, who must get to its folder."""
    folder = Path(tempfile.mkdtemp(prefix="database-"))
    folder.chmod(0o755)
    server = Database(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


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
        environment |= jvm_options(folder, f"-XX:SharedArchiveFile={class_archive}")
        made.append(Service(folder / UNUSUAL, feeds, kafka.address, environment, feed))
        return made[-1]

    yield make
    for service in made:
        service.kill()


@pytest.fixture
def service(broker: KafkaBroker, new_service: Callable[..., Service]) -> Service:
    """A service on a topic of its own, not started."""
    return new_service(broker)
