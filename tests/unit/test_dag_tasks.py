"""What the tasks of the DAGs do, and their order, without Airflow and without the commands that they call."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.cli.output import as_json
from stream_app.ops.audit.report import Check, Report, Verdict
from stream_app.settings import PROJECT
from tests.service.harness import wait_for
from tests.unit.airflow_standin import AirflowException, AirflowFailException, Dag, loaded

MAIN, SALES = (PROJECT / "dags" / f"{name}.py" for name in ("streamflow_main", "unified_sales_pipeline"))
SENT = {"acknowledged": 4, "offsets": {"0": [[3, 4], [9, 9]], "2": [[0, 0]]}, "at": "2026-11-21T01:00:00+00:00"}
HELD = {"bronze": 4, "silver": 3, "quarantine": 0, "repeats": 1}
AGREED = {"taken": 3, "silver": 100, "totals": 100, "differing": 0}
LIMITS = (0.1, 60)
# Says what it was called with, and answers as the files beside it tell.
COMMAND = """#!/bin/sh
here=$(dirname "$0")
printf '%s ' "$@" >>"$here/called"; echo "PYTHONPATH=${PYTHONPATH:-} LOG_FORMAT=${LOG_FORMAT:-}" >>"$here/called"
cat "$here/answers/$3" 2>/dev/null
[ ! -e "$here/exit" ] || exit "$(cat "$here/exit")"
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets what commands print, by their name, and their exit code; their calls are in `called`."""
    (tmp_path / "python").write_text(COMMAND)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "answers").mkdir()
    monkeypatch.setenv("APP_PYTHON", str(tmp_path / "python"))
    monkeypatch.setenv("APP_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "/airflow's")
    monkeypatch.setenv("LOG_FORMAT", "json")

    def answers(code: int = 0, **printed: str) -> None:
        (tmp_path / "exit").write_text(str(code))
        for name, text in printed.items():
            (tmp_path / "answers" / name).write_text(text)

    return answers


def called(folder: Path) -> list[str]:
    return (folder / "called").read_text().splitlines()


@pytest.fixture(scope="module")
def main_dag() -> Iterator[Dag]:
    with loaded(MAIN) as dag:
        yield dag


@pytest.fixture(scope="module")
def sales_dag() -> Iterator[Dag]:
    with loaded(SALES) as dag:
        yield dag


def helper(dag: Dag, name: str) -> Any:
    return getattr(dag.module, name)


def test_the_batch_path_is_in_order(main_dag: Dag) -> None:
    after = {name: task.after for name, task in main_dag.tasks.items()}
    assert after["check_infrastructure"] == {"chosen"}
    assert after["chosen"] == {"land"}
    assert after["land"] == {"etl"}
    assert after["etl"] == {"audit", "publish"}
    assert after["publish"] == {"remove_scratch"}
    assert main_dag.options["max_active_runs"] == 1
    assert main_dag.options["catchup"] is False
    tried = {name: value for name, value in main_dag.options["default_args"].items() if "retr" in name}
    assert tried == {
        "retries": 3,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=5),
    }
    label = main_dag.tasks["land"].options["map_index_template"]
    assert "topic" in label, "the UI has the topics' names, not numbers"


def test_the_stream_is_watched_in_order(sales_dag: Dag) -> None:
    after = {name: task.after for name, task in sales_dag.tasks.items()}
    assert after["check_infrastructure"] == {"produce"}
    assert {"wait_for_layers", "wait_for_totals"} <= after["produce"]
    assert after["wait_for_layers"] == {"wait_for_totals", "check_quality"}
    assert after["wait_for_totals"] == {"check_quality"}
    assert after["check_quality"] == {"report", "conclude"}
    assert after["report"] == {"conclude"}
    waits = [task for name, task in sales_dag.tasks.items() if name.startswith("wait")]
    assert {task.options["mode"] for task in waits} == {"reschedule"}
    assert sales_dag.options["schedule"] is None


NOISE = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])).filter(lambda line: not _is_json(line))


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict | list)
    except ValueError:
        return False


@given(st.lists(NOISE), st.lists(NOISE), st.sampled_from([None, 1]), st.booleans())
def test_an_answer_is_found_among_lines_of_the_log(
    sales_dag: Dag, before: list[str], after: list[str], indent: int | None, whole: bool
) -> None:
    expected = {"records": 3, "note": "[x]\n{"} if whole else [{"a": 1}, {"b": [{}]}]
    printed = "\n".join([*before, json.dumps(expected, indent=indent), *after])
    assert helper(sales_dag, "answer")(printed) == expected


def test_without_an_answer_there_is_a_line_that_says_so(sales_dag: Dag) -> None:
    with pytest.raises(AirflowException, match="printed no JSON"):
        helper(sales_dag, "answer")("[main] INFO begins\n{not it\n")


@pytest.mark.parametrize(("code", "error"), [(1, AirflowException), (2, AirflowFailException), (143, AirflowException)])
def test_what_somebody_must_set_right_is_not_retried(
    main_dag: Dag, commands: Callable[..., None], code: int, error: type[Exception]
) -> None:
    commands(code, land="land: begins\nland: there is no topic t\n")
    with pytest.raises(error, match=r"^land: there is no topic t$") as caught:
        main_dag.call("land", "t", params={"seconds": 5})
    assert type(caught.value) is error


def test_a_command_gets_its_options_and_nothing_of_airflow_s_python(
    main_dag: Dag, commands: Callable[..., None], tmp_path: Path
) -> None:
    """It logs as text, whatever Airflow's own processes are told: an answer is JSON."""
    commands(etl='{"run": 1}\nWARN a line after it\n')
    params = {"feeds": ["a", "b"], "since": "2026-11-26", "until": None, "full": True}
    assert main_dag.call("etl", "/scratch", params=params, run_id="manual") == {"run": 1}
    (line,) = called(tmp_path)
    assert line == "-m stream_app etl --feeds=a,b --name=manual --since=2026-11-26 --full PYTHONPATH= LOG_FORMAT=text"


