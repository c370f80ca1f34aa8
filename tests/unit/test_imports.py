"""Imports point one way, and what needs no Spark or no Kafka does not import it."""

import ast
import gc
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from stream_app.cli.main import main
from stream_app.settings import PROJECT

# From what people type down to what knows nobody: a folder imports from itself and from those below it.
ORDER = (
    "__main__",
    "cli",
    "api",
    "runtime",
    "ops",
    "observe",
    "gold",
    "landing",
    "sinks",
    "sources",
    "admission",
    "flows",
    "layers",
    "contract",
    "storage",
    "feeds",
    "failpoints",
    "settings",
    "settings_sources",
    "object_stores",
    "kafka",
    "paths",
    "logs",
    "plain",
    "errors",
)
WITHOUT_SPARK = [
    "errors",
    "settings",
    "feeds.parts",
    "feeds.types",
    "feeds.field_keys",
    "feeds.fields",
    "feeds.conditions",
    "feeds.feed",
    "feeds.load",
    "contract.contract",
    "contract.columns",
    "contract.nodes",
    "contract.rules",
    "contract.codecs.json_codec",
    "contract.wire",
    "storage.batch_files",
    "storage.checkpoint",
    "storage.layout",
    "storage.lock",
]


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, those inside of functions among them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package: str) -> dict[str, Path]:
    folder = PROJECT / package
    return {".".join(path.relative_to(PROJECT).with_suffix("").parts): path for path in folder.rglob("*.py")}


def part(name: str) -> str:
    """`stream_app.sinks.batch.BatchSink` -> `stream_app.sinks`."""
    return ".".join(name.split(".")[:2])


def graph() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, path in modules("stream_app").items():
        own = [part(other) for other in imported(path) if other.startswith("stream_app.")]
        found.setdefault(part(name), set()).update(other for other in own if other != part(name))
    return found


def reachable(start: str) -> set[str]:
    """The modules that one imports, directly or not."""
    files = modules("stream_app")
    found, todo = set[str](), [start]
    while todo:
        if (name := todo.pop()) not in found:
            found.add(name)
            names = imported(files[name])
            todo += {module for one in names for module in (one, one.rpartition(".")[0]) if module in files}
    return found


def test_imports_point_down_the_flow_of_the_data() -> None:
    list(TopologicalSorter(graph()).static_order())  # CycleError names the folders of a circle
    known = {f"stream_app.{name}": place for place, name in enumerate(ORDER)}
    assert not graph().keys() - known.keys() - {"stream_app.__init__"}, "a new folder has a place in ORDER"
    up = [(one, other) for one, others in graph().items() for other in others if known[one] >= known[other]]
    assert not up


@pytest.mark.parametrize("name", WITHOUT_SPARK)
def test_what_the_operations_and_the_workers_need_imports_no_spark(name: str) -> None:
    files = modules("stream_app")
    foreign = {m for module in reachable(f"stream_app.{name}") for m in imported(files[module])}
    assert not [module for module in foreign if module.split(".")[0] in {"pyspark", "py4j", "confluent_kafka"}]


def test_a_command_starts_without_what_few_commands_need() -> None:
    """Each of them is a tenth of a second or more, of each start."""
    typed = [sys.executable, "-X", "importtime", "-m", "stream_app", "feed-check", "--help"]
    told = subprocess.run(typed, cwd=PROJECT, capture_output=True, text=True, check=True).stderr
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "stream_app.ops.feed_check" in loaded
    assert not loaded & {"redis", "fastapi", "deltalake", "obstore", "fsspec", "pandas", "openlineage"}


def test_a_source_starts_without_what_a_sink_needs() -> None:
    """Each query starts a Python for its source, and has the service wait for it."""
    typed = [sys.executable, "-X", "importtime", "-c", "import stream_app.sources.layer_reader"]
    told = subprocess.run(typed, cwd=PROJECT, capture_output=True, text=True, check=True).stderr
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "pyarrow.parquet" in loaded
    assert not loaded & {"pyarrow.compute", "pandas", "msgspec", "pydantic", "duckdb", "confluent_kafka"}


def test_garbage_is_collected_once_a_command_is_imported() -> None:
    gc.disable()  # as __main__.py does
    try:
        with pytest.raises(SystemExit):
            main(["feed-check", "--help"])
        assert gc.isenabled()
    finally:
        gc.enable()


def test_layers_are_pure_they_know_no_source_sink_or_session() -> None:
    for name, path in modules("stream_app/layers").items():
        own = {part(module) for module in imported(path) if module.startswith("stream_app.")}
        allowed = {"contract", "feeds", "layers"}
        assert own <= {f"stream_app.{part}" for part in allowed}, name
        assert "SparkSession" not in path.read_text(), name


def test_kafka_is_the_only_contract_between_producer_and_service() -> None:
    for own, other in (("producer", "stream_app"), ("stream_app", "producer")):
        for path in modules(own).values():
            assert not [module for module in imported(path) if module.split(".")[0] == other], path


def test_only_the_sources_read_streams() -> None:
    """One place to look for what a query reads, and from_json nowhere: it is evaluated several times a row."""
    for path in modules("stream_app").values():
        text = path.read_text()
        assert path.parent.name == "sources" or ".readStream" not in text, path
        assert "from_json" not in text, path


def test_how_many_examples_a_property_has_is_said_in_one_place() -> None:
    """Or `make test` would try all of them."""
    declares = [path for path in (PROJECT / "tests").rglob("*.py") if "max_examples=" in path.read_text()]
    assert {*declares} == {PROJECT / "tests" / "examples.py", Path(__file__)}
