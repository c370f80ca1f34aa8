"""What a failed query says: its cause in one line, and whether that passes by itself."""

from __future__ import annotations

import re

from stream_app.errors import UnavailableError
from stream_app.observe.monitor import LONGEST_ERROR

# Our own errors as Python shows them at the end of a stack, be it a task's: what was raised first is above.
_OWN = re.compile(
    r"^(?:[\w.]+: )?(?:stream_app\.errors\.)?(StreamAppError|ConfigError|UnavailableError): (.+)$", re.MULTILINE
)
# What Kafka's client in Spark's driver fails with while leaders move or brokers are away. If it is for good, the next
# start of the query finds what a person must do. And a busy machine may not start a reader's Python in the ten seconds
# that Spark 4.2.0 gives it.
_PASSING = re.compile(
    r"Failed to create new KafkaAdminClient"  # it has no token, and does not say whether the OAuth server is away
    r"|Python worker failed to connect back"
    r"|org\.apache\.kafka\.common\.errors\.(?:Timeout|UnknownTopicOrPartition|UnknownTopicId|LeaderNotAvailable"
    r"|NotLeaderOrFollower|ReplicaNotAvailable|BrokerNotAvailable|Network|Disconnect|KafkaStorage|OffsetNotAvailable"
    r"|FencedLeaderEpoch|UnknownLeaderEpoch|NotController|CoordinatorNotAvailable|NotCoordinator"
    r"|SaslAuthentication|SslAuthentication)Exception"
)


def passes(error: str) -> bool:
    """Return whether that passes by itself, as a server that is away for now: then it is no failure of the query."""
    own = _OWN.findall(error)
    return own[-1][0] == UnavailableError.__name__ if own else _PASSING.search(error) is not None


def one_line(error: str) -> str:
    """Return the cause of a failure without its stack, of LONGEST_ERROR characters at most.

    An error of ours comes as it says itself. Else it is the innermost error, else the first line.
    """
    if own := _OWN.findall(error):
        return str(own[-1][1])[:LONGEST_ERROR]
    python = re.findall(r"^[\w.]*(?:Error|Expired): .+$", error, re.MULTILINE)
    # py4j shows the Java error behind a colon, and what caused that further down
    java = re.findall(r"^(?:Caused by)?: (.+)$", error, re.MULTILINE)
    candidates = [line for line in (*java[-1:], *python[-1:]) if not line.startswith("Py4J")]
    lines = candidates or [line.strip() for line in error.splitlines() if line.strip()] or ["unknown"]
    return str(lines[-1 if candidates else 0])[:LONGEST_ERROR]
