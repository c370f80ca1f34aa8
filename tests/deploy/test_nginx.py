"""nginx before the API: events come one by one, who has an answer is told so, and who asks too often is refused."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from stream_app.settings import PROJECT
from tests.api_process import ApiProcess, Follower
from tests.helpers import at, value, wait_until
from tests.outputs import Output, Record
from tests.ports import free_port
from tests.unit.served import MINUTES, filled


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return filled(tmp_path / "out")


@pytest.fixture
def url(output: Output, tmp_path: Path) -> Iterator[str]:
    """Where nginx answers, with the API behind it."""
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.fail("make deploy-test: nginx is needed; install it, on Debian with: apt-get install nginx-light")
    api, port = ApiProcess(output.root), free_port()
    api.start()
    shutil.copytree(PROJECT / "deploy" / "nginx", tmp_path / "nginx")
    config = tmp_path / "nginx" / "nginx.conf"
    text = config.read_text()
    config.write_text(text.replace("127.0.0.1:5000", f"127.0.0.1:{api.port}").replace(":8088", f":{port}"))
    (tmp_path / "data" / "run").mkdir(parents=True)
    command = [nginx, "-p", str(tmp_path), "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        found = f"http://127.0.0.1:{port}"
        wait_until(lambda: status(found) == 200)
        yield found
        assert api.end() == 0
        wait_until(lambda: status(found) == 502)
        said = asked(found)
        assert said.headers["Content-Type"] == "application/problem+json"
        assert json.loads(said.read())["status"] == 502
        process.terminate()


def status(url: str, **headers: str) -> int:
    try:
        with asked(url, **headers) as answer:
            return int(answer.status or 0)
    except OSError:
        return 0


def asked(url: str, **headers: str) -> http.client.HTTPResponse | urllib.error.HTTPError:
    try:
        request = urllib.request.Request(f"{url}/api/feeds", headers=headers)  # noqa: S310 - our own
        return urllib.request.urlopen(request, timeout=10)  # type: ignore[no-any-return]  # noqa: S310 - as above
    except urllib.error.HTTPError as error:
        return error


def test_events_come_one_by_one(url: str, output: Output) -> None:
    follower = Follower(f"{url}/api/events")
    threading.Thread(target=follower.run, daemon=True).start()
    wait_until(lambda: follower.last_id)
    for number in range(2):
        output.take([Record(value(900 + number, 800 + number), at(800 + number))], at(805 + number))
        wait_until(partial(_has_heard, follower, number + 1), 30)
    follower.ended.set()
    assert follower.streams == 1


def _has_heard(follower: Follower, batches: int) -> bool:
    return len(follower.of("batch", "raw_csv")) == batches


def test_a_compressed_answer_has_a_tag_that_gives_304(url: str) -> None:
    asked = f"{url}/api/feeds/transactions/silver?limit=24"
    request = urllib.request.Request(asked, headers={"Accept-Encoding": "gzip"})  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
        assert answer.headers["Content-Encoding"] == "gzip"
        tag = answer.headers["ETag"]
    again = urllib.request.Request(asked, headers={"Accept-Encoding": "gzip", "If-None-Match": tag})  # noqa: S310 - our own
    with pytest.raises(urllib.error.HTTPError, match="304"):
        urllib.request.urlopen(again, timeout=10)  # noqa: S310 - as above


def test_a_replay_through_it_is_of_the_same_origin_and_metrics_stay_inside(url: str) -> None:
    sent = urllib.request.Request(  # noqa: S310 - our own
        f"{url}/api/replay/preview",
        json.dumps({"feed": "transactions"}).encode(),
        {"Content-Type": "application/json", "Origin": url},
    )
    with urllib.request.urlopen(sent, timeout=30) as answer:  # noqa: S310 - as above
        assert json.loads(answer.read())["failing"] == {"not_allowed:currency": MINUTES}
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/metrics", timeout=10)  # noqa: S310 - our own
    assert status(url, Host="evil.example") == 421


def test_who_asks_too_often_is_refused_for_a_moment(url: str) -> None:
    found = {status(url) for _ in range(600)}
    assert found <= {200, 429}
    wait_until(lambda: status(url) == 200)