def test_an_audit_that_finds_something_wrong_is_not_retried(main_dag: Dag, commands: Callable[..., None]) -> None:
    def says(*found: Report) -> str:  # as the command prints it
        return json.dumps([{"verdict": report.verdict, **as_json(report)} for report in found], indent=1)

    right = Report("a", {"landed": 3}, [Check("records", Verdict.NOT_AUDITED, 1, "old")])
    commands(3, audit=says(right))
    assert main_dag.call("audit") == [{"feed": "a", "verdict": "not audited", "landed": 3}]
    wrong = [Check("records", Verdict.WRONG, 1, line) for line in ("gold: 1 row is altered", "another")]
    commands(1, audit=says(right, Report("b", {}, wrong)))
    with pytest.raises(AirflowFailException, match=r"^2 things are wrong; the first: b: gold: 1 row is altered$"):
        main_dag.call("audit")


@pytest.mark.parametrize(("code", "error"), [(1, AirflowException), (2, AirflowFailException), (3, AirflowException)])
def test_an_audit_that_could_not_look_fails_with_its_own_line(
    main_dag: Dag, commands: Callable[..., None], code: int, error: type[Exception]
) -> None:
    """It ends with 1 also where the disk is full, say, and that may pass."""
    commands(code, audit="[main] INFO begins\naudit: GOLD_PATH: /gold: No space left on device\n")
    with pytest.raises(error, match=r"^audit: GOLD_PATH: /gold: No space left on device$") as caught:
        main_dag.call("audit")
    assert type(caught.value) is error


