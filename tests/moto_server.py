"""moto's server, one request after another: python -m tests.moto_server PORT.

moto looks whether a key is there and then writes it, and under load two threads of its own came between each other.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_ONE = threading.Lock()


def main(port: int) -> None:
    """Serve on 127.0.0.1 until it is killed."""
    moto: Any = DomainDispatcherApplication(create_backend_app)

    def one_after_another(environ: Any, start_response: Any) -> Iterable[bytes]:
        with _ONE:
            return [*moto(environ, start_response)]

    run_simple("127.0.0.1", port, one_after_another, threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
