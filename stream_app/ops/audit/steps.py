"""The audit of one feed, step by step: bronze's places, every record's verdict, repeats, and what follows silver."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stream_app.admission import rule_versions
from stream_app.feeds.sql import name
from stream_app.flows import unread
from stream_app.layers.kind import BRONZE, QUARANTINE, SILVER
from stream_app.ops.audit import folders
from stream_app.ops.audit.clocks import Clocks
from stream_app.ops.audit.compared import JudgedShare, Layer, Share
from stream_app.ops.audit.copies import Copies
from stream_app.ops.audit.followers import Followers
from stream_app.ops.audit.judge import Judge
from stream_app.ops.audit.places import NOWHERE, Numbers, Places
from stream_app.ops.audit.repeats import Repeats
from stream_app.ops.audit.report import Report, Step
from stream_app.ops.audit.state import JUDGED, State
from stream_app.ops.audit.stored import Stored
from stream_app.ops.audit.work import judged

_PLACE = ("partition", "offset")


class Audit:
    """Audits what a state has opened."""

    def __init__(self, state: State, copies: Copies, max_files: int, progress: Callable[[str, int, int], None]) -> None:
        self._state = state
        self._progress = progress
        self._done = 0
        self._feed = state.bronze.feed
        self._counts: dict[str, int] = {}
        self._db = copies.database
        state.attach(self._db)
        # its queries ask the same files, which stay open until it ends
        self._db.execute("SET preserve_insertion_order = false; SET parquet_metadata_cache = true")
        self._db.execute(f"CREATE SCHEMA IF NOT EXISTS {name(self._feed.name)}")
        self._db.execute(f"CREATE VIEW _actual_silver AS {state.sql(state.flows[SILVER])}")
        self._followers = Followers(state, copies, self._counts, max_files)

    def report(self) -> Report:
        """Look at everything."""
        state = self._state
        stored = {"bronze": state.records, "silver": state.silver, "quarantine": state.quarantine}
        places = {layer: _places_of(rows) for layer, rows in stored.items()}
        places["ledger"] = _places_of(state.ledger)
        rows = self._rows_of_silver(places)
        self._counts.update({layer: held.rows for layer, held in stored.items()}, replayed=state.ledger.rows)
        self._counts["pending"] = sum(one.rows for one in state.records.files if one.file in state.pending)
        self._counts["offsets without a record in bronze"] = places["bronze"].gaps()
        steps = [self._check_places(places), self._check_records(places, rows)]
        derived = [flow for flow in state.flows.values() if flow.sink not in JUDGED]
        steps += [self._followers.check(flow, places["silver"]) for flow in derived]
        steps.append(self._check_files())
        return Report(self._feed.name, self._counts, [check for step in steps for check in step.checks()])

    def _check_places(self, places: dict[str, Places]) -> Step:
        step = Step("places", "each place of the topic is once in a layer, and none is there that bronze lacks")
        step.rows = sum(map(len, places.values()))
        for layer, held in places.items():
            step.findings.note(f"doubled in {layer}", held.doubled())
        for layer in ("silver", "quarantine", "ledger"):
            self._not_of_bronze(step, layer, places)
        return step

    def _check_records(self, places: dict[str, Places], rows: Numbers) -> Step:
        holds = "each is silver's row, quarantine's with every reason, or repeats a row that silver kept"
        step, found = Step("records", holds, self._state.records.rows), self._judged(places, rows)
        step.findings.add(found.findings)
        self._check_repeats(step, found, places["silver"], rows)
        what = "records that other rules judged than those that the feed has now"
        step.not_audited_rows(found.counts["earlier"], what)
        for layer in ("silver", "quarantine"):
            what = f"records, whose batches were pruned from {layer}"
            step.not_audited_rows(found.counts[f"pruned from {layer}"], what)
        for batch, ranges in sorted(unread.read(self._state.bronze).items()):
            for one in ranges:
                step.not_audited(one.offsets, f"bronze: batch {batch} stepped over {one}")
        return step

    def _check_files(self) -> Step:
        state = self._state
        step = Step("files", "none is missing, and none is there that its flow has not written")
        step.rows = state.number_of_files
        step.wrong += [*state.strange_files(), *state.lost_files()]
        for sink, batch in state.gone.items():
            if batch >= 0:
                step.not_audited(0, f"{sink}: files up to that of batch {batch} were deleted or given up")
        for line in filter(None, map(folders.uncommitted, state.flows.values())):
            step.not_audited(0, line)
        return step

    def _rows_of_silver(self, places: dict[str, Places]) -> Numbers:
        """Bronze's row of each of silver's; NOWHERE for what was replayed, and what bronze does not have."""
        place = [self._state.silver.column(column) for column in _PLACE]
        rows = places["bronze"].find(*place)
        rows[places["ledger"].find(*place) != NOWHERE] = NOWHERE
        return rows

    def _not_of_bronze(self, step: Step, layer: str, places: dict[str, Places]) -> None:
        """Note rows that bronze has no record of, unless the record was pruned."""
        foreign = list(places[layer].not_in(places["bronze"]))
        if self._state.is_pruned(BRONZE):
            first = {partition: places["bronze"].first(partition) for partition, _ in foreign}
            wrong = [place for place in foreign if (at := first[place[0]]) is not None and place[1] >= at]
            step.not_audited_rows(len(foreign) - len(wrong), f"rows of {layer}, whose records were pruned from bronze")
            foreign = wrong
        step.findings.note(f"in {layer}, not in bronze", foreign)

    def _judged(self, places: dict[str, Places], rows: Numbers) -> JudgedShare:
        state = self._state
        refused = places["bronze"].find(*(state.quarantine.column(column) for column in _PLACE))
        taken = {layer: state.positions[layer].taken for layer in (SILVER, QUARANTINE)}
        earlier = rule_versions.judged_by_others(state.bronze)
        shares, first = [], 0
        for held in state.records.files:
            in_silver, in_quarantine = (held.file.last <= batch for batch in taken.values())
            for group, records in enumerate(held.groups):
                if in_silver or in_quarantine:
                    older = held.file.first <= earlier
                    shares.append(Share(held, group, first, in_silver, in_quarantine, older))
                first += records
        with tempfile.TemporaryDirectory(prefix="audit-") as folder:
            layers = []
            for layer, stored, own in (
                ("silver", state.silver, rows),
                ("quarantine", state.quarantine, refused),
                ("ledger", state.ledger, None),
            ):
                saved = Path(folder, layer)
                places[layer].save(saved)
                since = self._since(layer, own) if own is not None else 0
                layers.append(Layer(stored, saved, since))
            judge = partial(Judge, self._feed, state.bronze.root, state.versions, *layers)
            return judged(judge, shares, self._advance)

    def _advance(self, records: int) -> None:
        self._done += records
        self._progress(self._feed.name, self._done, self._state.records.rows)

    def _since(self, layer: str, rows: Numbers) -> int:
        """Return the number of bronze's first record whose row the layer must have, if it ever had."""
        if not self._state.is_pruned(layer):
            return 0
        known = rows[rows != NOWHERE]
        return int(known.min()) if len(known) else self._state.records.rows

    def _check_repeats(self, step: Step, found: JudgedShare, silver: Places, rows: Numbers) -> None:
        state = self._state
        if not state.records.rows:
            return
        pruned = self._state.is_pruned(BRONZE)
        clocks = Clocks(state.records, state.silver, rows, state.planned_batches(), pruned=pruned)
        repeats = Repeats(self._db, self._feed, state.silver, silver, rows, clocks)
        number, unknown = repeats.check(found.absent, step.findings, pruned=self._state.is_pruned(SILVER))
        self._counts["repeats"] = number
        step.not_audited_rows(unknown, "records that may repeat rows which were pruned from silver")


def _places_of(stored: Stored) -> Places:
    return Places.of(*(stored.column(column) for column in _PLACE))
