"""pyspark's daemon, with what its workers need imported before they are forked: spark.python.daemon.module.

Each worker would import it by itself: half a second a worker, and as many copies in memory. pyspark leaves it to them
because some modules start threads, which a fork does not copy. numpy and Arrow see to their threads themselves
(pthread_atfork), and nothing is computed here that would hold a lock.

A worker also collects garbage after each task. Of what is imported there is none, but to look through it takes 50 ms,
as long as the task of a small batch. Frozen before the fork, it is left out.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module

from pyspark.daemon import manager

# pandas: pyarrow imports it by itself, to tell its arrays from others. The registry: every kind and sink, and with them
# all of ours that a task unpickles. It imports nothing of deltalake, which must not be used before a fork.
_NEEDED = ("pandas", "pyarrow.parquet", "stream_app.sinks.registry", "stream_app.sources.layer_reader")


def main() -> None:
    """Be the daemon of the worker module that is the only argument, as `python -m pyspark.daemon` would."""
    for module in (sys.argv[1], *_NEEDED):
        import_module(module)
    gc.freeze()
    manager()


if __name__ == "__main__":
    main()
