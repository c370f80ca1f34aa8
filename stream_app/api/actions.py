"""What changes something: replay and reset, each previewed first, and the audit, which only takes time."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from stream_app import logs
from stream_app.api.answers import JSON, told
from stream_app.api.audits import AuditRun, Audits
from stream_app.api.context import Context
from stream_app.api.formats import encode
from stream_app.api.guard import Caller
from stream_app.api.problems import Problem, known_only
from stream_app.errors import ConfigError
from stream_app.ops.replay import ReplayReport, replay
from stream_app.ops.reset import ResetPlan, apply, planned
from stream_app.sources.lookups import pin_of_now

Name = Annotated[str, Field(max_length=63)]
Feed = Annotated[str, Field(min_length=1, max_length=63)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReplayOf(_Body):
    """Which records of quarantine to judge again."""

    feed: Feed
    reason: Annotated[str, Field(max_length=512)] = ""
    """Only records with it: missing:amount, or missing for that of any field."""
    allow_late: bool = False
    """Let lateness keep no record out."""


class ReplayAsShown(ReplayOf):
    """The same, with the token of the preview."""

    token: Annotated[str, Field(min_length=1, max_length=128)]


class ResetOf(_Body):
    """What to delete and read again, with all that follows it."""

    feed: Feed
    sink: Name = ""
    """bronze where it is empty."""
    to: Annotated[str, Field(max_length=64)] = ""
    """Where bronze reads Kafka again: earliest, latest or an ISO time. STARTING_OFFSETS where it is empty."""


class ResetAsShown(ResetOf):
    """The same, with the token of the preview."""

    token: Annotated[str, Field(min_length=1, max_length=128)]


class AuditOf(_Body):
    """What to audit."""

    feed: Feed
    sink: Name = ""
    """Only this sink, and bronze, silver and quarantine; all where it is empty."""


def _json_only(content_type: Annotated[str, Header()] = "") -> None:
    """Refuse forms, which a page of any site may send without being asked."""
    if content_type.partition(";")[0].strip() != JSON:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Type: must be {JSON}")


def routes(context: Context, audits: Audits) -> APIRouter:
    """Return the operations."""
    router = APIRouter(prefix="/api", tags=["operations"], dependencies=[Depends(_json_only), Depends(known_only)])
    operate, settings = context.guard.needs("operate"), context.settings

    @router.post("/replay/preview", response_model=ReplayReport, dependencies=[operate])
    def preview_replay(asked: ReplayOf) -> Response:
        """Tell what a replay would take out of quarantine, by reason. `token` names just that."""
        return _answer(_replay(asked, is_dry=True))

    @router.post("/replay", response_model=ReplayReport)
    def run_replay(asked: ReplayAsShown, caller: Caller = operate) -> Response:
        """Replay what the preview showed, or nothing: 409 where that has changed."""
        done = _replay(asked, token=asked.token)
        logs.info(f"{asked.feed} replayed", records=done.records, reason=asked.reason or "any", by=caller.name)
        return _answer(done)

    @router.post("/reset/preview", dependencies=[operate])
    def preview_reset(asked: ResetOf) -> Response:
        """Tell what a reset would delete. 409 while the service runs. A reset that was cut short is finished first."""
        with _planned(asked) as plan:
            return _answer(_shown(plan))

    @router.post("/reset")
    def run_reset(asked: ResetAsShown, caller: Caller = operate) -> Response:
        """Delete what the preview showed, or nothing: 409 where that has changed, and while the service runs."""
        with _planned(asked) as plan:
            if plan.token != asked.token:
                raise ConfigError("what a reset would delete has changed since it was shown; look at it again")
            apply(plan)
        logs.info(f"{asked.feed} reset", sinks=",".join(sink.name for sink in plan.sinks), by=caller.name)
        return _answer(_shown(plan))

    @router.post("/audit", response_model=AuditRun, status_code=HTTPStatus.ACCEPTED)
    def start_audit(asked: AuditOf, caller: Caller = operate) -> Response:
        """Start an audit of a feed, in a process of its own. Location is where to follow and read it."""
        sinks = {flow.sink for flow in context.flows(asked.feed)}
        if asked.sink not in {"", *sinks}:
            raise Problem(
                HTTPStatus.NOT_FOUND, f"{asked.feed} has no sink {asked.sink}; it has {', '.join(sorted(sinks))}"
            )
        run = audits.start(asked.feed, asked.sink)
        logs.info(f"{asked.feed} audited", by=caller.name)
        return Response(encode(run), HTTPStatus.ACCEPTED, {"Location": f"/api/audit/{run.id}"}, JSON)

    def _planned(asked: ResetOf) -> AbstractContextManager[ResetPlan]:
        context.flows(asked.feed)
        flows = context.declared.fresh(asked.feed)
        return planned(flows, settings.kafka, settings.starting_offsets, asked.sink, asked.to)

    def _replay(asked: ReplayOf, *, is_dry: bool = False, token: str = "") -> ReplayReport:
        context.flows(asked.feed)
        flows = context.declared.fresh(asked.feed)
        (done,) = replay(
            settings.output_path,
            flows,
            reason=asked.reason,
            allow_late=asked.allow_late,
            is_dry=is_dry,
            token=token,
            pin_of=partial(pin_of_now, folder=settings.feeds_path, database_url=settings.database_url),
        )
        return done

    return router


def reading(context: Context, audits: Audits) -> APIRouter:
    """Return the operations that read what was started."""
    needed = [context.guard.needs("read"), Depends(known_only)]
    router = APIRouter(prefix="/api", tags=["operations"], dependencies=needed)

    @router.get("/audit", response_model=list[AuditRun])
    def all_audits(request: Request) -> Response:
        """List the audits that this process has started, the newest first."""
        return told(request, audits.all())

    @router.get("/audit/{identity}", response_model=AuditRun)
    def one_audit(request: Request, identity: str) -> Response:
        """Tell how far an audit is, and once it is done its report."""
        run = audits.get(identity)
        if run is None:
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no audit {identity}; the newest are at /api/audit")
        return told(request, run)

    return router


def _answer(value: object) -> Response:
    return Response(encode(value), media_type=JSON, headers={"Cache-Control": "no-store"})


def _shown(plan: ResetPlan) -> dict[str, object]:
    return {"finished": plan.finished, "sinks": plan.sinks, "token": plan.token}
