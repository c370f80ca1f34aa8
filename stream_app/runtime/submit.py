"""Become spark-submit, which runs this program again under a JVM, with what it needs from the environment."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from stream_app.errors import ConfigError
from stream_app.plain import plain
from stream_app.runtime import jvm
from stream_app.settings import PROJECT, PYTHON_START, SparkOptions

_CONF = PROJECT / "conf"
_PROGRAM = PROJECT / "stream_app" / "__main__.py"


def is_submitted() -> bool:
    """Return whether spark-submit runs this process."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def become_spark_submit(spark: SparkOptions, log_format: str, arguments: Sequence[str] = ()) -> NoReturn:
    """Replace this process by spark-submit, which runs this program again with those arguments.

    The pid stays, so whoever started it signals spark-submit itself. Raises ConfigError as `command` does.
    """
    typed, environment = command(spark, log_format, arguments)
    os.execve(typed[0], typed, environment)  # noqa: S606 - no shell is wanted


def command(spark: SparkOptions, log_format: str, arguments: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
    """Return spark-submit with its options, and the environment for it.

    Raises ConfigError where Java, pyspark or the jars are missing.
    """
    in_process = spark.master.partition("[")[0] == "local"
    # what the executors fetch is a list with commas, of URIs
    if sign := jvm.unfit(PROJECT, "" if in_process else ",#"):
        problem = (
            f"the project's folder, {plain(PROJECT)}, has {sign!r} in its name, where a path ends for Java; move it"
        )
        raise ConfigError(problem)
    jars = sorted(map(str, (PROJECT / ".jars" / "spark").glob("*.jar")))
    if not jars:
        problem = f"there are no jars in {PROJECT / '.jars' / 'spark'}; fetch them with: make setup"
        raise ConfigError(problem)
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        problem = "there is no java; install Java 17 or later, on Debian: apt-get install openjdk-17-jre-headless"
        raise ConfigError(problem)
    home = _spark_home()
    options = ["--driver-class-path", os.pathsep.join(jars)]  # the file system among them is needed before --jars act
    if not in_process:
        options += ["--jars", ",".join(jars)]  # for the executors
        options += [
            part
            for name, value in jvm.environment().items()
            for part in ("--conf", f"spark.executorEnv.{name}={value}")
        ]
    typed = [
        str(home / "bin" / "spark-submit"),
        *("--master", spark.master),
        *("--properties-file", str(_CONF / "spark-defaults.conf")),
        *("--driver-memory", spark.driver_memory),
        *options,
        *("--conf", f"spark.sql.shuffle.partitions={spark.shuffle_partitions}"),
        str(_PROGRAM),
        *arguments,
    ]
    return typed, os.environ | _environment(log_format, home, in_process=in_process)


def _spark_home() -> Path:
    spark = find_spec("pyspark")
    if spark is None or spark.origin is None:
        problem = "pyspark is not installed for this Python; use the project's own: make setup"
        raise ConfigError(problem)
    return Path(spark.origin).parent


def _environment(log_format: str, home: Path, *, in_process: bool) -> dict[str, str]:
    log_option = jvm.log_option(_CONF / "log4j2.properties")
    environment = jvm.environment() | {
        "SPARK_HOME": str(home),
        "LOG_FORMAT": log_format,  # log4j2.properties asks for it
        # Not conf: it would be on the class path, where class data sharing wants no folders
        # (docs/operations.md#faster-starts).
        "SPARK_CONF_DIR": str(home / "conf"),
        "SPARK_SUBMIT_OPTS": " ".join(filter(None, [log_option, os.environ.get("SPARK_SUBMIT_OPTS")])),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH"), str(PYTHON_START)])),
    }
    if in_process:
        # Nobody else needs to reach the driver; in a container its UI must listen where the port is published.
        environment["SPARK_LOCAL_IP"] = os.environ.get("SPARK_LOCAL_IP") or "127.0.0.1"
    return environment
