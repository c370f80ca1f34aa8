"""Programs start in order, are watched, and stop in the reverse order, whatever happens."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from local import lock, process, run
from local.places import ROOT, Places
from local.process import Child, WhenDone, lock_path
from local.supervise import follow, supervise
from stream_app.errors import ConfigError
from tests.helpers import wait_until

FOREVER = "import time; time.sleep(600)"
ORDERLY = """
import pathlib, signal, sys, time
def stop(*_):
    with pathlib.Path("{journal}").open("a") as journal:
        journal.write("{name} ")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(600)
"""

TALKATIVE = """
import os, sys, time
print(*(f"line {n}" for n in range(200)), sep=chr(10), flush=True)
deadline = time.monotonic() + 300
while os.fstat(1).st_size and time.monotonic() < deadline:
    time.sleep(0.01)
print("end")
sys.exit(3)
"""


class Quiet:
    """A view that nobody looks at; it may hold a thing to do once all children are up."""

    quoted_lines = 2

    def __init__(self, then: Callable[[], None] | None = None, children: Sequence[Child] = ()) -> None:
        self._then = then
        self._children = children

    def look(self) -> None:
        """Do it once."""
        if self._then and all(child.last_lines(1) for child in self._children):
            then, self._then = self._then, None
            then()


def send(name: str) -> Callable[[], None]:
    """Send ourselves that signal."""
    return lambda: os.kill(os.getpid(), getattr(signal, name))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places(tmp_path)
    places.make()
    return places


def child(places: Places, code: str, name: str = "app", when_done: WhenDone = WhenDone.TROUBLE) -> Child:
    return Child(name, [sys.executable, "-c", code], places, patience=120, when_done=when_done)


def orderly(places: Places, name: str) -> Child:
    return child(places, ORDERLY.format(journal=places.data / "journal", name=name), name)


def once_up(places: Places, name: str, code: str) -> str:
    """Code that runs once another program has said that it is up: a signal before that ends it at once."""
    log = f"pathlib.Path({str(places.log(name))!r})"
    return f"import pathlib, time\nwhile not {log}.stat().st_size:\n    time.sleep(0.01)\n{code}"


def never() -> bool:
    return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_all_the_last_one_first(places: Places, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)  # also where nohup runs the tests
    children = [orderly(places, "broker"), orderly(places, "app"), orderly(places, "produce")]
    assert supervise(children, Quiet(send(name), children), never) == 0
    assert (places.data / "journal").read_text() == "produce app broker "
    assert not list(places.run.glob("*.pid"))


def test_the_end_of_the_time_stops_all(places: Places) -> None:
    started = orderly(places, "app")
    assert supervise([started], Quiet(), lambda: bool(started.last_lines(1))) == 0
    assert started.returncode == 0


def test_the_pid_file_holds_the_pid_that_stops_the_program(places: Places) -> None:
    started = orderly(places, "app")
    stop = Quiet(lambda: os.kill(int(places.pid_of("app")), signal.SIGTERM), [started])
    assert supervise([started], stop, never) == 0
    assert (places.data / "journal").read_text() == "app "


def test_one_that_dies_is_named_with_its_last_lines_and_the_others_stop(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    other = orderly(places, "broker")
    dying = child(places, once_up(places, "broker", "import sys; print('one\\ntwo\\nthree', flush=True); sys.exit(7)"))
    assert supervise([other, dying], Quiet(), never) == 1
    assert other.returncode == 0
    trouble = capsys.readouterr().err
    assert "app: ended by itself with exit 7; its log is" in trouble
    assert trouble.endswith("  app: two\n  app: three\n")


def test_one_that_is_killed_is_named_with_the_signal(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    assert supervise([child(places, "import os; os.kill(os.getpid(), 9)")], Quiet(), never) == 1
    assert "app: was killed by SIGKILL" in capsys.readouterr().err


def test_one_that_refuses_to_start_has_the_last_word(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    refusing = child(places, "import sys; sys.exit(print('OUTPUT_PATH: in use', file=sys.stderr) or 2)")
    assert supervise([orderly(places, "broker"), refusing], Quiet(), never) == 2
    assert capsys.readouterr().err == "OUTPUT_PATH: in use\n"


def test_a_producer_whose_count_is_reached_stops_nothing(places: Places) -> None:
    done = child(places, "", "produce", WhenDone.OTHERS_GO_ON)
    end, looks = places.data / "end", list[bool]()
    waits = f"end = pathlib.Path({str(end)!r})\nwhile not end.exists():\n    time.sleep(0.01)"
    app = child(places, once_up(places, "broker", waits), when_done=WhenDone.ALL_IS_DONE)

    def is_over() -> bool:
        """It never is; but the app ends once the end of the producer was looked at."""
        if any(looks):
            end.touch()
        looks.append(done.returncode is not None)
        return False

    assert supervise([orderly(places, "broker"), app, done], Quiet(), is_over) == 0
    assert (app.returncode, done.returncode) == (0, 0)


def test_an_app_that_should_have_stayed_up_is_trouble_even_if_it_ends_well(places: Places) -> None:
    assert supervise([orderly(places, "broker"), child(places, "")], Quiet(), never) == 1


def test_one_that_does_not_stop_is_killed_and_said_to_be(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    stubborn = Child("app", [sys.executable, "-c", deaf], places, patience=1)
    assert supervise([stubborn], Quiet(send("SIGTERM"), [stubborn]), never) == 1
    assert "app: killed: it did not stop within 1 s" in capsys.readouterr().err
    assert stubborn.returncode == -signal.SIGKILL


def test_a_second_of_the_same_name_is_refused_and_the_first_lives_on(places: Places) -> None:
    first = child(places, FOREVER)
    first.claim()
    first.start(threading.Event())
    with pytest.raises(ConfigError, match=rf"app already runs here, as process {first.pid}; stop it: kill {first.pid}"):
        supervise([child(places, FOREVER)], Quiet(), never)
    assert first.returncode is None
    first.stop(lambda: None)


def test_the_pid_file_of_a_dead_process_is_no_hindrance(places: Places) -> None:
    places.pid("app").write_text(f"{os.getpid()}\n")  # alive, but it does not hold the lock: the pid was used again
    again = child(places, FOREVER)
    again.claim()
    again.stop(lambda: None)


def test_a_wrapper_that_is_kill_9ed_takes_its_program_along_and_frees_the_name(places: Places) -> None:
    code = f"""
