"""The shares of bronze are judged by as many processes as there are cores, few records by this one alone."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from stream_app.ops.audit.compared import JudgedShare, Share
from stream_app.ops.audit.judge import Judge

_FEW_RECORDS = 100_000
_judge: Judge | None = None


def judged(make: Callable[[], Judge], shares: Sequence[Share], progress: Callable[[int], None]) -> JudgedShare:
    """Judge all shares; `make` is called in each process, `progress` with the records of each share that is done."""
    found = JudgedShare()
    if sum(map(_records, shares)) < _FEW_RECORDS:
        judge = make()
        for share in shares:
            found.add(judge.judge(share))
        return found
    # not forked: this process has threads
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), start, _start, (make,)) as pool:
        done = {pool.submit(_judged, share): share for share in shares}
        for future in as_completed(done):
            found.add(future.result())
            progress(_records(done.pop(future)))
    return found


def _records(share: Share) -> int:
    return share.held.groups[share.group]


def _start(make: Callable[[], Judge]) -> None:
    global _judge  # noqa: PLW0603 - one for each process
    gc.disable()  # it would look through the rows of a share again and again, and finds no circles
    _judge = make()


def _judged(share: Share) -> JudgedShare:
    assert _judge is not None  # noqa: S101 - made by _start
    return _judge.judge(share)
