"""One long-running program of the stack: its lock, pid file and log, how it starts and how it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from threading import Event

from local import lock
from local.console import say
from local.places import ROOT, Places, shown
from stream_app.errors import ConfigError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_LOG_KEPT_BYTES = 20_000_000
_TAIL_BYTES = 16_384
# A JVM ends by 143 or 130 on these signals even when it stopped in order; a program that is not yet up dies by them.
_STOPPED = frozenset({0, 128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT})


class WhenDone(Enum):
    """What it means for the stack that a program ends well by itself."""

    TROUBLE = "it should have stayed up"
    OTHERS_GO_ON = "its work is done"
    ALL_IS_DONE = "it was what the stack is for"


@dataclass
class Child:
    """A program in a session of its own: Ctrl-C at the terminal reaches only us, who stop all in order."""

    name: str
    argv: Sequence[str]
    places: Places
    patience: float
    """How many seconds it may take to stop."""
    environment: Mapping[str, str] = field(default_factory=dict)
    when_done: WhenDone = WhenDone.TROUBLE
    stop_signal: signal.Signals = signal.SIGTERM
    user: int | None = None
    """Whose it is to be, for what refuses to run as root; None: ours."""
    _process: subprocess.Popen[bytes] | None = None
    _lock: int | None = None
    _log_start: int = 0
    _shown: int = 0
    """To where in its log new_lines has come."""

    def claim(self) -> None:
        """Make sure that this is the only one of its name here. Raises ConfigError that names the other one."""
        self._lock = lock.acquire(lock_path(self.places, self.name))
        if self._lock is None:
            pid = self.places.pid_of(self.name)
            problem = f"{self.name} already runs here, as process {pid}; stop it: kill {pid}"
            raise ConfigError(problem)

    def start(self, stopping: Event) -> None:  # noqa: ARG002 - for a child whose start takes long
        """Start the program; return when others may rely on it, or when `stopping` is set."""
        self.bound_log()
        # It writes the log itself: through a pipe, it would depend on us to live and to drain.
        with self.places.log(self.name).open("ab") as output:
            self._log_start = self._shown = output.tell()
            self._process = subprocess.Popen(
                self.argv,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.user,
                group=None if self.user is None else pwd.getpwuid(self.user).pw_gid,
                extra_groups=None if self.user is None else (),
                preexec_fn=_die_with_parent(self.stop_signal),  # noqa: PLW1509 - one call of libc, nothing that could deadlock
                pass_fds=() if self._lock is None else (self._lock,),  # it may outlive us for a moment
            )
        self.places.pid(self.name).write_text(f"{self._process.pid}\n")

    @property
    def is_claimed(self) -> bool:
        """Whether the name is ours."""
        return self._lock is not None

    @property
    def pid(self) -> int | None:
        """The process, once started."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """The exit code; None before the end and before the start."""
        return self._process.poll() if self._process else None

    @property
    def ended_well(self) -> bool:
        """Whether it has ended as programs do whose work is done, or that were told to stop."""
        return self.returncode in _STOPPED

    def stop(self, meanwhile: Callable[[], None]) -> bool:
        """Stop the program if it runs, and let go of its name; False if it failed to stop in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            deadline = time.monotonic() + self.patience
            while self._process.poll() is None and time.monotonic() < deadline:
                meanwhile()
                time.sleep(0.1)
            if self._process.poll() is None:
                say(self.name, f"killed: it did not stop within {self.patience:.0f} s; no data is lost", trouble=True)
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        if self._lock is not None:
            self.places.pid(self.name).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None
        return self._process is None or self.ended_well

    def bound_log(self) -> None:
        """Begin a new log once it is large; what it held until then is in `.log.1`."""
        log = self.places.log(self.name)
        if log.exists() and log.stat().st_size > _LOG_KEPT_BYTES:
            with contextlib.suppress(OSError):  # a full disk is no reason to stop
                shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)  # who has it open appends to it, wherever its end is
            self._log_start = self._shown = 0

    def new_lines(self) -> bytes:
        """Return the whole lines that it wrote since the last call, or since its start."""
        with self.places.log(self.name).open("rb") as log:
            log.seek(self._shown)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._shown += len(whole)
        return whole

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines that are not empty of what it wrote since its start."""
        if self._process is None:
            return []
        with self.places.log(self.name).open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()][-count:]

    @property
    def log_name(self) -> str:
        """Its log, as a person would type it."""
        return shown(self.places.log(self.name))


def lock_path(places: Places, name: str) -> Path:
    """Return the path of the lock that the one process of this name holds."""
    return places.run / f"{name}.lock"


def _die_with_parent(by: signal.Signals) -> Callable[[], None] | None:
    """Return what a child calls before it becomes its program; None without libc.

    The child will be told to stop when we are kill -9ed.
    """
    libc, parent = _LIBC, os.getpid()
    if libc is None:
        return None

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, by)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
