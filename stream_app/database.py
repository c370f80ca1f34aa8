"""The connection to PostgreSQL, for the sink that writes its tables and the commands that read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import TupleRow

from stream_app.errors import UnavailableError
from stream_app.flow import Flow
from stream_app.settings import Settings

CONNECT_SECONDS = 5
"""How long to wait for a database that does not answer; psycopg's own default is two minutes."""

Connection = psycopg.Connection[TupleRow]


@contextmanager
def connected(flow: Flow, settings: Settings) -> Iterator[Connection]:
    """A connection to DATABASE_URL, one transaction, for the table of that flow.

    Raises UnavailableError, one line without the password, where no database answers or it goes away meanwhile.
    """
    url = settings.database_url.get_secret_value()
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
            yield connection
    except psycopg.OperationalError as error:
        problem = f"{flow.name}: no database answers at DATABASE_URL: {' '.join(str(error).split())}"
        raise UnavailableError(problem) from None
