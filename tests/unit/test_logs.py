"""A log entry is one line, as text or as JSON, whatever its fields hold."""

import json
from collections.abc import Callable, Iterator

import pytest

from stream_app import logs

NASTY = 'a\nb\r\n"c" \N{LINE SEPARATOR} %s {x} é'


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[str], list[str]]]:
    """Log an entry in that format and give what came out on stderr."""

    def log(log_format: str) -> list[str]:
        logs.configure(log_format)
        logs.info("transactions.silver", batch=3, merchant=NASTY, seconds=0.25)
        logs.warning("it is 100% full")
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.endswith("\n")
        return captured.err.replace("\r", "\n").split("\n")[:-1]

    yield log
    logs.configure("text")


def test_json_is_one_object_a_line(lines: Callable[[str], list[str]]) -> None:
    first, second = map(json.loads, lines("json"))
    assert first["time"].endswith("Z")
    del first["time"]
    assert first == {
        "level": "INFO",
        "message": "transactions.silver",
        "batch": 3,
        "merchant": NASTY,
        "seconds": 0.25,
    }
    assert (second["level"], second["message"]) == ("WARNING", "it is 100% full")


def test_text_is_one_line_with_the_fields(lines: Callable[[str], list[str]]) -> None:
    first, second = lines("text")
    assert "INFO transactions.silver batch=3 merchant=" in first
    assert first.endswith("seconds=0.25")
    assert second.endswith("WARNING it is 100% full")


def test_a_preview_may_have_any_column(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a feed calls its columns, none takes the place of another or of what each line has."""
    columns = {"message": "hello", "time_": 5, "time__": 6, "time": 4, "level": 3, "fields": 7, "msg": 8, "extra": 9}
    logs.configure("json")
    logs.info("preview", **columns)
    found = json.loads(capsys.readouterr().err)
    assert (found["message"], found["level"]) == ("preview", "INFO")
    assert [found[key] for key in list(found)[3:]] == list(columns.values())
