"""Where the local stack keeps things. Only the standard library: set-up runs before anything is installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
JARS = ROOT / ".jars"
VENV = ROOT / ".venv"


@dataclass(frozen=True)
class Places:
    """The folders of one local stack; two stacks with different `data` do not meet."""

    data: Path = ROOT / "data"

    @property
    def kafka(self) -> Path:
        """The broker's records."""
        return self.data / "kafka"

    @property
    def postgres(self) -> Path:
        """The database's tables, and the password that it was made with."""
        return self.data / "postgres"

    @property
    def run(self) -> Path:
        """What is known of the processes that run: pids, locks, the broker's and the database's address."""
        return self.data / "run"

    def pid(self, name: str) -> Path:
        """Return the path of the process's pid file, which goes when the process does.

        A signal to that pid stops the process.
        """
        return self.run / f"{name}.pid"

    def pid_of(self, name: str) -> str:
        """Return what the pid file says, which is true only while the process holds its lock."""
        try:
            return self.pid(name).read_text().strip()
        except FileNotFoundError:
            return "?"  # it is just starting, or ending

    def log(self, name: str) -> Path:
        """Return the path of the log of a process, or of set-up."""
        return self.data / "logs" / f"{name}.log"

    def make(self) -> None:
        """Make the folders."""
        for folder in (self.kafka, self.postgres, self.run, self.data / "logs"):
            folder.mkdir(parents=True, exist_ok=True)


def shown(path: Path) -> str:
    """Name a path as a person in the project's folder would."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
