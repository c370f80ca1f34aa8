"""Take records out of quarantine that pass by now.

The quarantined records are judged again by today's feed file. Records that pass go into the feed's ledger. Silver's
query reads it beside bronze; gold and the CSV follow silver. A replay may be repeated: a record that is in the ledger
is not taken again, nor is one whose dedupe key silver holds.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.contract.contract import FORGIVABLE, Contract
from stream_app.contract.references import Snapshots
from stream_app.contract.verdict import Rejected, Row
from stream_app.errors import ConfigError
from stream_app.feeds import schema
from stream_app.flows import columns
from stream_app.flows.flow import Flow
from stream_app.layers.kind import QUARANTINE
from stream_app.ops.plans import PLANNED
from stream_app.ops.replayable import candidates, held_keys, reasons_in, waiting_in
from stream_app.ops.views import FilesChangedError, connect
from stream_app.storage import lock
from stream_app.storage.batch_files import REPLAY, batch_file, batch_files, replace
from stream_app.storage.pins import NOTHING, pinned

PinOf = Callable[[Flow], str]
"""Returns the pin of a bronze flow's reference data (storage/pins.py)."""
VerdictsOn = Callable[[pa.RecordBatch], list[Row | Rejected]]


@dataclass(frozen=True)
class ReplayReport:
    """What a replay of one feed found and did."""

    feed: str
    passing: Counter[str]
    """The reasons of the records that pass now, each with how many had it."""
    failing: Counter[str]
    """Why records do not pass, each with how many."""
    records: int
    """How many pass."""
    ledger: str | None
    """The file that they are in; None where none passes, or it was to be a dry run."""
    is_running: bool
    """Whether a service runs, which takes them at once."""
    reasons: tuple[str, ...] = ()
    """The reasons that records in quarantine have, where none has the one that was asked for."""
    token: str = ""
    """Names what was found: a replay that is given it takes exactly this, or nothing."""


@dataclass
class _Verdicts:
    """The records that pass, as rows of silver, and why the others do not."""

    rows: list[tuple[object, ...]] = field(default_factory=list)
    passing: Counter[str] = field(default_factory=Counter)
    failing: Counter[str] = field(default_factory=Counter)
    reasons: tuple[str, ...] = ()

    def token(self, up_to: int, asked: str) -> str:
        """Return a digest of all that was found of what was asked, behind the batch of quarantine up to which."""
        counts = sorted(self.passing.items()), sorted(self.failing.items())
        return f"{up_to}.{blake2b(repr((asked, counts, self.rows)).encode(), digest_size=16).hexdigest()}"


def replay(
    root: Path,
    flows: Sequence[Flow],
    *,
    reason: str = "",
    allow_late: bool = False,
    is_dry: bool = False,
    token: str = "",
    pin_of: PinOf = lambda _bronze: NOTHING,
) -> tuple[ReplayReport, ...]:
    """Replay each feed; with `is_dry` only look.

    `pin_of` takes the reference data of a feed with lookups as it is now: it may have come after the records.
    `reason` chooses the records that have it, as `missing:amount`, or `missing` for that of any field. `allow_late`
    forgives lateness. With `token`, of a report of one feed, it takes what that report found, whatever has come since.
    Raises ConfigError where OUTPUT_PATH is not there, another replay is under way, or what was found is no longer so.
    """
    if not root.is_dir():
        raise ConfigError(f"OUTPUT_PATH: there is no folder {root}")
    silvers = [flow for flow in flows if flow.is_own and flow.kind.takes_replayed]
    for silver in silvers:
        _check_columns(silver)
    asked = _Asked(reason, allow_late, is_dry, token, pin_of)
    return tuple(_replay(flows, silver, asked) for silver in silvers)


def _check_columns(silver: Flow) -> None:
    """Raise ConfigError where silver has other columns than the feed file: the service may still write those."""
    if columns.versions(silver)[-1].as_json()["columns"] != columns.first(silver).as_json()["columns"]:
        problem = f"the feed file of {silver.feed.name} has changed silver's columns since the service was started"
        raise ConfigError(f"{problem}; start it again, then replay")


@dataclass(frozen=True)
class _Asked:
    """What is asked of a replay."""

    reason: str
    allow_late: bool
    is_dry: bool
    token: str
    pin_of: PinOf


