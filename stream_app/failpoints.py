"""Named points at which a test can have the service die as if by kill -9: FAIL_POINT="<flow>:<point>[:<batch>]".

    batches      before_staging  mid_staging  staged  late_renamed  renamed  before_commit
    compaction   merged  swapped  half_deleted
    landing      staged  renamed  committed
    ETL          judged  written  prepared  committed  table  shown

The flow of a landing is land.<topic>, that of the ETL is etl. Its point `table` is for tables of Delta. Without the
variable a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

_ARMED = os.environ.get("FAIL_POINT", "")


def reach(flow: str, point: str, batch: int | None = None) -> None:
    """Die here if this is the armed point: the JVM first, which could still commit, then this process."""
    if _is_armed(flow, point, batch):
        os.kill(_jvm(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def reach_without_jvm(flow: str, point: str, batch: int | None = None) -> None:
    """Die here if this is the armed point, in a process that has no JVM."""
    if _is_armed(flow, point, batch):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_armed(flow: str, point: str, batch: int | None) -> bool:
    return bool(_ARMED) and _ARMED in {f"{flow}:{point}", f"{flow}:{point}:{batch}"}


def _jvm() -> int:
    """Return the pid of the driver's JVM.

    It is our parent, or in a worker the parent of the daemon that started us.
    """
    parent = os.getppid()
    state = Path(f"/proc/{parent}/stat").read_text()
    return parent if "(java)" in state else int(state.rpartition(")")[2].split()[1])
