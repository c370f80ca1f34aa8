"""Lineage as events of OpenLineage: of each flow what it is, by its declaration, and how its run goes.

Datasets are named as https://openlineage.io/docs/spec/naming says: kafka://host:port and a topic, file and a path,
postgres://host:port and database.schema.table. So a graph of ours joins those of Airflow, dbt or Spark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from openlineage.client.event_v2 import InputDataset, Job, JobEvent, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    RunFacet,
    column_lineage_dataset,
    error_message_run,
    job_type_job,
    output_statistics_output_dataset,
    processing_engine_run,
    schema_dataset,
)

from stream_app.feeds.types import Type
from stream_app.flows.flow import Flow
from stream_app.layers.origin import Origin
from stream_app.settings import Servers
from stream_app.sinks.lineage import columns, decided_by
from stream_app.sinks.protocol import sink_of

_PRODUCER = "urn:kafka-medallion"
Name = tuple[str, str]
"""A dataset's namespace, and its name there."""


@dataclass(frozen=True)
class Written:
    """What a flow has written since its run began."""

    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Events:
    """Makes the events of flows."""

    namespace: str
    """That of the jobs."""
    servers: Servers
    feeds_path: Path
    """The folder from which files of lookups are named."""

    def declared(self, flow: Flow, at: datetime) -> JobEvent:
        """Return what the flow is: its inputs, its output, the columns, and what each is made of."""
        inputs, outputs = self._datasets(flow)
        return JobEvent(
            eventTime=at.isoformat(), producer=_PRODUCER, job=self._job(flow), inputs=inputs, outputs=outputs
        )

    def began(self, flow: Flow, run_id: str, at: datetime) -> RunEvent:
        """Return that a run begins. It says what the flow is, too, for receivers that take no other events."""
        inputs, outputs = self._datasets(flow)
        return self._run(flow, RunState.START, run_id, at, inputs, outputs, {})

    def runs(self, flow: Flow, run_id: str, at: datetime, written: Written) -> RunEvent:
        """Return how much a run has written so far."""
        return self._run(flow, RunState.RUNNING, run_id, at, *self._progress(flow, written), {})

    def ended(self, flow: Flow, run_id: str, at: datetime, written: Written, error: str) -> RunEvent:
        """Return that a run has ended, well or with an error."""
        state = RunState.FAIL if error else RunState.COMPLETE
        facets: dict[str, RunFacet] = {}
        if error:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(error, "PYTHON", producer=_PRODUCER)
        return self._run(flow, state, run_id, at, *self._progress(flow, written), facets)

    def _run(
        self,
        flow: Flow,
        state: RunState,
        run_id: str,
        at: datetime,
        inputs: list[InputDataset],
        outputs: list[OutputDataset],
        facets: Mapping[str, RunFacet],
    ) -> RunEvent:
        engine = processing_engine_run.ProcessingEngineRunFacet(_version("pyspark"), "spark", producer=_PRODUCER)
        run, job = Run(run_id, {"processing_engine": engine, **facets}), self._job(flow)
        time = at.isoformat()
        return RunEvent(
            eventType=state, eventTime=time, producer=_PRODUCER, run=run, job=job, inputs=inputs, outputs=outputs
        )

    def _job(self, flow: Flow) -> Job:
        kind = job_type_job.JobTypeJobFacet("STREAMING", "KAFKA_MEDALLION", "QUERY", producer=_PRODUCER)
        return Job(self.namespace, flow.name, {"jobType": kind})

    def _datasets(self, flow: Flow) -> tuple[list[InputDataset], list[OutputDataset]]:
        """Return the inputs, and the output with its columns and what they are made of."""
        inputs, made = self._inputs(flow), columns(flow)
        fields = {
            name: column_lineage_dataset.Fields([self._input(inputs, one) for one in column.made_of])
            for name, column in made.items()
            if column.made_of
        }
        deciding = [self._input(inputs, one) for one in decided_by(flow)]
        facets: dict[str, DatasetFacet] = {
            "schema": schema_dataset.SchemaDatasetFacet(
                list(_fields({name: one.type for name, one in made.items()})), producer=_PRODUCER
            ),
            "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(fields, deciding, producer=_PRODUCER),
        }
        namespace, name = sink_of(flow).qualified_name(flow, self.servers)
        return [InputDataset(*one) for one in inputs.values()], [OutputDataset(namespace, name, facets=facets)]

    def _progress(self, flow: Flow, written: Written) -> tuple[list[InputDataset], list[OutputDataset]]:
        """Return the inputs and the output with how much was written."""
        counted = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            written.rows, written.bytes, producer=_PRODUCER
        )
        namespace, name = sink_of(flow).qualified_name(flow, self.servers)
        output = OutputDataset(namespace, name, outputFacets={"outputStatistics": counted})
        return [InputDataset(*one) for one in self._inputs(flow).values()], [output]

    def _inputs(self, flow: Flow) -> dict[str, Name]:
        """Return what the flow reads: the topic or the layer before as "", and lookups by their names."""
        feed = flow.feed
        if flow.upstream is None:
            return {"": (self.servers.kafka.namespace, feed.topic)}
        found = {"": sink_of(flow.upstream).qualified_name(flow.upstream, self.servers)}
        asked = {one.lookup for column in columns(flow).values() for one in column.made_of}
        asked |= {one.lookup for one in decided_by(flow)}
        for name, declared in feed.lookups.items():
            if name in asked:
                # a query has no name of its own
                file = str((self.feeds_path / declared.file).resolve()) if declared.file else ""
                found[name] = ("file", file) if file else (self.namespace, f"{feed.name}.lookups.{name}")
        return found

    def _input(self, inputs: Mapping[str, Name], one: Origin) -> column_lineage_dataset.InputField:
        kind = "DIRECT" if one.how.is_direct else "INDIRECT"
        how = column_lineage_dataset.Transformation(kind, str(one.how), one.by or None)
        return column_lineage_dataset.InputField(*inputs[one.lookup], one.column, [how])


def _fields(types: Mapping[str, Type]) -> Iterator[schema_dataset.SchemaDatasetFacetFields]:
    """Yield columns with their types, and the members of structs below them."""
    for position, (name, one) in enumerate(types.items(), 1):
        members = one.parts if one.name.startswith("struct<") else {}
        yield schema_dataset.SchemaDatasetFacetFields(
            name, one.name, ordinal_position=position, fields=list(_fields(members))
        )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # in a zip
        return "unknown"
