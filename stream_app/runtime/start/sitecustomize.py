"""What each Python that Spark starts runs first (module `site`): pyspark is taken from the folder that pip made.

Spark puts pyspark.zip and py4j's before everything on PYTHONPATH. Python keeps nothing compiled of what it imports from
a zip, so each of the dozen processes of a start would compile pyspark again (docs/benchmark.md, "What paid"). Only the
zips of a pyspark that is installed here are passed over: another Spark's may be of another version. This folder is the
last on PYTHONPATH, so that it takes the place of nobody else's `sitecustomize`.

The daemons from which Spark forks a planner for each query and each source are pyspark's own, whatever
spark.python.daemon.module says. What a planner needs of ours they import here, once (runtime/python_daemon.py).
"""

import sys
from contextlib import suppress
from pathlib import Path

_zips = {Path(folder, "pyspark", "python", "lib").resolve() for folder in sys.path}
sys.path[:] = [entry for entry in sys.path if not (entry.endswith(".zip") and Path(entry).resolve().parent in _zips)]

_planners = {"pyspark.sql.worker.create_data_source", "pyspark.sql.worker.plan_data_source_read"}
if sys.orig_argv[1:3] == ["-m", "pyspark.daemon"] and sys.orig_argv[-1] in _planners:
    with suppress(ImportError):  # it is somebody else's Spark
        import stream_app.sources.layer_reader  # noqa: F401
