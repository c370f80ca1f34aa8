"""What records in quarantine look like that other systems wrote: said in the log, once a start for each form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from stream_app import logs
from stream_app.contract.wire import is_whole, json_of

_LOOKED_AT = 100
_LARGEST_BYTES = 32 << 20
_FRAME_BYTES = 5


class Hints:
    """The hints of one start. They change nothing, and look at the first records of a file alone."""

    def __init__(self) -> None:
        self._given: set[tuple[str, str]] = set()

    def give(self, name: str, file: Path) -> None:
        """Log what records in a file of quarantine look like, unless that was said of the query of that name."""
        for form, advice in _forms(file):
            kind = form.partition(" (")[0]
            if (name, kind) not in self._given:
                self._given.add((name, kind))
                logs.warning(f"{name} has records that look like {form}; {advice}", file=file.name)


def form_of(value: bytes, reasons: list[str]) -> tuple[str, str] | None:
    """Return what a record looks like that was refused for those reasons, and what to do.

    It is None for a form that is not known.
    """
    if "not_json" in reasons and value[:1] == b"\0" and len(value) > _FRAME_BYTES:
        schema = int.from_bytes(value[1:_FRAME_BYTES], "big")
        form = f"Confluent's frame (magic byte 0, schema id {schema})"
        return form, "only plain JSON is read, so set the producer's serializer to that"
    if any(reason.startswith("missing:") for reason in reasons) and _keys(value) == {"schema", "payload"}:
        return "Connect's schema and payload", "set value.converter.schemas.enable=false in the connector"
    return None


def _forms(file: Path) -> Iterator[tuple[str, str]]:
    with pq.ParquetFile(file) as opened:
        if opened.metadata.row_group(0).total_byte_size > _LARGEST_BYTES:
            return
        records = next(opened.iter_batches(_LOOKED_AT, [0], ["value", "reasons"]))
    for value, reasons in zip(*(records[name].to_pylist() for name in ("value", "reasons")), strict=True):
        if value and (found := form_of(value, reasons)):
            yield found


def _keys(value: bytes) -> set[str]:
    if b'"payload"' not in value or not is_whole(value):
        return set()
    try:
        record = json_of(value)
    except ValueError:
        return set()
    return set(record) if isinstance(record, dict) else set()
