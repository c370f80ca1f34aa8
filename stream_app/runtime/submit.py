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
# Java looks for each class in one jar after the other, and Spark's folder has 280 of them, in any order. These hold
# nearly all that a start loads. slf4j is Spark's own first one, since other jars have copies of it.
_FIRST = (
    *("slf4j-api-*", "scala-library-*", "spark-catalyst_*", "spark-core_*", "spark-sql_*", "spark-sql-api_*"),
    *("spark-common-utils_*", "spark-network-common_*", "hadoop-client-api-*", "hadoop-client-runtime-*"),
    *("log4j-core-*", "log4j-api-*", "jackson-databind-*", "jackson-core-*", "janino-*", "netty-common-*"),
)
# Each session would take what it brings for machine learning: a sixth of the CPU until a session is there.
_UNUSED = "spark-mllib_*"
# Folders with the settings of a cluster, and jars that somebody has beside Spark's.
_ADDED = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH")


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
    jars = _own_jars()
    if not jars:
        problem = f"there are no jars in {PROJECT / '.jars' / 'spark'}; fetch them with: make setup"
        raise ConfigError(problem)
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        problem = "there is no java; install Java 17 or later, on Debian: apt-get install openjdk-17-jre-headless"
        raise ConfigError(problem)
    home = _spark_home()
    options = []
    if not in_process:
        options += ["--jars", ",".join(map(str, jars))]  # for the executors
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


def class_path() -> list[Path]:
    """Return the jars in which the driver's JVM looks for a class, in that order: ours, and Spark's.

    Raises ConfigError where pyspark is missing.
    """
    folder = _spark_home() / "jars"
    first = [path for pattern in _FIRST for path in sorted(folder.glob(f"{pattern}.jar"))]
    left_out = {*first, *folder.glob(f"{_UNUSED}.jar")}
    return [*_own_jars(), *first, *sorted(path for path in folder.glob("*.jar") if path not in left_out)]


def class_path_option() -> str:
    """Return the option of Java that says so, as spark-submit reads it; it comes after its own, and the last counts.

    What spark-submit would add of the environment's is at its end.
    """
    added = filter(None, map(os.environ.get, _ADDED))
    quoted = os.pathsep.join([*map(str, class_path()), *added]).replace("\\", r"\\").replace('"', r"\"")
    return f'-cp "{quoted}"'


def _own_jars() -> list[Path]:
    return sorted((PROJECT / ".jars" / "spark").glob("*.jar"))


def _spark_home() -> Path:
    spark = find_spec("pyspark")
    if spark is None or spark.origin is None:
        problem = "pyspark is not installed for this Python; use the project's own: make setup"
        raise ConfigError(problem)
    return Path(spark.origin).parent


def _environment(log_format: str, home: Path, *, in_process: bool) -> dict[str, str]:
    own = [jvm.log_option(_CONF / "log4j2.properties"), class_path_option()]
    environment = jvm.environment() | {
        "SPARK_HOME": str(home),
        "LOG_FORMAT": log_format,  # log4j2.properties asks for it
        # Not conf: it would be on the class path, where class data sharing wants no folders
        # (docs/operations.md#faster-starts).
        "SPARK_CONF_DIR": str(home / "conf"),
        "SPARK_SUBMIT_OPTS": " ".join(filter(None, [*own, os.environ.get("SPARK_SUBMIT_OPTS")])),
        # of the Java that only makes up the command line
        "SPARK_LAUNCHER_OPTS": os.environ.get("SPARK_LAUNCHER_OPTS") or "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH"), str(PYTHON_START)])),
    }
    if in_process:
        # Nobody else needs to reach the driver; in a container its UI must listen where the port is published.
        environment["SPARK_LOCAL_IP"] = os.environ.get("SPARK_LOCAL_IP") or "127.0.0.1"
    return environment