import threading, time
from pathlib import Path
from local.places import Places
from local.process import Child
child = Child("app", ["{sys.executable}", "-c", "{FOREVER}"], Places(Path("{places.data}")), 5)
child.claim()
child.start(threading.Event())
print(child.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as wrapper:
        assert wrapper.stdout
        pid = int(wrapper.stdout.readline())
        assert lock.is_held(lock_path(places, "app"))
        wrapper.kill()
    wait_until(lambda: not is_alive(pid), what="the end of its program")
    assert not lock.is_held(lock_path(places, "app"))


def test_a_log_goes_on_over_restarts_and_only_this_runs_lines_are_quoted(places: Places) -> None:
    for number in (1, 2):
        one = child(places, f"print('run {number}')")
        supervise([one], Quiet(), never)
    assert one.last_lines(9) == ["run 2"]
    assert places.log("app").read_text() == "run 1\nrun 2\n"


def test_a_log_is_begun_anew_once_it_is_large_also_while_its_program_runs(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "_LOG_KEPT_BYTES", 1000)
    one = child(places, TALKATIVE)
    assert follow([one]) == 1
    assert one.last_lines(9) == ["end"]
    assert places.log("app").read_text() == "end\n"
    assert places.log("app").with_suffix(".log.1").read_text().splitlines() == [f"line {n}" for n in range(200)]
    assert set(capsys.readouterr().out.splitlines()) <= {"end", *(f"line {n}" for n in range(200))}


@pytest.mark.parametrize(("text", "seconds"), [("", None), ("90", 90.0), ("1.5", 1.5)])
def test_a_run_may_be_given_its_seconds(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float | None) -> None:
    monkeypatch.setenv("SECONDS_TO_RUN", text)
    assert run.seconds_to_run() == seconds


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_seconds_to_run_that_are_none_are_one_line(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SECONDS_TO_RUN", text)
    with pytest.raises(ConfigError, match=r'^SECONDS_TO_RUN: "'):
        run.seconds_to_run()