def test_a_killed_task_takes_its_command_along(tmp_path: Path) -> None:
    """Or the retry would find the folder in use, which no retry mends."""
    program = textwrap.dedent(f"""
        from tests.unit.airflow_standin import loaded
        from pathlib import Path
        with loaded(Path({str(MAIN)!r})) as dag:
            dag.module.run("x", program="sleeps")
    """)
    (tmp_path / "sleeps.py").write_text(
        "import os, time; open('pid.new', 'w').write(str(os.getpid())); os.rename('pid.new', 'pid'); time.sleep(600)"
    )
    environment = os.environ | {"APP_HOME": str(tmp_path), "APP_PYTHON": sys.executable}
    task = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_for((tmp_path / "pid").exists, "the command")
        command = int((tmp_path / "pid").read_text())
    finally:
        task.send_signal(signal.SIGKILL)
        task.wait()
    wait_for(lambda: not _runs(command), "the end of the command")


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@contextmanager
def service(code: int, body: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_service_that_is_not_ready_is_named_with_what_to_do(sales_dag: Dag) -> None:
    check_ready = helper(sales_dag, "check_ready")
    with service(200, '{"ok": true}') as url:
        check_ready(url)
    with service(503, '{"problems": {"service": "starts"}}') as url, pytest.raises(AirflowException, match="starts"):
        check_ready(url)
    with pytest.raises(AirflowException, match=r"does not answer .* start the service with METRICS_PORT"):
        check_ready(url)


def test_the_infrastructure_is_as_many_brokers_as_are_named_and_a_stream_that_runs(
    sales_dag: Dag, commands: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2,c:3")
    for state in ("running", "stopped"):
        commands(status=json.dumps([{"sink": "silver", "state": state}]))
        with service(200, "{}") as url:
            monkeypatch.setenv("SERVICE_URL", url + "/")
            if state == "running":
                sales_dag.call("check_infrastructure", params={"brokers": None})
            else:
                with pytest.raises(AirflowException, match=r"sales\.silver is stopped; start the service with FEEDS="):
                    sales_dag.call("check_infrastructure", params={"brokers": 1})
    asked = [line.split()[2:5] for line in called(tmp_path) if "preflight" in line]
    assert asked == [["preflight", "--topics=ventes_stream", f"--brokers={brokers}"] for brokers in (3, 1)]


def test_sales_are_known_by_their_offsets(sales_dag: Dag, commands: Callable[..., None], tmp_path: Path) -> None:
    commands(**{"--feed=sales": 'totals sent=4\n{"acknowledged": 4, "offsets": {"0": [[3, 6]]}}\n'})
    sent = sales_dag.call("produce", params={"count": 4})
    assert sent["offsets"] == {"0": [[3, 6]]}
    assert called(tmp_path)[0].startswith("-m producer --feed=sales --topic=ventes_stream --count=4 ")
    assert not helper(sales_dag, "is_over")(sent, 60)


def rows(table: str, columns: str, *values: str) -> str:
    return f"CREATE TABLE sales.{table} AS SELECT * FROM (VALUES {', '.join(values)}) AS t ({columns});"


def placed(dag: Dag, *, silver: list[str], quarantine: list[str]) -> dict[str, int]:
    """Bronze holds partition 0, offsets 3, 4 and 9, partition 2, offset 0, and what others sent."""
    with duckdb.connect() as database:
        at, nobody = "TIMESTAMP '2026-11-21 01:00'", "(7, 7, 70, TIMESTAMP '2026-11-21')"
        sent = [(0, 3, '{"vente_id": 10}'), (0, 4, '{"vente_id": 11}'), (0, 9, '{"vente_id": 10}'), (2, 0, "no JSON")]
        sent += [(0, 5, '{"vente_id": 12}'), (1, 0, '{"vente_id": 13}')]
        bronze = [f"({partition}, {offset}, '{value}'::BLOB, {at})" for partition, offset, value in sent]
        columns = 'partition, "offset", value, kafka_ts'
        database.execute("CREATE SCHEMA sales;" + rows("bronze", columns, *bronze, f"(5, 5, '\\xFF'::BLOB, {at})"))
        columns = 'partition, "offset", vente_id, kafka_ts'
        taken = ["(0, 5, 12, ", "(1, 0, 13, ", *silver]
        database.execute(rows("silver", columns, nobody, *(f"{row}{at})" for row in taken)))
        database.execute(rows("quarantine", 'partition, "offset"', "(7, 7)", *quarantine))
        found = database.sql(helper(dag, "PLACED").format(sent=helper(dag, "where")(SENT)))
        return dict(zip(found.columns, found.fetchall()[0], strict=True))


def test_each_sale_is_looked_for_and_a_repeat_is_none_that_is_missing(sales_dag: Dag) -> None:
    all_judged = placed(sales_dag, silver=["(0, 3, 10, ", "(0, 4, 11, "], quarantine=["(2, 0)"])
    assert all_judged == {"bronze": 4, "silver": 2, "quarantine": 1, "repeats": 1}
    one_missing = placed(sales_dag, silver=["(0, 3, 10, "], quarantine=["(2, 0)"])
    assert one_missing == {"bronze": 4, "silver": 1, "quarantine": 1, "repeats": 1}
    nothing_yet = placed(sales_dag, silver=[], quarantine=[])
    assert nothing_yet == {"bronze": 4, "silver": 0, "quarantine": 0, "repeats": 0}


@pytest.mark.parametrize(("amount", "differing"), [("7.50", 0), ("7.49", 2)])
def test_totals_are_compared_group_by_group(sales_dag: Dag, amount: str, differing: int) -> None:
    with duckdb.connect() as database:
        silver = ("('p', 'FR', 2.50, 1, 0, 3)", "('p', 'FR', 5.00, 2, 0, 4)", "('q', 'UK', 1.00, 1, 7, 7)")
        columns = 'produit_nom, pays, montant, quantite, partition, "offset"'
        database.execute("CREATE SCHEMA sales;" + rows("ventes_clean", columns, *silver))
        held = (f"('p', 'FR', {amount}, 3, 2)", "('q', 'UK', 1.00, 1, 1)")
        names = "produit_nom, pays, total_montant, total_quantite, nombre_ventes"
        database.execute(rows("ventes_aggreges", names, *held))
        versions = {"ventes_clean": 3, "ventes_aggreges": 4}
        sql = helper(sales_dag, "TOTALS").format(sent=helper(sales_dag, "where")(SENT), **versions)
        assert sql.count(" AT (VERSION => ") == 2
        plain = re.sub(r" AT \(VERSION => [34]\)", "", sql)  # which make query reads, and DuckDB alone does not
        assert database.sql(plain).fetchall() == [(2, 3, 3, differing)]


def history(table: str, *read: tuple[int, str]) -> dict[str, Any]:
    """What `make history` says of a table: its versions, the newest first, with what of silver each has read."""
    made = [{"version": version, "offsets": offsets} for version, offsets in read]
    return {"sink": f"sales.{table}", "versions": made}


def test_totals_are_compared_at_versions_that_have_read_the_same(sales_dag: Dag) -> None:
    same = helper(sales_dag, "same_versions")
    clean = history("ventes_clean", (9, "c"), (8, ""), (7, "b"), (6, "a"))
    assert same([clean, history("ventes_aggreges", (5, "b"), (4, "a"))]) == {"ventes_clean": 7, "ventes_aggreges": 5}
    assert same([clean, history("ventes_aggreges", (2, "0"), (1, ""))]) == {}


def test_a_wait_is_over_when_all_are_there_or_its_time_is_up(sales_dag: Dag, commands: Callable[..., None]) -> None:
    now = datetime.now(UTC)
    for bronze, age, over in ((4, 0, True), (3, 0, False), (3, 6_001, True)):
        held = {"bronze": bronze, "silver": bronze, "quarantine": 0, "repeats": 0}
        commands(query=json.dumps([held], indent=1))
        sent = SENT | {"at": (now - timedelta(seconds=age)).isoformat()}
        found = sales_dag.call("wait_for_layers", sent, params={"wait_seconds": 6_000})
        assert (found.is_done, found.xcom_value) == (over, held)


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({}, []),
        ({"bronze": 3}, ["bronze holds them"]),
        ({"silver": 2, "taken": 2}, ["silver has judged them"]),
        ({"silver": 2, "taken": 2, "quarantine": 1}, ["quarantine share"]),
        ({"age": 61}, ["freshness of silver"]),
        ({"differing": 1}, ["totals agree with silver"]),
        ({"taken": 2}, ["totals agree with silver"]),
    ],
)
def test_each_check_fails_for_its_own_reason(sales_dag: Dag, changed: dict[str, int], failing: list[str]) -> None:
    held = {name: changed.get(name, value) for name, value in HELD.items()}
    totals = {name: changed.get(name, value) for name, value in AGREED.items()}
    checks = helper(sales_dag, "quality")(SENT, held, totals, changed.get("age", 60), *LIMITS)
    assert [one["check"] for one in checks if not one["ok"]] == failing
    made = {"files": ["report.md"]}
    if failing:
        with pytest.raises(AirflowFailException, match=f"^{failing[0]}: .*report.md"):
            sales_dag.call("conclude", checks, made)
    else:
        sales_dag.call("conclude", checks, made)


