"""What a command and all that it starts cost: `python -m tests.bench.meter <result.json> <command> ...`.

It runs in a process of its own, which adopts orphans (PR_SET_CHILD_SUBREAPER). So every descendant, however short its
life and whoever started it, is waited for in the end by its parent or by this process, and the kernel's sum over
waited-for children, RUSAGE_CHILDREN, holds the CPU time of all, but for the children of a parent that ignores SIGCHLD,
as pyspark's daemon does: the kernel forgets what these have used. So theirs is read while they live, five times a
second, and added.

Memory is sampled once a second: the sum over all descendants of the proportional set size (PSS), in which pages that
forked workers share count once. What the sampling costs is this process's own and not in the CPU time. Newborn
processes are left out: between vfork and exec, one that the JVM starts would show the JVM's memory a second time.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stream_app.settings import PROJECT

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_SECONDS = 0.02
_SAMPLE_SECONDS = 1.0
_CPU_SECONDS = 0.2
_NEWBORN_SECONDS = 0.2
_ORPHANS_SECONDS = 10.0
"""How long what the command left behind may take to end; then it is killed."""


@dataclass(frozen=True)
class Usage:
    """What a run cost, from its start to the end of the last descendant. Times are seconds since the epoch."""

    exit_code: int
    began: float
    ended: float
    """The end of the command itself."""
    cpu_seconds: float
    """User and system time of all descendants."""
    peak_bytes: int
    """The largest sum of their memory that was seen."""


def measured(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Usage:
    """Run the command in the project's folder to its end, its output in the file `log`."""
    result = log.with_suffix(".usage.json")
    with log.open("ab") as output:
        subprocess.run(
            [sys.executable, "-m", "tests.bench.meter", str(result), *command],
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=True,
        )
    return Usage(**json.loads(result.read_text()))


def meter(command: Sequence[str]) -> Usage:
    """Run the command as a child of this process, which must have no others."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    began = ended = time.time()
    child = subprocess.Popen(command)
    exit_code: int | None = None
    peak, sample_at = 0, time.monotonic()
    forgotten: dict[int, float] = {}
    look_at = sample_at
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:  # none is left
            break
        if pid == child.pid:
            exit_code, ended = os.waitstatus_to_exitcode(status), time.time()
        if pid:
            forgotten.pop(pid, None)  # its parent died first, so it came to us
            continue
        if exit_code is not None and time.time() - ended > _ORPHANS_SECONDS:
            for orphan in descendants(os.getpid(), 0.0):
                os.kill(orphan, signal.SIGKILL)
        if time.monotonic() >= sample_at:
            peak = max(peak, sum(map(_memory, descendants(os.getpid(), _NEWBORN_SECONDS))))
            sample_at = time.monotonic() + _SAMPLE_SECONDS
        if time.monotonic() >= look_at:
            forgotten |= _forgotten(os.getpid())
            look_at = time.monotonic() + _CPU_SECONDS
        time.sleep(_LOOK_SECONDS)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert exit_code is not None
    seconds = used.ru_utime + used.ru_stime + sum(forgotten.values())
    return Usage(exit_code, began, ended, round(seconds, 3), peak)


def memory(process: int) -> int:
    """The bytes of a process and all its descendants, as above."""
    return sum(map(_memory, [process, *descendants(process, _NEWBORN_SECONDS)]))


def _forgotten(ancestor: int) -> dict[int, float]:
    """The CPU-seconds so far of those descendants whose parent ignores their death."""
    found = {}
    for pid in descendants(ancestor, 0.0):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{fields[1]}/status").read_text()
        except OSError:  # it has ended
            continue
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        if ignored >> (signal.SIGCHLD - 1) & 1:
            found[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def descendants(ancestor: int, least_age: float) -> list[int]:
    """Those that are so many seconds old and whose ancestors are, too."""
    children: dict[int, list[int]] = {}
    for pid, parent, age in _processes():
        if age >= least_age:
            children.setdefault(parent, []).append(pid)
    found, unseen = [], [ancestor]
    while unseen:
        of_one = children.get(unseen.pop(), [])
        found += of_one
        unseen += of_one
    return found


def _processes() -> Iterator[tuple[int, int, float]]:
    """Every process of the machine, its parent, and its age in seconds."""
    now, ticks = time.clock_gettime(time.CLOCK_BOOTTIME), os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_text()
            except OSError:  # it has ended
                continue
            fields = stat.rpartition(")")[2].split()
            yield int(folder.name), int(fields[1]), now - int(fields[19]) / ticks


def _memory(pid: int) -> int:
    """The process's PSS in bytes; 0 once it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asdict(meter(sys.argv[2:]))))
