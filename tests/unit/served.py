"""The API over a whole output of transactions, asked as a client asks it, in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi.testclient import TestClient

from stream_app.api.app import application
from stream_app.api.settings import ApiSettings, load_api_settings
from stream_app.feeds.load import load_feeds
from stream_app.settings import PROJECT
from stream_app.sinks.registry import check
from tests.helpers import app_settings, at, value
from tests.outputs import Output, Record

MINUTES = 12
HERE = "http://127.0.0.1:5000"


def filled(root: Path, folder: Path = PROJECT / "conf" / "feeds") -> Output:
    """Twelve minutes of transactions, as that folder declares them: two valid and one refused a minute."""
    (feed,) = load_feeds(folder, ["transactions"], check)
    output = Output(feed, root)
    for minute in range(MINUTES):
        seconds = 60 * minute
        good = [value(10 * minute + i, seconds, amount=minute + (i + 0.5) / 10, status=_STATUS[i]) for i in range(2)]
        bad = value(10 * minute + 9, seconds, currency="XXX")
        output.take(
            [Record(one, at(seconds + i), partition=i % 2) for i, one in enumerate([*good, bad])], at(seconds + 5)
        )
    return output


_STATUS = ("approved", "declined")


def own(**settings: Any) -> ApiSettings:
    """The API's settings, whatever .env says."""
    return load_api_settings(_env_file=None, **settings)


@contextmanager
def served(root: Path, **settings: Any) -> Iterator[TestClient]:
    """A client of the API over that output."""
    made = app_settings(root, **settings.pop("service", {}))
    with TestClient(application(made, own(**settings)), base_url=HERE) as client:
        yield client


def rows(client: TestClient, path: str, **parameters: Any) -> list[dict[str, Any]]:
    """All rows of a dataset, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        answer = client.get(f"/api/feeds/transactions/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        told = json.loads(answer.text)
        found += told["rows"]
        if told["next"] is None:
            return found
        parameters["cursor"] = told["next"]


def merge(output: Output, last: int) -> None:
    """The files of the batches up to one become one, as by retention."""
    flow = output.flows["silver"]
    files = [file for file in flow.files() if file.last <= last]
    name = files[0].path.name.rpartition("_")[0]
    pq.write_table(
        pa.concat_tables([pq.read_table(file.path) for file in files]),
        flow.layout.output / f"{name}_{files[0].first:010d}-{files[-1].last:010d}.parquet",
    )
    for file in files:
        file.path.unlink()
