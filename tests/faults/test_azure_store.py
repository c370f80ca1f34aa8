"""Tables in Azure's store, against Azurite, which is installed once by npm and kept beside the jars."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from stream_app.errors import ConfigError
from stream_app.ops.views import database
from stream_app.settings import PROJECT
from stream_app.sinks.table_tidy import Tidying
from stream_app.storage.row_counts import read_parquet
from stream_app.storage.tables.delta import Delta
from stream_app.storage.tables.delta_statistics import statistics
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.places import place_of
from tests.helpers import app_settings
from tests.ports import free_port
from tests.service.harness import wait_for
from tests.store_servers import FLAKY, LOST, WELL, Proxy, _listens
from tests.tables import COLUMNS, OWNER, mark, numbered

_FOLDER = PROJECT / ".jars" / "azurite-3.37.0"
_PROGRAM = _FOLDER / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
_VERSION = "2021-08-06"
ACCOUNT, KEY, OTHER = "tester", base64.b64encode(b"never shown").decode(), base64.b64encode(b"wrong").decode()
BATCHES = 6


@pytest.fixture(scope="module")
def azurite() -> Path:
    """The program."""
    if not _PROGRAM.exists():
        if not shutil.which("npm"):
            pytest.skip("azurite is installed by npm, which is not here")
        made = _FOLDER.with_suffix(f".{os.getpid()}")
        made.mkdir(parents=True)
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", "azurite@3.37.0"]
        subprocess.run(command, cwd=made, check=True, timeout=1500)
        made.rename(_FOLDER)
    return _PROGRAM


@dataclass
class Azurite:
    """A server that listens, and how a service is told of its account."""

    port: int

    def place(self, folder: Path, container: str, key: str = KEY, port: int = 0) -> Place:
        """The place of one table, reached at that port, of a proxy, or its own."""
        settings = app_settings(
            folder,
            delta_path=f"az://{container}/lake",
            azure_storage_account=ACCOUNT,
            azure_storage_key=key,
            azure_storage_endpoint=f"http://127.0.0.1:{port or self.port}/{ACCOUNT}",
            aws_allow_http="1",
        )
        return place_of(settings.tables, "t", folder / "_staging")

    def make(self, container: str) -> None:
        """Make an empty container. Its request is signed as Azure's documentation says."""
        date = formatdate(usegmt=True)
        path = f"/{ACCOUNT}/{container}"
        text = ["PUT", *[""] * 11, f"x-ms-date:{date}", f"x-ms-version:{_VERSION}", f"/{ACCOUNT}{path}"]
        signed = hmac.new(base64.b64decode(KEY), "\n".join([*text, "restype:container"]).encode(), hashlib.sha256)
        signature = f"SharedKey {ACCOUNT}:{base64.b64encode(signed.digest()).decode()}"
        headers = {"x-ms-date": date, "x-ms-version": _VERSION, "Authorization": signature, "Content-Length": "0"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("PUT", f"{path}?restype=container", headers=headers)
        assert connection.getresponse().status == 201
        connection.close()


@pytest.fixture
def server(azurite: Path, tmp_path: Path) -> Iterator[Azurite]:
    port = free_port()
    command = ["node", str(azurite), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent"]
    more = ["--skipApiVersionCheck", "--disableTelemetry", "--location", str(tmp_path / "azurite")]
    environment = os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
    process = subprocess.Popen([*command, *more], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: process.poll() is not None or _listens(port), "Azurite")
        made = Azurite(port)
        made.make("data")
        yield made
    finally:
        process.kill()
        process.wait()


def numbers(place: Place) -> list[int]:
    """What deltalake alone finds in the table."""
    table = DeltaTable(place.location, storage_options=dict(place.options))
    return sorted(pa.table(table.scan(columns=["number"]).read_all())["number"].to_pylist())


@pytest.mark.proves("A Delta table has each batch exactly once")
def test_a_table_in_azure_has_each_batch_once_whatever_the_store_answers(server: Azurite, tmp_path: Path) -> None:
    direct = server.place(tmp_path, "data")
    direct.probe()
    with Proxy(server.port).running() as proxy:
        place = server.place(tmp_path, "data", port=proxy.port)
        one, other = Delta(place), Delta(place)
        one.create(COLUMNS, (), OWNER, 168)
        other.refresh()
        for batch in range(BATCHES):
            proxy.mood = (WELL, FLAKY, LOST)[batch % 3]
            for table in (one, other) if batch % 2 else (other, one):  # as a service and one that takes it over
                table.commit(mark(batch), [numbered(table, batch, batch)])
        assert proxy.faults["lost"] > 0
        assert proxy.faults["503"] + proxy.faults["500"] + proxy.faults["dropped"] > 0
    assert numbers(direct) == [*range(BATCHES)]
    table = Delta(direct)
    assert [one.batch for one in table.versions() if one.batch is not None] == [*reversed(range(BATCHES))]
    Tidying("transactions.x", table, cast("Any", None), 2, statistics).once()
    assert (numbers(direct), len(table.live())) == ([*range(BATCHES)], 2)
    table.vacuum(0, orphans=True)
    with database() as connection:
        direct.attach(connection)
        urls = [direct.source(file.path, Path) for file in table.live()]
        assert connection.sql(f"SELECT count(*) FROM {read_parquet(urls)}").fetchall() == [(BATCHES,)]


def test_what_azure_refuses_is_one_line(server: Azurite, tmp_path: Path) -> None:
    for place, said in (
        (server.place(tmp_path, "data", OTHER), "/data/lake/t/race-[0-9]: 403 AuthorizationFailure: .*credentials"),
        (
            server.place(tmp_path, "none"),
            "/none/lake/t/race-[0-9]: 404 ContainerNotFound: .*; make it, or name another",
        ),
    ):
        with pytest.raises(ConfigError, match=rf"^DELTA_PATH: az://(data|none)/lake/t: PUT http://\S+{said}") as raised:
            place.probe()
        assert "\n" not in str(raised.value)
        assert OTHER not in str(raised.value)
        assert KEY not in str(raised.value)
