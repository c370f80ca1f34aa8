"""What was asked before, and which rows its answer is made of: it takes a look at these to answer it once more."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from fastapi import Request

from stream_app.api.versions import Source
from stream_app.flows.flow import Flow

_MOST, _LONGEST = 2000, 2048


class Asked(NamedTuple):
    """A question as it came: the same text has the same answer while the rows are the same."""

    path: str
    query: bytes
    accept: str

    @classmethod
    def of(cls, request: Request) -> Asked:
        """Return what a request asks for."""
        return cls(request.scope["path"], request.scope["query_string"], request.headers.get("accept", ""))


@dataclass(frozen=True)
class Question:
    """What a question was found to mean."""

    flows: tuple[Flow, ...]
    """The flows as they were declared then."""
    sources: tuple[Source, ...]
    media: str
    route: object
    """By which it is counted."""


@dataclass
class Questions:
    """Those that were answered, a bounded number: the oldest goes first."""

    _held: OrderedDict[Asked, Question] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def get(self, asked: Asked) -> Question | None:
        """Return what it means, if it was answered before."""
        return self._held.get(asked)

    def note(self, asked: Asked, question: Question) -> None:
        """Note what it means, where the flows are still those that its rows are of."""
        declared = set(map(id, question.flows))
        is_of_today = all(id(source.flow) in declared for source in question.sources)
        if not declared or not is_of_today or sum(map(len, asked)) > _LONGEST:
            return
        with self._lock:
            self._held[asked] = question
            if len(self._held) > _MOST:
                self._held.popitem(last=False)
