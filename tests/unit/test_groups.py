"""What tests share is made once in a run of several processes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from local.places import ROOT
from tests.groups import group_of

FOLDERS = ("service", "spark", "sinks", "unit")
TESTS = """
import pytest

@pytest.mark.parametrize("number", range(9))
def test(number):
    pass
"""
SHARING = """
@pytest.fixture
def drained():
    pass

@pytest.mark.parametrize("number", range(9))
def test_more(number, drained):
    pass
"""


def test_each_group_is_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.groups"]')
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        for name in ("one", "two"):
            (tmp_path / folder / f"test_{folder}_{name}.py").write_text(TESTS)
    for name in ("three", "four"):
        (tmp_path / "service" / f"test_service_{name}.py").write_text(TESTS + SHARING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *_at_a_time()],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"\[(gw\d)\].* PASSED (\w+)/test_(\w+)\.py", done.stdout)
    assert len(found) == (len(FOLDERS) * 2 + 2 * 2) * 9, done.stdout
    processes: dict[str, set[str]] = {}
    for process, folder, file in found:
        alone = folder == "unit" or file in {"service_one", "service_two"}
        processes.setdefault(file if alone else folder, set()).add(process)
    assert {group: len(used) for group, used in processes.items()} == dict.fromkeys(processes, 1)
    assert len(set.union(*(processes[group] for group in ("service", "spark", "sinks")))) == 3, "at the same time"


def test_only_what_asks_for_the_shared_run_is_bound_to_it() -> None:
    files = {f"test_{name}.py": "service" for name in ("end_to_end", "operations", "batch_path", "sales")}
    files["test_restart.py"] = "service/test_restart.py"
    assert {name: group_of(ROOT, f"tests/service/{name}::test_x[1]") for name in files} == files
    for folder, names in (("sinks", ("test_totals", "test_tables")), ("spark", ("test_keys", "test_source"))):
        assert {group_of(ROOT, f"tests/{folder}/{name}.py::test_x") for name in names} == {folder}
    assert group_of(ROOT, "tests/unit/test_feed.py::test_x") == "unit/test_feed.py"


def _at_a_time() -> list[str]:
    """The options by which the Makefile's tests are run."""
    (options,) = re.findall(r"^THREE_AT_A_TIME := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return str(options).split()
