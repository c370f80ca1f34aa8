"""Run by Airflow's own Python: print what a DAG is, or run it whole; a line of JSON at the end."""

# mypy: ignore-errors
# Airflow is not in the environment that types are checked in.

import json
import sys

from airflow.dag_processing.dagbag import DagBag

folder, name, *conf = sys.argv[1:]
sys.path.append(folder)  # as Airflow does, which reads a folder of DAGs as a bundle
bag = DagBag(dag_folder=folder)
assert not bag.import_errors, bag.import_errors
dag = bag.dags[name]
if conf:
    run = dag.test(run_conf=json.loads(conf[0]))
    states = {one.task_id: str(one.state) for one in run.get_task_instances()}
    found = {"state": str(run.state), "tasks": states}
else:
    found = {
        "tasks": {
            task.task_id: {
                "after": sorted(task.downstream_task_ids),
                "retries": task.retries,
                "is_setup": task.is_setup,
                "is_teardown": task.is_teardown,
                "outlets": [asset.name for asset in task.outlets],
                "timeout": task.execution_timeout is not None,
                "reschedules": getattr(task, "mode", "") == "reschedule",
            }
            for task in dag.tasks
        },
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "params": sorted(dag.params),
    }
print(json.dumps(found))
