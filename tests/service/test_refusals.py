"""Where to go on would skip or repeat records, the service refuses at start: exit 2 and one line with what to type."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.ports import free_port
from tests.service.harness import Service, refusal, wait_for


@pytest.mark.proves("Files that people touch are noticed", "bronze", "silver", "windows")
def test_output_and_checkpoint_that_do_not_belong_together(copied: Service) -> None:
    """A checkpoint gone, outputs gone, another's files: each in turn, each mended before the next."""
    silver, bronze, gold = (copied.flows[layer] for layer in ("silver", "bronze", "gold"))
    kept = copied.root.parent / "kept"
    shutil.move(bronze.layout.output, kept)
    assert "make reset FEED=transactions SINK=bronze" in refusal(copied)
    shutil.move(kept, bronze.layout.output)

    stranger = silver.layout.output / "silver_20200101_000000_0000009999.parquet"
    shutil.copy(silver.files()[0].path, stranger)
    assert stranger.name in refusal(copied)
    stranger.unlink()

    rows = copied.contents("gold")
    for file in gold.files():
        file.path.unlink()
    assert "make reset FEED=transactions SINK=gold" in refusal(copied)
    copied.op("reset", SINK="gold", YES="1")
    copied.drain()
    assert copied.contents("gold") == rows
    assert copied.audit().wrong == []


def test_a_stop_before_there_is_anything_to_drain(service: Service) -> None:
    """While it waits for Kafka, SIGTERM ends it as later: exit 0, one line."""
    service.environment["KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{free_port()}"
    service.start()
    wait_for(lambda: service.log.exists() and "waiting for Kafka" in service.log.read_text(), "it to wait for Kafka")
    log = service.stop()
    assert "stopped before it began" in log.splitlines()[-1]
    assert "Traceback" not in log
    assert "Exception" not in log


@pytest.mark.parametrize(
    ("setting", "value"),
    [("TRIGGER_INTERVAL", "now and then"), ("RETENTION", "burn"), ("FEEDS", "nothing"), ("OUTPUT_PATH", "s3a://lake")],
)
def test_a_wrong_setting_is_one_line_that_names_it(service: Service, setting: str, value: str) -> None:
    service.start(**{setting: value})
    (line,) = service.end(expected=2).strip().splitlines()
    assert value in line
    assert setting in line or value == "nothing"


def test_the_last_line_is_an_object_where_all_lines_are(service: Service) -> None:
    service.start(LOG_FORMAT="json", FEEDS="nothing")
    told = json.loads(service.end(expected=2))
    assert (told["level"], told["exit_code"]) == ("ERROR", 2)
    assert "nothing.toml" in told["message"]
