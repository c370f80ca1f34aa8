"""The audit of one feed, step by step: bronze's places, every record's verdict, repeats, and what follows silver."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb

from stream_app.admission import rule_versions
from stream_app.contract.times import microseconds
from stream_app.feeds.sql import name, view
from stream_app.flows import unread
from stream_app.flows.flow import Flow
from stream_app.layers.aggregate import Running, Stateful
from stream_app.layers.kind import BRONZE, QUARANTINE, SILVER
from stream_app.ops.audit import folders
from stream_app.ops.audit import judge as judges
from stream_app.ops.audit.clocks import Clocks, EventTimes, read_by_us
from stream_app.ops.audit.copies import Copies
from stream_app.ops.audit.derived import Derived, Gone
from stream_app.ops.audit.judge import Judge, Judged, Share
from stream_app.ops.audit.late import LateRows
from stream_app.ops.audit.places import NOWHERE, Numbers, Places
from stream_app.ops.audit.repeats import Repeats
from stream_app.ops.audit.report import Report, Step
from stream_app.ops.audit.state import JUDGED, State
from stream_app.ops.audit.stored import Stored
from stream_app.ops.audit.work import judged
from stream_app.ops.views import one_line
from stream_app.sinks.protocol import sink_of

_PLACE = ("partition", "offset")


class Audit:
    """Audits what a state has opened."""

    def __init__(self, state: State, copies: Copies, max_files: int, progress: Callable[[str, int, int], None]) -> None:
        self._state = state
        self._max_files = max_files
        self._progress = progress
        self._done = 0
        self._feed = state.bronze.feed
        self._counts: dict[str, int] = {}
        self._copies = copies
        self._db = copies.database
        self._db.execute(f"SET preserve_insertion_order = false; CREATE SCHEMA IF NOT EXISTS {name(self._feed.name)}")
        self._db.execute(f"CREATE VIEW _actual_silver AS {state.sql(state.flows[SILVER])}")
        self._derived = [flow for flow in state.flows.values() if flow.sink not in JUDGED]

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
        steps += [self._check_follower(flow, places["silver"]) for flow in self._derived]
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

    def _check_follower(self, flow: Flow, silver: Places) -> Step:
        mirrored = f"{flow.kind.name}'s rows, one for one"
        step = Step(flow.sink, "what silver's rows add up to" if flow.aggregate else mirrored)
        try:
            self._follow(step, flow, silver)
        except duckdb.Error as error:
            step.wrong.append(f"{flow.layout.output} cannot be read: {self._state.files.named(one_line(error))}")
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
        """Note rows that bronze has no record of, but for those that were pruned."""
        foreign = list(places[layer].not_in(places["bronze"]))
        if self._pruned(BRONZE):
            first = {partition: places["bronze"].first(partition) for partition, _ in foreign}
            wrong = [place for place in foreign if (at := first[place[0]]) is not None and place[1] >= at]
            step.not_audited_rows(len(foreign) - len(wrong), f"rows of {layer}, whose records were pruned from bronze")
            foreign = wrong
        step.findings.note(f"in {layer}, not in bronze", foreign)

    def _judged(self, places: dict[str, Places], rows: Numbers) -> Judged:
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
                layers.append(judges.Layer(stored, saved, since))
            versions = [version.columns for version in state.versions]
            judge = partial(Judge, self._feed, state.bronze.root, versions, *layers)
            return judged(judge, shares, self._advance)

    def _advance(self, records: int) -> None:
        self._done += records
        self._progress(self._feed.name, self._done, self._state.records.rows)

    def _since(self, layer: str, rows: Numbers) -> int:
        """Return the number of bronze's first record whose row the layer must have, if it ever had."""
        if not self._pruned(layer):
            return 0
        known = rows[rows != NOWHERE]
        return int(known.min()) if len(known) else self._state.records.rows

    def _check_repeats(self, step: Step, found: Judged, silver: Places, rows: Numbers) -> None:
        state = self._state
        if not state.records.rows:
            return
        pruned = self._pruned(BRONZE)
        clocks = Clocks(state.records, state.silver, rows, state.planned_batches(), pruned=pruned)
        repeats = Repeats(self._db, self._feed, state.silver, silver, rows, clocks)
        number, unknown = repeats.check(found.absent, step.findings, pruned=self._pruned(SILVER))
        self._counts["repeats"] = number
        step.not_audited_rows(unknown, "records that may repeat rows which were pruned from silver")

    def _follow(self, step: Step, flow: Flow, silver: Places) -> None:
        state, sink, counted = self._state, sink_of(flow), self._counted(flow)
        if sink.compared(flow.kind) is None:
            step.beyond(f"{flow.name}: what was sent to {sink.place(flow)} is not read back")
            return
        due, actual = name(f"_due_{flow.sink}"), name(f"_actual_{flow.sink}")
        self._db.execute(f"CREATE VIEW {due} AS {state.due_sql(flow)}")
        if flow.stateful:
            self._db.execute(f"CREATE VIEW {name(f'_late_{flow.sink}')} AS {state.late_sql(flow)}")
        if sink.is_copied and not self._has_copied(step, flow):
            return
        self._db.execute(f"CREATE VIEW {actual} AS {self._copied(flow) if sink.is_copied else state.sql(flow)}")
        step.rows = self._counts[counted] = self._number(actual)
        if (pending := self._number(f"({state.of_layer(flow)})") - self._number(due)) > 0:
            self._counts[f"pending in {flow.sink}"] = pending
        if flow.stateful:
            self._counts[flow.layout.late_name] = self._number(name(f"_late_{flow.sink}"))
            self._check_derived(step, flow, flow.stateful, silver)
        elif flow.kind.running:
            self._check_totals(step, flow, flow.kind.running)
        else:
            self._check_mirror(step, flow)

    def _copied(self, flow: Flow) -> str:
        """Return the SQL for what a copied table had at the flow's committed batch; the table may be ahead of it."""
        copied, stateful = view(self._feed.name, flow.sink), flow.stateful
        if flow.kind.running:
            return f"SELECT * FROM {copied}"
        if stateful is None:
            due = f'(SELECT partition, "offset" FROM {name(f"_due_{flow.sink}")})'
            return f'SELECT * FROM {copied} SEMI JOIN {due} USING (partition, "offset")'
        watermark_us = self._state.positions[flow.sink].watermark_ms * 1000
        return f"SELECT * EXCLUDE (final) FROM {copied} WHERE final AND {stateful.until} <= {watermark_us}"

    def _check_derived(self, step: Step, flow: Flow, stateful: Stateful, silver: Places) -> None:
        state = self._state
        pruned = self._pruned(SILVER)
        gone = Gone(self._newest_gone(flow), self._pruned(flow.sink))
        times = EventTimes(state.silver, self._feed.event_time.field, gone.since)
        unknown = LateRows(self._db, flow, stateful, silver, times, step.findings).check(pruned=pruned)
        step.not_audited_rows(unknown, f"rows of {flow.layout.late_name}, which were pruned from silver")
        watermark_ms = state.positions[flow.sink].watermark_ms
        unknown = Derived(self._db, step.findings).aggregates(flow, stateful, watermark_ms, gone)
        step.not_audited_rows(unknown, f"{stateful.noun}s of {flow.sink}, whose rows or files were pruned")

    def _check_totals(self, step: Step, flow: Flow, running: Running) -> None:
        if self._pruned(SILVER):
            what = f"{running.noun}s of {flow.sink}, since rows that they count were pruned from silver"
            step.not_audited_rows(step.rows, what)
        else:
            Derived(self._db, step.findings).totals(flow, running)

    def _check_mirror(self, step: Step, flow: Flow) -> None:
        derived = Derived(self._db, step.findings)
        assert flow.upstream  # noqa: S101 - it follows one
        elsewhere = sink_of(flow).misplaced(flow, self._state.sound_files(flow), self._state.files.path)
        if elsewhere is not None:
            step.findings.query(self._db, f"{flow.sink} has rows in the folder of another date", elsewhere)
        layer, own = self._pruned(flow.upstream.sink), self._pruned(flow.sink)
        if not layer and not own:
            derived.mirror(flow)
            return
        if (flow.is_divided or flow.to.is_table) and flow.kind.has_places:
            unknown = derived.pruned_by_place(flow, layer=layer, own=own)
        else:
            unknown = derived.pruned_in_order(flow)
        step.not_audited_rows(unknown, f"rows of {flow.sink} or {flow.upstream.sink}, which were pruned from the other")

    def _newest_gone(self, flow: Flow) -> int | None:
        """Return the newest event time that a pruned row may have, in microseconds since the epoch.

        The row is from silver or from the late rows. It is None where silver was not pruned, and 2**62 where silver
        has no file left.
        """
        if not self._pruned(SILVER):
            return None
        state = self._state
        silver = [held.file for held in state.silver.files]
        late = state.late_files(flow)
        oldest = [*silver[:1], *(late[:1] if len(late) >= self._max_files else [])]
        # no record came after its batch was planned, and it may be dated so far ahead of that (contract.py)
        ahead = microseconds(self._feed.event_time.future_tolerance)
        return max(map(read_by_us, oldest)) + ahead if silver else 2**62

    def _has_copied(self, step: Step, flow: Flow) -> bool:
        """Copy what is no file and not copied yet, or note why it is not audited."""
        if problem := self._copies.copy(flow):
            step.holds = ""
            step.not_audited(0, f"{flow.name}: {problem}")
        return not problem

    def _pruned(self, sink: str) -> bool:
        return self._state.gone[sink] >= 0

    def _counted(self, flow: Flow) -> str:
        """Return what the flow's rows are counted as: a sink may be called as something else that is counted."""
        return flow.name if flow.sink in {*self._counts, "repeats"} else flow.sink

    def _number(self, rows: str) -> int:
        return int(self._db.sql(f"SELECT count(*) FROM {rows}").fetchall()[0][0])


def _places_of(stored: Stored) -> Places:
    return Places.of(*(stored.column(column) for column in _PLACE))
