"""A service that was told to stop ends, whatever hangs."""

import os
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from stream_app import logs
from stream_app.runtime import service
from tests.helpers import wait_until


@pytest.mark.parametrize("exit_code", [0, 1])
def test_what_has_not_stopped_in_time_is_ended_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], exit_code: int
) -> None:
    """By the JVM, whose exit code is the service's; by SIGKILL if the JVM does not answer either."""
    gateway, kill = Mock(), Mock()
    monkeypatch.setattr(SparkContext, "_gateway", gateway)
    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(service, "_STOP_SECONDS", 0.01)
    monkeypatch.setattr(service, "_FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(service, "_HALT_SECONDS", 0.01)
    logs.configure("text")
    service._end_by_force(exit_code)
    halt = gateway.jvm.java.lang.Runtime.getRuntime().halt
    wait_until(lambda: kill.called and halt.called)
    halt.assert_called_once_with(exit_code)
    kill.assert_called_once_with(os.getppid(), signal.SIGKILL)
    assert "running batches run again at the next start" in capsys.readouterr().err


def test_the_jvm_has_seconds_to_end_with_its_code_and_all_of_it_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a slow machine would make exit code 137 of a stop in order."""
    waited: list[float] = []

    def later(seconds: float, function: Callable[..., object], *_: object) -> None:
        waited.append(seconds)
        if function is not os.kill:
            function()

    monkeypatch.setattr(SparkContext, "_gateway", Mock())
    monkeypatch.setattr(service, "_later", later)
    monkeypatch.setattr(time, "sleep", waited.append)
    logs.configure("text")
    service._end_by_force(0)
    assert waited[-1] >= 3
    assert sum(waited) < 60


@pytest.mark.parametrize(("error", "is_logged"), [(EOFError(), False), (ValueError("x"), True)])
def test_an_end_of_the_jvm_s_connection_is_logged_as_no_error(error: Exception, is_logged: bool) -> None:
    """A stop that interrupts a batch would leave a stack of pyspark's in the log."""
    logged: list[object] = []
    server = SimpleNamespace(handle_error=lambda *request: logged.append(request))
    spark = SimpleNamespace(sparkContext=SimpleNamespace(_accumulatorServer=server))
    service._take_ends_for_ends(cast(SparkSession, spark))
    try:
        raise error
    except (EOFError, ValueError):
        server.handle_error("request", "address")
    assert bool(logged) == is_logged
