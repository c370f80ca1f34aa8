"""nginx before the API: events come one by one, who has an answer is told so, and who asks too often is refused."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_app.settings import PROJECT
from tests.api_process import ApiProcess, Follower
from tests.deploy.test_prometheus import RULES
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
    with before_the_api(output, tmp_path) as (found, api):
        yield found
        assert api.end() == 0
        wait_until(lambda: status(found) == 502)
        said = asked(found)
        assert said.headers["Content-Type"] == "application/problem+json"
        assert json.loads(said.read())["status"] == 502


@pytest.fixture
def slow_url(output: Output, tmp_path: Path) -> Iterator[str]:
    """The same with limits that one request a second reaches: what is refused is not a matter of speed."""
    with before_the_api(output, tmp_path, per_second=1) as (found, api):
        yield found
        assert api.end() == 0


@contextmanager
def before_the_api(output: Output, folder: Path, per_second: int = 0) -> Iterator[tuple[str, ApiProcess]]:
    """Start both as shipped, or with that limit to how often an address asks; stop nginx at the end."""
    api, port = ApiProcess(output.root), free_port()
    api.start()
    config = copied(folder, "nginx.conf", {"127.0.0.1:5000": f"127.0.0.1:{api.port}", ":8088": f":{port}"})
    if per_second:
        shared = config.with_name("http.conf")
        text, limits = re.subn(r"rate=\d+r/s", f"rate={per_second}r/s", shared.read_text())
        assert limits == 2
        shared.write_text(text)
    found = f"http://127.0.0.1:{port}"
    with running(config, folder):
        wait_until(lambda: status(found) == 200)
        yield found, api


def copied(folder: Path, name: str, changes: Mapping[str, str]) -> Path:
    """Copy deploy/nginx, with these changes to one of its files; where that one is."""
    shutil.copytree(PROJECT / "deploy" / "nginx", folder / "nginx")
    (folder / "data" / "run").mkdir(parents=True)
    config = folder / "nginx" / name
    text = config.read_text()
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    config.write_text(text)
    return config


@contextmanager
def running(config: Path, folder: Path) -> Iterator[None]:
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.fail("make deploy-test: nginx is needed; install it, on Debian with: apt-get install nginx-light")
    with subprocess.Popen([nginx, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def status(url: str, path: str = "/api/feeds", **headers: str) -> int:
    try:
        with asked(url, path, **headers) as answer:
            return int(answer.status or 0)
    except OSError:
        return 0


def asked(url: str, path: str = "/api/feeds", **headers: str) -> http.client.HTTPResponse | urllib.error.HTTPError:
    try:
        request = urllib.request.Request(url + path, headers=headers)  # noqa: S310 - our own
        return urllib.request.urlopen(request, timeout=30)  # type: ignore[no-any-return]  # noqa: S310 - as above
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
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
        assert answer.headers["Content-Encoding"] == "gzip"
        tag = answer.headers["ETag"]
    again = urllib.request.Request(asked, headers={"Accept-Encoding": "gzip", "If-None-Match": tag})  # noqa: S310 - our own
    with pytest.raises(urllib.error.HTTPError, match="304"):
        urllib.request.urlopen(again, timeout=60)  # noqa: S310 - as above


def test_a_replay_through_it_is_of_the_same_origin_and_metrics_stay_inside(url: str) -> None:
    sent = urllib.request.Request(  # noqa: S310 - our own
        f"{url}/api/replay/preview",
        json.dumps({"feed": "transactions"}).encode(),
        {"Content-Type": "application/json", "Origin": url},
    )
    with urllib.request.urlopen(sent, timeout=30) as answer:  # noqa: S310 - as above
        assert json.loads(answer.read())["failing"] == {"not_allowed:currency": MINUTES}
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/metrics", timeout=60)  # noqa: S310 - our own
    assert status(url, Host="evil.example") == 421


@pytest.mark.parametrize("path", ["/api/feeds", "/api/events"])
def test_who_asks_too_often_is_refused_for_a_moment(slow_url: str, path: str) -> None:
    """A burst is let through; then it is 429, as the API says what is wrong, until it is asked less often."""

    def ask(_: int) -> tuple[int, dict[str, str], bytes]:
        with asked(slow_url, path) as answer:
            return answer.status or 0, dict(answer.headers), b"" if answer.status == 200 else answer.read()

    with ThreadPoolExecutor(4) as threads:
        answers = [*threads.map(ask, range(400))]
    refused = [answer for answer in answers if answer[0] != 200]
    assert len(answers) - len(refused) >= 190, "a burst of 200, less what was asked at the start"
    assert refused
    for code, headers, body in refused:
        assert code == json.loads(body)["status"] == 429
        assert headers["Content-Type"] == "application/problem+json"
        assert headers["Retry-After"] == "1"
    wait_until(lambda: status(slow_url, path) == 200)


def test_two_hundred_streams_and_their_return_are_not_refused(url: str) -> None:
    """Nor what else is asked from their address."""
    address = url.removeprefix("http://")
    for _ in range(2):
        with ExitStack() as streams:
            for _ in range(200):
                client = streams.enter_context(closing(http.client.HTTPConnection(address, timeout=30)))
                client.request("GET", "/api/events")
                answer = streams.enter_context(client.getresponse())
                assert answer.status == 200
            assert status(url) == 200
        time.sleep(2)  # as the API tells a client whose stream has ended


def test_its_own_numbers_are_those_that_the_rules_name(tmp_path: Path) -> None:
    changes = {
        "listen 8088": f"listen 127.0.0.1:{free_port()}",
        "listen 8089": f"listen 127.0.0.1:{(port := free_port())}",
    }
    config = copied(tmp_path, "container.conf", changes | {"/tmp/": f"{tmp_path}/"})  # noqa: S108 - the container's
    with running(config, tmp_path):
        wait_until(lambda: status(f"http://127.0.0.1:{port}", "/nginx") == 200)
        with asked(f"http://127.0.0.1:{port}", "/nginx") as said:
            families = text_string_to_metric_families(said.read().decode())
            names = {sample.name for family in families for sample in family.samples}
    named = {name for rule in RULES for name in re.findall(r"\bnginx_\w+", rule["expr"])}
    assert named
    assert named <= names
