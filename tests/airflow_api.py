"""What a person or a program asks of Airflow's REST API, as admin."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.service.harness import wait_for

DONE = {"success", "failed"}


@dataclass
class AirflowApi:
    """An Airflow that runs at a URL."""

    url: str
    password: str

    def ask(self, path: str, body: dict[str, Any] | None = None, method: str = "") -> Any:
        """Ask its REST API as admin."""
        login = {"username": "admin", "password": self.password}
        token = self._send(f"{self.url}/auth/token", login, "POST", {})["access_token"]
        how = method or ("GET" if body is None else "POST")
        return self._send(f"{self.url}/api/v2/{path}", body, how, {"Authorization": f"Bearer {token}"})

    def _send(self, url: str, body: dict[str, Any] | None, method: str, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own
            url, data, {"Content-Type": "application/json", "Accept": "application/json", **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=300) as reply:  # noqa: S310
                return json.load(reply)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {url}: {error.code} {error.read().decode()}") from None

    def trigger(self, dag: str, **conf: object) -> str:
        """Start a run; its path in the API."""
        wait_for(lambda: dag in {one["dag_id"] for one in self.ask("dags")["dags"]}, f"{dag} to be known")
        self.pause(dag, is_paused=False)
        run = self.ask(f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})
        return f"dags/{dag}/dagRuns/{run['dag_run_id']}"

    def pause(self, dag: str, *, is_paused: bool) -> None:
        """Have a DAG start no runs by its schedule and queue no tasks, or go on."""
        self.ask(f"dags/{dag}?update_mask=is_paused", {"is_paused": is_paused}, "PATCH")

    def task(self, run: str, name: str) -> dict[str, Any]:
        """Return a task of a run."""
        found = self.ask(f"{run}/taskInstances")["task_instances"]
        return next(one for one in found if one["task_id"] == name)

    def wait_for_run(self, run: str) -> str:
        """Return how a run ended."""
        wait_for(lambda: self.ask(run)["state"] in DONE, f"the end of {run}", 1200)
        return str(self.ask(run)["state"])

    def log(self, run: str, task: str, attempt: int = 1) -> str:
        """Return the log of a task."""
        return json.dumps(self.ask(f"{run}/taskInstances/{task}/logs/{attempt}?full_content=true"))

    def logs(self, run: str) -> str:
        """Return the logs of the tasks that did not succeed, for who reads a failed test."""
        tasks = self.ask(f"{run}/taskInstances")["task_instances"]
        states = ", ".join(f"{task['task_id']} is {task['state']}" for task in tasks)
        failed = [task for task in tasks if task["state"] not in {"success", "upstream_failed", None}]
        return "\n".join([states, *(self.log(run, task["task_id"], task["try_number"])[-5000:] for task in failed)])
