"""Which Java runs Kafka, Ivy and Spark. Only the standard library: set-up runs before anything is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from stream_app.errors import ConfigError

LEAST_VERSION = 17
_INSTALL = {
    "apt-get": "sudo apt-get install openjdk-17-jre-headless (or openjdk-21-jre-headless)",
    "dnf": "sudo dnf install java-21-openjdk-headless (or java-17-openjdk-headless)",
    "brew": "brew install openjdk@17, and set JAVA_HOME to what `brew --prefix openjdk@17` prints",
}


def find() -> str:
    """Return the java that spark-submit would take: JAVA_HOME's, else PATH's.

    Raises ConfigError, with the command that installs it, where it is missing or too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    found = _version(java) if java else None
    if java and found is not None and found >= LEAST_VERSION:
        return java
    where = f"{java} is {'not one' if found is None else f'version {found}'}" if java else "there is none in PATH"
    if home:
        where += f" (JAVA_HOME={home})"
    raise ConfigError(f"Java {LEAST_VERSION} or later is needed, {where}; install it with: {_install_command()}")


def _version(java: str) -> int | None:
    try:
        printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=True, timeout=60).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', printed)
    return int(match[1]) if match else None


def _install_command() -> str:
    commands = [command for manager, command in _INSTALL.items() if shutil.which(manager)]
    return commands[0] if commands else "your system's packages, or https://adoptium.net"
