"""A broker as companies run it: TLS, client certificates and two ways to log in, each on a listener of its own."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from local import java
from stream_app.runtime import jvm
from stream_app.settings import PROJECT
from tests.authority import Authority
from tests.ports import free_port

SCRAM_USER, SCRAM_PASSWORD = "app", "correct; horse battery"
KEY_PASSWORD = "open; battery sesame"
OAUTH_ID, OAUTH_SECRET = "stream-app", "token; battery staple"
TOKEN_SECONDS = 20
OAUTH_SCOPE = "records"
_AUDIENCE = "kafka"
# Each request, with what its client calls itself.
_LOG4J = """
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%c %m%n
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
logger.requests.name=kafka.request.logger
logger.requests.level=DEBUG
"""
_JARS = f"{PROJECT}/.jars/kafka/*"


@dataclass
class TokenServer:
    """An OAuth server: gives signed tokens to who knows the secret, by https."""

    url: str
    keys: Path
    """What its signatures are checked by, as JWKS."""
    is_away: bool = False
    """Whether it answers nobody."""
    lifetime: int = TOKEN_SECONDS
    """Seconds until a token expires; one of the past makes tokens that have expired."""
    askers: list[str] = field(default_factory=list)
    """The User-Agent of each token that was given."""


@contextmanager
def token_server(folder: Path, authority: Authority) -> Iterator[TokenServer]:
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.public_key().public_numbers()
    public = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1"}
    public |= {"n": _base64(numbers.n.to_bytes(256)), "e": _base64(numbers.e.to_bytes(3))}
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [public]}))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if made.is_away:
                return self._answer(503, {})
            known = "Basic " + base64.b64encode(f"{OAUTH_ID}:{OAUTH_SECRET}".encode()).decode()
            if self.headers["Authorization"] != known:
                return self._answer(401, {"error": "invalid_client"})
            if asked.get("grant_type") != ["client_credentials"] or asked.get("scope") != [OAUTH_SCOPE]:
                return self._answer(400, {"error": "invalid_scope"})
            made.askers.append(self.headers["User-Agent"] or "")
            token = _signed(key, {"sub": OAUTH_ID, "aud": _AUDIENCE, "scope": OAUTH_SCOPE}, made.lifetime)
            return self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": made.lifetime})

        def _answer(self, status: int, body: dict[str, object]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue("token-server"))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    made = TokenServer(f"https://localhost:{server.server_port}/token", keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def _signed(key: rsa.RSAPrivateKey, claims: dict[str, str], lifetime: int) -> str:
    now = int(time.time())
    times = {"iat": now - 3600, "exp": now + lifetime}
    parts = ({"alg": "RS256", "kid": "1", "typ": "JWT"}, claims | times)
    signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{_base64(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass(frozen=True)
class SecureBroker:
    """Where each listener is, and the settings of a client that it lets in."""

    folder: Path
    authority: Authority
    tokens: TokenServer
    scram_port: int
    certificate_port: int
    oauth_port: int

    @property
    def log(self) -> str:
        return (self.folder / "kafka.log").read_text()


@contextmanager
def secure_broker(folder: Path) -> Iterator[SecureBroker]:
    """A broker that lets nobody in without a password, a certificate or a token."""
    authority = Authority(folder, "authority")
    with token_server(folder, authority) as tokens:
        made = SecureBroker(folder, authority, tokens, free_port(), free_port(), free_port())
        properties = folder / "server.properties"
        properties.write_text(_properties(made, free_port()))
        log4j = folder / "log4j2.properties"
        log4j.write_text(_LOG4J)
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={tokens.keys.as_uri()}"
        run = [java.find(), "-Xmx512m", jvm.log_option(log4j), allowed, "-cp", _JARS]
        scram = ["--add-scram", f"SCRAM-SHA-512=[name={SCRAM_USER},password={SCRAM_PASSWORD}]"]
        storage = [*run, "kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(properties)]
        subprocess.run([*storage, *scram], check=True, capture_output=True)
        with (folder / "kafka.log").open("wb") as log:
            kafka = subprocess.Popen([*run, "kafka.Kafka", str(properties)], stdout=log, stderr=log)
        try:
            _wait_for(made, kafka)
            yield made
        finally:
            kafka.kill()
            kafka.wait()


def _wait_for(broker: SecureBroker, kafka: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert kafka.poll() is None, broker.log[-2000:]
        assert time.monotonic() < deadline, broker.log[-2000:]
        with suppress(OSError), socket.create_connection(("127.0.0.1", broker.oauth_port), timeout=1):
            return
        time.sleep(0.1)


def _properties(broker: SecureBroker, controller_port: int) -> str:
    certificate, key = broker.authority.issue("broker")
    store = broker.folder / "broker-store.pem"
    store.write_bytes(key.read_bytes() + certificate.read_bytes())
    oauth = "org.apache.kafka.common.security.oauthbearer"
    ports = {"SCRAM": broker.scram_port, "CERTIFICATE": broker.certificate_port, "OAUTH": broker.oauth_port}
    return f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners={",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())},\
CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={",".join(f"{name}://localhost:{port}" for name, port in ports.items())}
listener.security.protocol.map=SCRAM:SASL_SSL,CERTIFICATE:SSL,OAUTH:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CERTIFICATE
ssl.keystore.type=PEM
ssl.keystore.location={store}
ssl.truststore.type=PEM
ssl.truststore.location={broker.authority.location}
listener.name.certificate.ssl.client.auth=required
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oauth.oauthbearer.sasl.jaas.config={oauth}.OAuthBearerLoginModule required;
listener.name.oauth.oauthbearer.sasl.server.callback.handler.class={oauth}.OAuthBearerValidatorCallbackHandler
listener.name.oauth.oauthbearer.connections.max.reauth.ms=60000
sasl.oauthbearer.jwks.endpoint.url={broker.tokens.keys.as_uri()}
sasl.oauthbearer.expected.audience={_AUDIENCE}
sasl.oauthbearer.clock.skew.seconds=0
offsets.topic.replication.factor=1
log.dirs={broker.folder / "kafka"}
"""
