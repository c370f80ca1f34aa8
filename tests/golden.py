"""Verdicts on records of every type in many spellings, kept in a file: `python -m tests.golden` writes it anew.

A line with `#` is a feed: what its field `x` is declared as. Each line below is what a record has there, and the
verdict. A change of the file is a change of verdicts, which rules.CONTRACT has to tell (tests/unit/test_golden.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected
from stream_app.feeds.feed import Feed
from stream_app.storage.planned import UNBOUNDED

PATH = Path(__file__).parent / "fixtures" / "verdicts.txt"
NOON = 1_795_262_400_000_000  # 2026-11-21T12:00:00Z

DECLARED: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "length": [2, 4], "pattern": "(?i)[a-z]+"},
    {"type": "string", "allowed": ["EUR", "a"]},
    {"type": "boolean"},
    {"type": "boolean", "required": False},
    {"type": "int"},
    {"type": "int", "text": True},
    {"type": "long"},
    {"type": "long", "range": [-5, 5], "default": 1},
    {"type": "long", "text": True},
    {"type": "float"},
    {"type": "float", "text": True},
    {"type": "double"},
    {"type": "double", "text": True},
    {"type": "decimal(10,2)"},
    {"type": "decimal(10,2)", "text": True},
    {"type": "decimal(38,10)"},
    {"type": "date"},
    {"type": "timestamp"},
    {"type": "timestamp", "format": "epoch_seconds"},
    {"type": "timestamp", "format": "epoch_millis"},
    {"type": "timestamp", "format": "epoch_micros"},
    {"type": "timestamp", "format": "date"},
    {"type": "timestamp", "format": "epoch_seconds", "text": True},
    {"type": "binary"},
    {"type": "binary", "length": [1, 3]},
    {"type": "uuid"},
    {"type": "json"},
    {"type": "array", "element": {"type": "long"}, "length": [1, 3]},
    {"type": "array", "element": {"type": "binary"}},
    {"type": "map", "value": {"type": "decimal(10,2)"}},
    {"type": "struct", "fields": {"a": {"type": "long"}, "b": {"type": "date", "required": False}}},
]

_NUMBERS = """0 -0 -0.0 5 5.0 5e0 5E+0 5.5 05 +5 .5 5. 6 12.34 12.340 12.345 1e2 1e-2 1e-400 1e308 1e400 -1e400 3.5e38
16777217 0.1 2147483647 2147483648 -2147483648 -2147483649 9007199254740993 9223372036854775807 9223372036854775808
-9223372036854775808 -9223372036854775809 99999999.99 100000000.00 1795262400 1795262400000 1795262400000000
1234567890123456789012345678.0123456789 1e-11 NaN Infinity -Infinity 0x10 1_000"""
_TIMES = """2026-11-21 2026-1-1 20261121 2026-02-29 2024-02-29 0000-01-01 0001-01-01 9999-12-31 10000-01-01 2026-W47-6
2026-325 2026-11-21T12:00:00Z 2026-11-21T12:00:00 2026-11-21T12:00Z 2026-11-21T12Z 2026-11-21T12:00:00z
2026-11-21t12:00:00Z 2026-11-21_12:00:00Z 20261121T120000Z 20261121T120000.5Z 2026-11-21T14:00:00+02:00
2026-11-21T14:00:00+0200 2026-11-21T14:00:00+02 2026-11-21T12:00:00-00:00 2026-11-21T12:00:00+24:00
2026-11-21T12:00:00+02:60 2026-11-21T12:00:00.1Z 2026-11-21T12:00:00.123456Z 2026-11-21T12:00:00.123456789Z
2026-11-21T12:00:00.1234567890Z 2026-11-21T12:00:00.Z 2026-11-21T12:00:00,5Z 2026-11-21T24:00:00Z
2026-11-21T12:60:00Z 2026-12-31T23:59:60Z 0001-01-01T00:00:00+00:01 9999-12-31T23:59:59-00:01
0001-01-01T00:00:00Z 9999-12-31T23:59:59.999999999Z"""
_TEXTS = [
    *[
        "",
        " ",
        "a",
        "ab",
        "ABcd",
        "abcde",
        "EUR",
        "eur",
        "true",
        "é",
        "\0",
        "\ufeff",
        "😀",
        "\ufffd",
        "a\nb",
        " 5",
        "5 ",
    ],
    *["2026-11-21 12:00:00Z", "2026-11-21 12:00:00+02", "2026-11-21T12:00:00 Z", " 2026-11-21", "2026-11-21\n", "now"],
    *["\u0665", "2026-11-2\u0661"],
    # base64
    *[
        "AAAA",
        "AAA=",
        "AA==",
        "A===",
        "AAAA=",
        "AAAA==",
        "AAAA====",
        "AA=",
        "AAB=",
        "AB==",
        "AA",
        "AAA",
        "A",
        "=",
        "====",
    ],
    *["AA==AA==", "AAAAAA==", "A A=", "AA==\n", "-_-_", "+/+/", "AAAAAAAA"],
    # UUIDs
    *["123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000"],
    *["123e4567e89b12d3a456426614174000", "{123e4567-e89b-12d3-a456-426614174000}"],
    *["urn:uuid:123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-42661417400g"],
]
_VALUES = [
    *["null", "true", "false", "True", "[]", "[null]", "[1]", "[1,2.0,3]", "[1,2,3,4]", '["1"]', "[1,]", "[[1]]"],
    *['["AAAA"]', '["AAAA="]', "{}", '{"a":1}', '{"a":1,"a":2}', '{"a":"x"}', '{"a":null}', '{"a":1,"b":"2026-11-21"}'],
    *['{"a":1,"b":"x"}', '{"a":1,"c":2}', '{"a":1.005}', '{"":1}', "{'a':1}", '{"a":1,}', '{"b":null}', '{"a":12.5}'],
    *[r'"\ud800"', r'"\ud83d\ude00"', r'"\u0041"', r'"\x41"', '"\t"', '"a', "", "'a'", " 5 ", "[" * 101 + "]" * 101],
]
_START = '{"id":"a","at":"2026-11-21T12:00:00Z"'
_X = '"x":'
_WHOLE = [
    '{"id":"a"}',
    f'\ufeff{_START},"x":"y"}}',
    f' {_START},"x":"y"}}\r\n',
    f'{_START},"x":"y"}}{{}}',
    f'{_START},"x":"y","x":"z"}}',
    f'{_START},"x":1,"x":"z"}}',
    f'{_START},"x":"y","extra":1}}',
    f'{_START.replace("id", "ID")},"x":"y"}}',
    f'{_START.replace("12:00", "10:59")},"x":"y"}}',
    f'{_START.replace("12:00", "11:00")},"x":"y"}}',
    f'{_START.replace("12:00", "12:01")},"x":"y"}}',
    f'{_START.replace("12:00:00", "12:01:01")},"x":2}}',
]
_RECORDS = [
    *[b"", b"null", b"[]", b"\xff", b"{", b"{}"],
    *[_START.encode() + rest for rest in (b',"x":"\xff"}', b',"x":"\xed\xa0\x80"}', b',"\xff":1}')],
    *map(str.encode, _WHOLE),
]


def lines() -> Iterator[str]:
    """Yield the file's lines, as this version judges."""
    numbers = _NUMBERS.split()
    values = [*numbers, *map(json.dumps, (*numbers, *_TIMES.split(), *_TEXTS)), *_VALUES]
    for declared in DECLARED:
        contract = Contract(_feed(declared))
        yield f"# {json.dumps(declared)}"
        for text in values:
            yield f"{text!a}\t{_verdict(contract, f'{_START},{_X}{text}}}'.encode())}"
        yield f"nothing\t{_verdict(contract, f'{_START}}}'.encode())}"
    for unknown in ("ignore", "quarantine"):
        contract = Contract(_feed({"type": "string"}, unknown))
        yield f'# whole records, unknown = "{unknown}"'
        for value in _RECORDS:
            yield f"{value!r}\t{_verdict(contract, value)}"


def text() -> str:
    """Return the whole file."""
    return "".join(f"{line}\n" for line in lines())


def _feed(declared: dict[str, Any], unknown: str = "ignore") -> Feed:
    fields = {"id": {"type": "string"}, "at": {"type": "timestamp"}, "x": declared}
    return Feed.model_validate(
        {
            "name": "golden",
            "topic": "golden",
            "wire": {"unknown": unknown},
            "fields": fields,
            "event_time": {"field": "at", "lateness": "1 hour", "future_tolerance": "1 minute"},
            "dedupe": {"key": "id", "within": "1 hour"},
        }
    )


def _verdict(contract: Contract, value: bytes) -> str:
    """Return the reasons, or what the column has: the other two are as ever unless the record tells otherwise."""
    verdict = contract.check(value, NOON, UNBOUNDED)
    return " ".join(verdict.reasons) if isinstance(verdict, Rejected) else ascii(verdict[2])


if __name__ == "__main__":
    PATH.write_text(text())
