"""The audit of what follows bronze's or silver's rows: mirrors, windows, sessions, totals, wherever they are kept."""

from __future__ import annotations

import duckdb

from stream_app.contract.times import microseconds
from stream_app.feeds.sql import name, view
from stream_app.flows.flow import Flow
from stream_app.layers.aggregate import Running, Stateful
from stream_app.layers.kind import SILVER
from stream_app.ops.audit.clocks import EventTimes, read_by_us
from stream_app.ops.audit.copies import Copies
from stream_app.ops.audit.derived import Derived, Gone
from stream_app.ops.audit.late import LateRows, bound_of
from stream_app.ops.audit.places import Places
from stream_app.ops.audit.report import Step
from stream_app.ops.audit.state import State
from stream_app.ops.views import one_line
from stream_app.sinks.protocol import sink_of


class Followers:
    """Checks them, one flow after the other."""

    def __init__(self, state: State, copies: Copies, counts: dict[str, int], most_files: int) -> None:
        """Count the rows of each into `counts`. `most_files` are how many RETENTION=prune keeps."""
        self._state = state
        self._copies = copies
        self._counts = counts
        self._most_files = most_files
        self._db = copies.database

    def check(self, flow: Flow, silver: Places) -> Step:
        """Compare what the flow holds with what it must hold. `silver` has the places of silver's rows."""
        mirrored = f"{flow.kind.name}'s rows, one for one"
        step = Step(flow.sink, "what silver's rows add up to" if flow.aggregate else mirrored)
        try:
            self._follow(step, flow, silver)
        except duckdb.Error as error:
            step.wrong.append(f"{flow.layout.output} cannot be read: {self._state.files.named(one_line(error))}")
        except FileNotFoundError:
            # retention may have taken a file, but none that the newest version of a table names
            if not any(sink_of(flow).flaws(flow)):
                raise
            step.wrong.append(f"{flow.sink} was not compared: a file that its log names is missing")
        return step

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
            self._derived(step, flow, flow.stateful, silver)
        elif flow.kind.running:
            self._totals(step, flow, flow.kind.running)
        else:
            self._mirror(step, flow)

    def _copied(self, flow: Flow) -> str:
        """Return the SQL for what a copied table had at the flow's committed batch; the table may be ahead of it."""
        copied, stateful = view(flow.feed.name, flow.sink), flow.stateful
        if flow.kind.running:
            return f"SELECT * FROM {copied}"
        if stateful is None:
            due = f'(SELECT partition, "offset" FROM {name(f"_due_{flow.sink}")})'
            return f'SELECT * FROM {copied} SEMI JOIN {due} USING (partition, "offset")'
        watermark_us = self._state.positions[flow.sink].watermark_ms * 1000
        return f"SELECT * EXCLUDE (final) FROM {copied} WHERE final AND {stateful.until} <= {watermark_us}"

    def _derived(self, step: Step, flow: Flow, stateful: Stateful, silver: Places) -> None:
        state = self._state
        pruned = state.is_pruned(SILVER)
        gone = Gone(self._newest_gone(flow), state.is_pruned(flow.sink))
        times = EventTimes(state.silver, flow.feed.event_time.field, gone.since)
        went = state.positions[flow.sink].idle_clock
        files = {state.files.path(file.path): bound_of(file, went) for file in state.sound_late_files(flow)}
        unknown = LateRows(self._db, flow, stateful, silver, times, step.findings, files).check(pruned=pruned)
        step.not_audited_rows(unknown, f"rows of {flow.layout.late_name}, which were pruned from silver")
        watermark_ms = state.positions[flow.sink].watermark_ms
        unknown = Derived(self._db, step.findings).aggregates(flow, stateful, watermark_ms, gone)
        step.not_audited_rows(unknown, f"{stateful.noun}s of {flow.sink}, whose rows or files were pruned")

    def _totals(self, step: Step, flow: Flow, running: Running) -> None:
        if self._state.is_pruned(SILVER):
            what = f"{running.noun}s of {flow.sink}, since rows that they count were pruned from silver"
            step.not_audited_rows(step.rows, what)
        else:
            Derived(self._db, step.findings).totals(flow, running)

    def _mirror(self, step: Step, flow: Flow) -> None:
        derived = Derived(self._db, step.findings)
        assert flow.upstream  # noqa: S101 - it follows one
        elsewhere = sink_of(flow).misplaced(flow, self._state.sound_files(flow), self._state.files.path)
        if elsewhere is not None:
            step.findings.query(self._db, f"{flow.sink} has rows in the folder of another date", elsewhere)
        layer, own = self._state.is_pruned(flow.upstream.sink), self._state.is_pruned(flow.sink)
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
        state = self._state
        if not state.is_pruned(SILVER):
            return None
        silver = [held.file for held in state.silver.files]
        late = state.late_files(flow)
        oldest = [*silver[:1], *(late[:1] if len(late) >= self._most_files else [])]
        # no record came after its batch was planned, and it may be dated so far ahead of that (contract.py)
        ahead = microseconds(flow.feed.event_time.future_tolerance)
        return max(map(read_by_us, oldest)) + ahead if silver else 2**62

    def _has_copied(self, step: Step, flow: Flow) -> bool:
        """Copy what is no file and not copied yet, or note why it is not audited."""
        if problem := self._copies.copy(flow):
            step.holds = ""
            step.not_audited(0, f"{flow.name}: {problem}")
        return not problem

    def _counted(self, flow: Flow) -> str:
        """Return what the flow's rows are counted as: a sink may be called as something else that is counted."""
        return flow.name if flow.sink in {*self._counts, "repeats"} else flow.sink

    def _number(self, rows: str) -> int:
        return int(self._db.sql(f"SELECT count(*) FROM {rows}").fetchall()[0][0])
