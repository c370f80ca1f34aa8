"""Starts programs in order, watches them, and stops them in the reverse order, whatever happens."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import Protocol

from local.console import say
from local.process import Child, WhenDone

_LOOK_SECONDS = 0.2
_REFUSED = 2


class View(Protocol):
    """What a person sees of the programs while they run and while they stop."""

    quoted_lines: int
    """How many last lines of a program to show when it dies; 0 where they were shown already."""

    def look(self) -> None:
        """Show what is new; this is called several times a second."""


class _Follow:
    """The view of `make broker`, `make app` and `make produce`: the programs' own lines."""

    quoted_lines = 0

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children

    def look(self) -> None:
        """Print what is new, by whole lines so that two programs' do not mix."""
        for child in self._children:
            if child.pid is None:
                continue
            with contextlib.suppress(OSError):  # the reader went away
                sys.stdout.write(child.new_lines().decode(errors="replace"))
                sys.stdout.flush()


class _Quiet:
    """The view of `make airflow`: what it says of itself goes to its logs, and is quoted where it dies."""

    quoted_lines = 15

    def look(self) -> None:
        """Show nothing."""


def supervise(children: Sequence[Child], view: View, time_is_up: Callable[[], bool]) -> int:
    """Run the programs until a signal, the end of their work, the end of the time, or trouble; return the exit code.

    0: ended as asked. 1: one of them died, or did not stop in order. 2: one of them refused its settings.
    """
    codes: list[int] = []
    with stop_signals() as stopping, contextlib.ExitStack() as stops:
        for child in children:
            child.claim()
            stops.callback(_stop, child, view, codes)
        for child in children:
            child.start(stopping)
            if stopping.is_set() or child.returncode is not None:
                break
        codes.append(_watch(children, view, stopping, time_is_up))
    view.look()
    return next(filter(None, codes), 0)


def follow(children: Sequence[Child]) -> int:
    """Run programs in the foreground, showing their own lines, until a signal; return the exit code."""
    return supervise(children, _Follow(children), lambda: False)


def keep(children: Sequence[Child]) -> int:
    """Run programs in the foreground, whose lines go to their logs alone, until a signal; return the exit code."""
    return supervise(children, _Quiet(), lambda: False)


def _watch(children: Sequence[Child], view: View, stopping: Event, time_is_up: Callable[[], bool]) -> int:
    while not stopping.wait(_LOOK_SECONDS) and not time_is_up():
        view.look()
        for child in children:
            child.bound_log()
        ended = [child for child in children if child.returncode is not None]
        for child in ended:
            expected = len(children) == 1 or child.when_done is not WhenDone.TROUBLE
            if not (child.ended_well and expected):
                return _trouble(child, view)
        if len(ended) == len(children) or any(child.when_done is WhenDone.ALL_IS_DONE for child in ended):
            return 0
    return 0


def _trouble(child: Child, view: View) -> int:
    """Say how a program died, in its own words where it refused to start."""
    code = child.returncode or 0
    if code == _REFUSED and (reason := child.last_lines(1)):
        with contextlib.suppress(OSError):
            print(reason[0], file=sys.stderr, flush=True)
        return _REFUSED
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with exit {code}"
    say(child.name, f"{how}; its log is {child.log_name}", trouble=True)
    for line in child.last_lines(view.quoted_lines) if view.quoted_lines else []:
        say(f"  {child.name}", line, trouble=True)
    return 1


def _stop(child: Child, view: View, codes: list[int]) -> None:
    if child.pid is not None and child.returncode is None:
        say(child.name, "stopping")
    if not child.stop(view.look):
        codes.append(1)


@contextlib.contextmanager
def stop_signals() -> Iterator[Event]:
    """Turn the signals that ask us to stop into an event. A repeated one changes nothing: all are stopping by then."""
    stopping = Event()
    asked = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup's wish
        asked.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in asked}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
