"""Why we are not let in, as librdkafka tells it beside requests that merely get no answer."""

from __future__ import annotations

import re

from confluent_kafka import KafkaError

from stream_app.errors import StreamAppError, UnavailableError
from stream_app.kafka.connection import KafkaConnection, OAuth

_LONGEST = 400
# By TLS 1.3 a broker refuses a certificate once the connection is made: librdkafka takes that for a lost one.
_ALERT = "SSL alert number"
_NO_TOKEN = "Failed to acquire SASL OAUTHBEARER token: "  # noqa: S105 - what librdkafka says
# What an OAuth server says by RFC 6749, and what is wrong with its certificate, its token or its URL.
_FOR_GOOD = re.compile(r'"error"|unexpired|certificate|trust anchors|JSON|URL|HTTP error 4\d\d')


def refusal(kafka: KafkaConnection, error: KafkaError) -> StreamAppError | None:
    """Return what names the settings that a broker or the OAuth server does not accept; None for other errors.

    It is an UnavailableError where the OAuth server does not answer: that is waited for as a broker is.
    """
    cause = " ".join(error.str().split())[:_LONGEST]
    does_not = f"{kafka.bootstrap_servers} does not let us in ({cause})"
    if isinstance(kafka.login, OAuth) and cause.startswith(_NO_TOKEN):
        kind = StreamAppError if _FOR_GOOD.search(cause) else UnavailableError
        told = f"{kafka.login.token_endpoint_url} gives us no token ({cause.removeprefix(_NO_TOKEN)})"
        return kind(f"KAFKA_SASL_OAUTHBEARER_*: {told}")
    if isinstance(kafka.login, OAuth) and error.code() == KafkaError._AUTHENTICATION:
        # while the server is away, a client shows its last token, which has expired
        return UnavailableError(f"KAFKA_SASL_OAUTHBEARER_*: {does_not}")
    if error.code() == KafkaError._AUTHENTICATION:
        return StreamAppError(f"KAFKA_SASL_USERNAME, _PASSWORD: {does_not}")
    if _ALERT in cause:
        return StreamAppError(f"KAFKA_SSL_CERTIFICATE_LOCATION: {does_not}")
    if error.code() == KafkaError._SSL:
        return StreamAppError(f"KAFKA_SSL_CA_LOCATION: {kafka.bootstrap_servers} is not to be trusted ({cause})")
    return None
