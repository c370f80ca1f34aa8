"""The DAGs import nothing of the project, do nothing when they are read, and call commands that there are.

Airflow is in an environment of its own: what needs it is in tests/faults/test_airflow.py.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.__main__ import parser as producer_parser
from stream_app.cli import main
from stream_app.cli.command import parser
from stream_app.settings import PROJECT
from tests.unit.test_imports import imported

FILES = sorted((PROJECT / "dags").glob("*.py"))
HELPERS = {"streamflow_commands", "streamflow_report", "streamflow_sales"}
DAGS = [path for path in FILES if path.stem not in HELPERS]
AIRFLOW = {"airflow.sdk", "airflow.sdk.exceptions"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_dag_imports_airflow_s_interface_and_the_standard_library_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.module in AIRFLOW | HELPERS or node.module.split(".")[0] in sys.stdlib_module_names, node.module
    assert not [name for name in imported(path) if name.split(".")[0] in {"stream_app", "producer", "local"}]


@pytest.mark.parametrize("path", DAGS, ids=lambda path: path.name)
def test_reading_a_dag_does_nothing_but_declare_it(path: Path) -> None:
    """A scheduler reads it again and again: at the top there are names, functions and the call of the DAG."""
    tree = ast.parse(path.read_text())
    (declared,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and _is_dag(node))
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            assert ast.unparse(node.value) == f"{declared.name}()"
        elif isinstance(node, ast.Assign):
            called = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
            assert called <= {"Asset", "Path", "Path(__file__).resolve"}, ast.unparse(node)


def test_airflow_looks_for_dags_in_the_files_that_have_some() -> None:
    ignored = (PROJECT / "dags" / ".airflowignore").read_text().split()
    assert ignored == [f"{name}.py" for name in sorted(HELPERS)]


def _is_dag(node: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.Call) and ast.unparse(one.func) == "dag" for one in node.decorator_list)


def commands(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command that a DAG runs, with the options that are spelled in the call or near it."""
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    for function in (one for one in functions if sum(isinstance(node, ast.FunctionDef) for node in ast.walk(one)) == 1):
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) == "run" and call.args and isinstance(call.args[0], ast.Constant):
                program = next((ast.literal_eval(word.value) for word in call.keywords if word.arg == "program"), "")
                texts = [node.value for node in ast.walk(function) if isinstance(node, ast.Constant)]
                given = [text for text in texts if isinstance(text, str) and text.startswith("--")]
                yield program or str(call.args[0].value), [text.partition("=")[0] for text in given]


def options_of(name: str) -> set[str]:
    if name == "producer":
        return set(re.findall(r"--[a-z-]+", producer_parser().format_help()))
    return {option for action in parser(name, main.command(name))._actions for option in action.option_strings}


@pytest.mark.parametrize("path", DAGS, ids=lambda path: path.name)
def test_a_dag_calls_commands_and_options_that_there_are(path: Path) -> None:
    found = [*commands(path)]
    assert found
    for name, options in found:
        assert {option for option in options if option != "--"} <= options_of(name), name


def test_ruff_knows_nothing_against_them() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--preview", "--select", "AIR", "dags"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