def test_a_report_is_there_as_markdown_and_html_and_shows_text_as_it_is(
    sales_dag: Dag, commands: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPORTS_PATH", str(tmp_path / "reports"))
    commands(
        query=json.dumps([{"amount": "1.50", "product": "<b> | &", "sales": 4, "pieces": 5}]),
        status=json.dumps([dict.fromkeys(("sink", "state", "rows", "behind", "newest_file_age"), 1)]),
    )
    checks = helper(sales_dag, "quality")(SENT, HELD, AGREED, 999.0, *LIMITS)
    event = SimpleNamespace(extra={})
    events = {helper(sales_dag, "REPORT"): event}
    checks = json.loads(json.dumps(checks, sort_keys=True))  # as an XCom hands them on
    run = "manual__2026-11-21T01:00:00+00:00/../x"
    made = sales_dag.call("report", SENT, checks, run_id=run, outlet_events=events)
    markdown, page, document = (Path(name).read_text() for name in made["files"])
    assert {Path(name).parent for name in made["files"]} == {tmp_path / "reports" / "unified_sales_pipeline"}
    assert made["markdown"] == markdown
    assert event.extra["title"] == made["title"] == "4 sales: TROUBLE"
    assert "| freshness of silver | 999 s | at most 60 s | NO |" in markdown
    assert "| <b> \\| & | 4 | 5 | 1.50 |" in markdown
    assert "<td>&lt;b&gt; | &amp;</td>" in page
    assert json.loads(document)["checks"] == checks
