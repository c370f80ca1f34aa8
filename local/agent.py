"""The agent in the broker's JVM that serves its metrics for Prometheus, on BROKER_METRICS_PORT."""

from __future__ import annotations

import os

from pydantic import Field
from pydantic_settings import BaseSettings

from local import ports
from local.places import JARS, ROOT, shown
from stream_app.errors import ConfigError
from stream_app.settings_sources import SOURCES, read

_RULES = ROOT / "deploy" / "kafka" / "jmx.yml"


class BrokerSettings(BaseSettings):
    """What the local stack's broker has of its own. Each field is the environment variable of its name in capitals."""

    model_config = SOURCES

    broker_metrics_port: int = Field(default=0, ge=0, le=65535)
    """The port of the broker's metrics, for Prometheus. 0: none. Compose has them inside of its network, on 5556."""


def load_metrics_port() -> int:
    """Read BROKER_METRICS_PORT, 0 for none. Raises ConfigError, one line."""
    return read(BrokerSettings).broker_metrics_port


def options(port: int) -> list[str]:
    """Return what Java is told to serve a broker's metrics on that port of this machine; nothing for 0.

    Raises ConfigError where the port is taken, since the broker would end with it, or the agent was not fetched.
    """
    if not port:
        return []
    if not ports.is_free(port):
        problem = f"port {port} is taken by another program; stop that, or choose another port"
        raise ConfigError(f"BROKER_METRICS_PORT: {problem}: BROKER_METRICS_PORT={ports.next_free(port + 1)}")
    agent = next((JARS / "monitor").glob("jmx_prometheus_javaagent-*.jar"), None)
    if agent is None:
        problem = f"there is no agent in {shown(JARS / 'monitor')}; fetch it with: make setup"
        raise ConfigError(problem)
    # Relative to where Kafka runs: the agent takes colons in paths for its own.
    return [f"-javaagent:{os.path.relpath(agent, ROOT)}={ports.HOST}:{port}:{os.path.relpath(_RULES, ROOT)}"]
