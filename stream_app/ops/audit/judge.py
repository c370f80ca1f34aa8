"""Every record of bronze is judged again, by the contract's definition, and compared with silver and quarantine.

Each record is exactly silver's row of its place, or exactly quarantine's. What is valid and not in silver may repeat
another record; that is for repeats.py to find out. What was replayed is in quarantine, and as the ledger has it in
silver. The definition (Contract.check_each) judges, not the fast path that the service's tasks take.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from stream_app.contract.contract import FORGIVABLE, Contract
from stream_app.contract.references import Snapshots
from stream_app.contract.verdict import Rejected, Row
from stream_app.feeds.feed import Feed
from stream_app.flows.columns import Version
from stream_app.ops.audit.compared import PLACE, Compared, JudgedShare, Layer, Share, differing, spread
from stream_app.ops.audit.places import NOWHERE, Flags, Numbers, Places
from stream_app.ops.audit.stored import opened
from stream_app.storage.pins import Pins
from stream_app.storage.planned import UNBOUNDED, Planned
from stream_app.storage.snapshots import PlainSnapshot

LOST = "lost: in bronze, not in silver or quarantine, and no repeat"
SILVER, QUARANTINE, _LEDGER = "silver", "quarantine", "ledger"
Verdicts = Sequence[Row | Rejected]
_TAKEN = ["key", "value", "kafka_ts", "topic", *PLACE]


def key_type(feed: Feed, silver: pa.Schema) -> pa.DataType:
    """Return the type of a dedupe key as one value: its columns in a struct, without any where the feed has none."""
    return pa.struct([silver.field(name) for name in feed.dedupe_keys])


class Judge:
    """Judges shares of one feed, in any process."""

    def __init__(
        self, feed: Feed, root: Path, versions: Sequence[Version], silver: Layer, quarantine: Layer, ledger: Layer
    ) -> None:
        """Judge by the snapshots of reference data under `root`, OUTPUT_PATH.

        `versions` are what silver's columns were.
        """
        self._feed = feed
        self._versions = [version.columns for version in versions]
        remade = {path for version in versions for path in version.remade(feed.sources)}
        self._remade = {path.partition(".")[0].partition("[")[0] for path in remade}
        snapshot_of = Snapshots.of(feed, root, PlainSnapshot)
        self._contract = Contract(feed, snapshot_of)
        self._forgiving = Contract(feed, snapshot_of, forgive=frozenset({FORGIVABLE}))
        self._layers = {SILVER: silver, QUARANTINE: quarantine, _LEDGER: ledger}
        self._places = {name: Places.load(layer.places) for name, layer in self._layers.items()}

    def judge(self, share: Share) -> JudgedShare:
        """Judge the records of a share, and compare them."""
        records, planned, by = _records(share)
        verdicts = _verdicts(self._contract, records, planned, by)
        place = [records[name].cast(pa.int64()).to_numpy() for name in PLACE]
        rows = {name: places.find(*place) for name, places in self._places.items()}
        in_silver, in_quarantine, replayed = (found != NOWHERE for found in rows.values())
        valid = np.array([not isinstance(verdict, Rejected) for verdict in verdicts], bool)
        judged = JudgedShare()
        compared = Compared(share, records, judged, self._versions, self._remade)
        compared.wrong("in silver and in quarantine", in_silver & in_quarantine & ~replayed)
        if share.silver:
            compared.by_rules("in silver, though the contract refuses it", in_silver & ~valid & ~replayed)
            self._compare_rows(compared, verdicts, rows[SILVER], valid & in_silver & ~replayed)
            absent = compared.still_there(SILVER, valid & ~in_silver & ~in_quarantine & ~replayed, self._layers)
            compared.absent(self._keys(verdicts, absent), absent, again=False)
            self._compare_replayed(compared, rows, replayed)
        if share.quarantine:
            compared.by_rules("in quarantine, though the contract takes it", valid & in_quarantine)
            lost = compared.still_there(QUARANTINE, ~in_quarantine & (replayed | ~valid & ~in_silver), self._layers)
            compared.by_rules(LOST, lost)
            self._compare_refused(compared, verdicts, rows[QUARANTINE], ~valid & in_quarantine)
        return judged

    def _compare_rows(self, compared: Compared, verdicts: Verdicts, rows: Numbers, which: Flags) -> None:
        expected = self._rows(compared.records, verdicts, which)
        actual = self._layers[SILVER].stored.take(rows[which])
        compared.whole_rows("silver's row is not what the contract makes of the record", expected, actual, which)

    def _compare_refused(self, compared: Compared, verdicts: Verdicts, rows: Numbers, which: Flags) -> None:
        refused = [verdict for verdict in _chosen(verdicts, which) if isinstance(verdict, Rejected)]
        kept = compared.records.filter(pa.array(which))
        texts = [None if value is None else value.decode("utf-8", "replace") for value in kept["value"].to_pylist()]
        reasons = pa.array([list(verdict.reasons) for verdict in refused], pa.list_(pa.string()))
        stored = self._layers[QUARANTINE].stored
        expected = kept.append_column("value_text", pa.array(texts, pa.string())).append_column("reasons", reasons)
        actual, what = stored.take(rows[which]), "quarantine's row is not what the contract makes of the record"
        rest = [name for name in stored.columns.names if name != "reasons"]
        compared.whole_rows(what, expected.select(rest), actual.select(rest), which)
        differ = differing(expected["reasons"], actual["reasons"])
        compared.by_rules("quarantine's reasons are not the contract's", spread(differ, which))

    def _compare_replayed(self, compared: Compared, rows: dict[str, Numbers], replayed: Flags) -> None:
        """Compare what was replayed: the ledger's row is the contract's that forgives lateness, and silver's is it."""
        if not replayed.any():
            return
        # as make replay judges, which has no planned times, and pins what it has found to the ledger's file
        by = self._layers[_LEDGER].stored.pins(rows[_LEDGER])
        verdicts = _verdicts(self._forgiving, compared.records, [UNBOUNDED] * compared.records.num_rows, by)
        valid = np.array([not isinstance(verdict, Rejected) for verdict in verdicts], bool)
        ledger = self._layers[_LEDGER].stored
        compared.by_rules("replayed, though the contract refuses it", replayed & ~valid)
        which = replayed & valid
        expected = self._rows(compared.records, verdicts, which)
        what = "the replayed row is not what the contract makes of the record"
        compared.whole_rows(what, expected, ledger.take(rows[_LEDGER][which]), which)
        which = replayed & (rows[SILVER] != NOWHERE)
        actual = self._layers[SILVER].stored.take(rows[SILVER][which])
        what = "silver's row is not what was replayed"
        compared.whole_rows(what, ledger.take(rows[_LEDGER][which]), actual, which)
        absent = compared.still_there(SILVER, replayed & valid & (rows[SILVER] == NOWHERE), self._layers)
        compared.absent(self._keys(verdicts, absent), absent, again=True)

    def _rows(self, records: pa.Table, verdicts: Verdicts, which: Flags) -> pa.Table:
        """Return the rows that the chosen verdicts are, with silver's columns."""
        columns = self._layers[SILVER].stored.columns
        rows = _chosen(verdicts, which)
        values = zip(*rows, strict=True) if rows else ((),) * len(self._contract.columns)
        found = dict(zip(self._contract.columns, values, strict=True))
        kept = records.filter(pa.array(which))
        arrays = [
            pa.array(found[field.name], field.type) if field.name in found else kept[field.name] for field in columns
        ]
        return pa.table(arrays, schema=columns)

    def _keys(self, verdicts: Verdicts, which: Flags) -> pa.Array:
        """Return the dedupe keys of the rows, each as one value."""
        kind = key_type(self._feed, self._layers[SILVER].stored.columns)
        places = {field.name: self._contract.columns.index(field.name) for field in kind}
        rows = (row for row in _chosen(verdicts, which) if not isinstance(row, Rejected))
        return pa.array([{name: row[at] for name, at in places.items()} for row in rows], kind)


def _records(share: Share) -> tuple[pa.Table, list[int], list[str]]:
    """Return the share's records; when each one's batch was planned, in microseconds since the epoch; and its pin."""
    with opened(share.held) as file:
        records = file.read_row_group(share.group, columns=_TAKEN, use_threads=False).combine_chunks()
        first = sum(share.held.groups[: share.group])
        planned = Planned.of(file.metadata).of_rows(first, records.num_rows).to_pylist()
        return records, planned, Pins(file.metadata).of_rows(first, records.num_rows).to_pylist()


def _verdicts(contract: Contract, records: pa.Table, planned: Sequence[int], by: Sequence[str]) -> Verdicts:
    values = records["value"].to_pylist()
    times = records["kafka_ts"].cast(pa.int64()).to_pylist()
    return contract.check_each(values, times, planned, by)


def _chosen(verdicts: Verdicts, which: Flags) -> list[Row | Rejected]:
    return [verdicts[place] for place in np.flatnonzero(which).tolist()]