def _replay(flows: Sequence[Flow], silver: Flow, asked: _Asked) -> ReplayReport:
    assert silver.upstream  # noqa: S101 - it is bronze
    forgiven = frozenset({FORGIVABLE} if asked.allow_late else ())
    silver.layout.replay_lock.parent.mkdir(parents=True, exist_ok=True)
    with silver.layout.replay_lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another replay of {silver.feed.name} is under way; wait for it to end") from None
        up_to = _position(silver, asked.token)
        pin = asked.pin_of(silver.upstream)
        contract = Contract(silver.feed, Snapshots.of(silver.feed, silver.root), forgive=forgiven)
        found = _judge(flows, silver, partial(_verdicts, contract, pin), asked.reason, up_to)
        token = found.token(up_to, f"{silver.feed.verdict_digest()} {asked.reason} {asked.allow_late} {pin}")
        if asked.token not in {"", token}:
            raise _outdated(silver)
        ledger = None if asked.is_dry or not found.rows else _append(silver, found.rows, pin)
    is_running = lock.is_held(silver.root)
    counts = found.passing, found.failing, len(found.rows)
    return ReplayReport(silver.feed.name, *counts, ledger, is_running, found.reasons, token)


def _position(silver: Flow, token: str) -> int:
    """Return the batch of quarantine up to which records are taken: the token's, else the newest."""
    if token:
        number = token.partition(".")[0]
        if not re.fullmatch(r"-1|\d{1,18}", number):
            raise _outdated(silver)
        return int(number)
    assert silver.upstream  # noqa: S101 - it is bronze
    quarantine = next(flow for flow in silver.upstream.downstream if flow.sink == QUARANTINE)
    return max((file.last for file in quarantine.files()), default=-1)


def _outdated(silver: Flow) -> ConfigError:
    problem = "what a replay would take has changed since it was shown; look at it again"
    return ConfigError(f"{silver.feed.name}: {problem}")


def _verdicts(contract: Contract, pin: str, records: pa.RecordBatch) -> list[Row | Rejected]:
    values, planned = records["value"].to_pylist(), records[PLANNED].to_pylist()
    return contract.check_each(values, records["kafka_ts"].cast(pa.int64()).to_pylist(), planned, [pin] * len(values))


def _judge(flows: Sequence[Flow], silver: Flow, verdicts_on: VerdictsOn, reason: str, up_to: int) -> _Verdicts:
    """Judge what is in quarantine and not in the ledger; of two with one dedupe key the first passes."""
    verdicts = _Verdicts()
    columns = list(silver.feed.columns)
    keys = [columns.index(key) for key in silver.feed.dedupe_keys]
    database = connect([flow for flow in flows if flow.feed is silver.feed])
    held: set[tuple[object, ...]] = set()
    try:
        waiting = waiting_in(database, silver, up_to)
    except FilesChangedError:
        raise _outdated(silver) from None
    for batch in candidates(database, waiting, reason):
        kafka_us = batch["kafka_ts"].cast(pa.int64()).to_pylist()
        coordinates = zip(*(batch[column].to_pylist() for column in ("topic", "partition", "offset")), strict=True)
        judged = verdicts_on(batch)
        passed = []
        for verdict, reasons, at, where in zip(
            judged, batch["reasons"].to_pylist(), kafka_us, coordinates, strict=True
        ):
            if isinstance(verdict, Rejected):
                verdicts.failing.update(verdict.reasons)
            else:
                passed.append(((*verdict, at, *where), reasons))
        identified = [tuple(row[key] for key in keys) for row, _ in passed]
        held |= held_keys(database, silver.feed, identified)
        for (row, reasons), key in zip(passed, identified, strict=True):
            if keys and key in held:
                verdicts.failing["repeat of a record that silver holds"] += 1
                continue
            held.add(key)
            verdicts.rows.append(row)
            verdicts.passing.update(reasons)
    if reason and not verdicts.passing and not verdicts.failing:
        verdicts.reasons = reasons_in(database, waiting)
    return verdicts


def _append(silver: Flow, rows: list[tuple[object, ...]], pin: str) -> str:
    """Write the rows as the ledger's next file, which appears whole or not at all."""
    columns = to_arrow_schema(schema.silver(silver.feed), timezone="UTC").with_metadata(pinned(pin))
    arrays = [pa.array(values, column.type) for values, column in zip(zip(*rows, strict=True), columns, strict=True)]
    number = max((file.last for file in batch_files(silver.layout.replay, REPLAY)), default=-1) + 1
    target = batch_file(silver.layout.replay, REPLAY, "parquet", int(time.time() * 1000), number).path
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f"_{REPLAY}_*.tmp"):  # of a replay that died
        left.unlink()
    partial = target.with_name(f"_{target.name}.tmp")
    pq.write_table(pa.Table.from_arrays(arrays, schema=columns), partial, compression="zstd")
    replace(partial, target)
    return target.name
