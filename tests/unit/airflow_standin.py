"""Loads a DAG without Airflow: what its tasks are, in which order, and their functions, to be called.

Airflow is in an environment of its own. tests/faults/test_airflow.py holds this to what Airflow makes of the same file.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock


class AirflowException(Exception):  # noqa: N818 - as Airflow calls it
    """What a retry may mend."""


class AirflowFailException(AirflowException):
    """What none does."""


@dataclass
class Task:
    """A task, and what is known of it."""

    name: str
    function: Callable[..., Any]
    options: dict[str, Any]
    after: set[str] = field(default_factory=set)
    """The tasks that come next."""

    def __rshift__(self, other: Task) -> Task:
        self.after.add(other.name)
        return other


@dataclass
class Dag:
    """A DAG with its tasks by name."""

    options: dict[str, Any]
    module: ModuleType
    tasks: dict[str, Task] = field(default_factory=dict)

    def call(self, name: str, *arguments: object, **context: object) -> Any:
        """Run the function of a task, in a run of that context."""
        function = self.tasks[name].function
        asked = {key: context[key] for key in inspect.signature(function).parameters.keys() & context.keys()}
        with mock.patch.dict(_context, context):
            return function(*arguments, **asked)


@contextmanager
def loaded(path: Path) -> Iterator[Dag]:
    """Import the file with a stand-in for airflow.sdk; its modules are as nobody had imported them at the end."""
    made: list[Dag] = []
    sdk = ModuleType("airflow.sdk")
    exceptions = ModuleType("airflow.sdk.exceptions")
    vars(exceptions).update(AirflowException=AirflowException, AirflowFailException=AirflowFailException)
    vars(sdk).update(
        Asset=lambda *, name, uri: _Asset(name, uri),
        Param=lambda default, **schema: SimpleNamespace(default=default, schema=schema),
        PokeReturnValue=lambda is_done, xcom_value=None: SimpleNamespace(is_done=is_done, xcom_value=xcom_value),
        get_current_context=lambda: _context,
        dag=lambda **options: lambda declare: lambda: made.append(_declared(options, declare)),
        task=_Decorator(),
        setup=lambda maker: maker.having(is_setup=True),
        teardown=lambda maker: maker.having(is_teardown=True),
    )
    modules = {"airflow": ModuleType("airflow"), "airflow.sdk": sdk, "airflow.sdk.exceptions": exceptions}
    own = [one.stem for one in path.parent.glob("*.py")]
    with mock.patch.dict(sys.modules, modules), mock.patch.object(sys, "path", [str(path.parent), *sys.path]):
        with mock.patch.object(sys, "dont_write_bytecode", True):
            module = importlib.import_module(path.stem)
        (dag,) = made
        dag.module = module
        yield dag
        for name in own:
            sys.modules.pop(name, None)


@dataclass(frozen=True)
class _Asset:
    name: str
    uri: str


_building: list[Dag] = []
_context: dict[str, Any] = {}
"""Of the task that is called."""


def _declared(options: dict[str, Any], declare: Callable[[], None]) -> Dag:
    dag = Dag(options, ModuleType("none"))
    _building.append(dag)
    declare()
    return _building.pop()


@dataclass
class _Maker:
    """What the decorator makes of a function: a call of it is a task, behind those whose results it takes."""

    function: Callable[..., Any]
    options: dict[str, Any]

    def having(self, **options: Any) -> _Maker:
        self.options |= options
        return self

    def __call__(self, *arguments: object, **given: object) -> Task:
        made = Task(self.function.__name__, self.function, self.options)
        _building[-1].tasks[made.name] = made
        for one in (*arguments, *given.values()):
            if isinstance(one, Task):
                one >> made
        return made

    expand = __call__


class _Decorator:
    """`@task`, `@task(...)` and `@task.sensor(...)`."""

    def __call__(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        if function:
            return _Maker(function, options)
        return lambda decorated: _Maker(decorated, options)

    def sensor(self, **options: Any) -> Any:
        return self(**options)
