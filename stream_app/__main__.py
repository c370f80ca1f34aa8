"""The service. `python -m stream_app` checks the settings and becomes spark-submit, which runs this file again.

SIGTERM and SIGINT, sent to spark-submit or to this program, let the running batches end; exit 0.
Exit 2: a setting, a feed file or the state on disk refuses the start. Exit 1: a query failed MAX_FAILURES times in a
row, or no broker answers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

if __package__ in {None, ""}:  # run by spark-submit as a file: its folder would shadow other packages
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from stream_app import logs
from stream_app.errors import ConfigError, StreamAppError
from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import flows
from stream_app.plain import plain
from stream_app.runtime import jvm
from stream_app.settings import PROJECT, PYTHON_START, Settings, load_settings


def main() -> int:
    """Run the service; the exit code is as above."""
    parser = argparse.ArgumentParser(prog="python -m stream_app", description=__doc__.split("\n\n")[0])
    parser.epilog = "Settings are environment variables or .env; docs/settings.md lists them."
    parser.parse_args()
    log_format = os.environ.get("LOG_FORMAT", "")
    try:
        settings = load_settings()
        log_format = settings.log_format
        all_flows = flows(load_feeds(settings.feeds_path, settings.feeds), settings.output_path)
        if "PYSPARK_GATEWAY_PORT" not in os.environ:
            _become_spark_submit(settings)
        from stream_app.runtime.service import serve  # noqa: PLC0415 - Spark's second, which a wrong setting need not wait for

        serve(settings, all_flows)
    except StreamAppError as error:
        if log_format == "json":
            logs.configure(log_format)
            logs.error(f"stream_app: {error}", exit_code=error.exit_code)
        else:
            print(f"stream_app: {plain(error)}", file=sys.stderr)
        return error.exit_code
    return 0


def _become_spark_submit(settings: Settings) -> None:
    """Replace this process: the pid stays, so whoever started it signals spark-submit itself."""
    in_process = settings.spark_master.partition("[")[0] == "local"
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
    spark = find_spec("pyspark")
    if spark is None or spark.origin is None:
        problem = "pyspark is not installed for this Python; use the project's own: make setup"
        raise ConfigError(problem)
    home = Path(spark.origin).parent
    conf = PROJECT / "conf"
    log_option = jvm.log_option(conf / "log4j2.properties")
    environment = jvm.environment() | {
        "SPARK_HOME": str(home),
        "LOG_FORMAT": settings.log_format,  # log4j2.properties asks for it
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
    command = [str(home / "bin" / "spark-submit"), "--master", settings.spark_master]
    command += ["--properties-file", str(conf / "spark-defaults.conf")]
    command += ["--driver-memory", settings.spark_driver_memory]
    command += ["--driver-class-path", os.pathsep.join(jars)]  # the file system among them is needed before --jars act
    if not in_process:
        command += ["--jars", ",".join(jars)]  # for the executors
        command += [
            part
            for name, value in jvm.environment().items()
            for part in ("--conf", f"spark.executorEnv.{name}={value}")
        ]
    command += ["--conf", f"spark.sql.shuffle.partitions={settings.spark_sql_shuffle_partitions}"]
    command += [str(Path(__file__).resolve())]
    os.execve(command[0], command, os.environ | environment)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    sys.exit(main())
