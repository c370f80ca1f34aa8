"""The connection to PostgreSQL, for the sink that writes its tables and the commands that read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import TupleRow
from pydantic import SecretStr

from stream_app.errors import ConfigError, UnavailableError
from stream_app.flows.flow import Flow

_CONNECT_SECONDS = 5
"""How long to wait for a database that does not answer; psycopg's own default is two minutes."""
_ENCODING = "UTF8"
_FLUSHED = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
_DEFAULTS = {"host": "localhost", "port": "5432"}

Connection = psycopg.Connection[TupleRow]


def connect(url: str) -> Connection:
    """Return a connection. Raises psycopg's errors, and ConfigError for a database that cannot hold every text."""
    connection = psycopg.connect(url, connect_timeout=_CONNECT_SECONDS, client_encoding=_ENCODING)
    encoding, name = connection.info.parameter_status("server_encoding"), connection.info.dbname
    if encoding != _ENCODING:
        connection.close()
        problem = f"DATABASE_URL: the encoding of database {name} is {encoding}, not {_ENCODING}"
        raise ConfigError(f"{problem}; name one made with ENCODING 'UTF8', which can hold every text")
    return connection


def flush_at_commit(connection: Connection) -> None:
    """Have the transaction be on the server's disk once it is committed, though the server may be told otherwise.

    With synchronous_commit = off a server that crashes loses its newest transactions, which Spark counts as written.
    """
    connection.execute(_FLUSHED)


@contextmanager
def connected(flow: Flow, url: SecretStr) -> Iterator[Connection]:
    """Yield a connection to `url`, DATABASE_URL's, one transaction, for the table of that flow.

    Raises UnavailableError, one line without the password, where no database answers or it goes away meanwhile. Raises
    ConfigError for a database of another encoding than UTF8.
    """
    try:
        with connect(url.get_secret_value()) as connection:
            yield connection
    except psycopg.OperationalError as error:
        problem = f"{flow.name}: no database answers at DATABASE_URL: {' '.join(str(error).split())}"
        raise UnavailableError(problem) from None


def database_named(url: SecretStr) -> tuple[str, str]:
    """Return what OpenLineage calls a database: the server without a user and a password, and the database."""
    parts = psycopg.conninfo.conninfo_to_dict(url.get_secret_value())
    host, port = (str(parts.get(key) or default).partition(",")[0] for key, default in _DEFAULTS.items())
    return f"postgres://{host}:{port}", str(parts.get("dbname") or parts.get("user") or "postgres")
