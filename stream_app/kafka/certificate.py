"""A client's certificate with its private key, checked before a client uses it, and as Java's client takes it.

librdkafka reads whatever PEM OpenSSL reads. Java's client takes a key as PKCS#8 alone, and under Java 17 none that is
encrypted as OpenSSL 3 does (PBES2). So it gets the key decrypted, in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from stream_app.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

_CERTIFICATE = "KAFKA_SSL_CERTIFICATE_LOCATION"
_KEY = "KAFKA_SSL_KEY_LOCATION"
_PASSWORD = "KAFKA_SSL_KEY_PASSWORD"  # noqa: S105 - the setting's name


@dataclass(frozen=True)
class ClientCertificate:
    """Files that prove to a broker who we are (mTLS). The certificate's own comes first, its issuers' may follow."""

    location: Path
    key_location: Path
    """The certificate's file may hold the key, too."""
    key_password: SecretStr

    def check(self) -> None:
        """Raise ConfigError, one line that names the setting, where no client could use the files now."""
        self._read()

    def for_java(self) -> tuple[str, str]:
        """Return the chain and the key as PEM, the key as PKCS#8 and not encrypted. Raise ConfigError as `check`."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415

        chain, key = self._read()
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return "".join(one.public_bytes(Encoding.PEM).decode() for one in chain), key_pem.decode()

    def _read(self) -> tuple[list[Certificate], PrivateKeyTypes]:
        chain, key = self._chain(), self._key()
        if chain[0].public_key() != key.public_key():
            raise ConfigError(f"{_KEY}: the key in {self.key_location} is not the one of {self.location}")
        return chain, key

    def _chain(self) -> list[Certificate]:
        from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - most have no certificate

        content = _content(_CERTIFICATE, self.location)
        try:
            chain = load_pem_x509_certificates(content)
        except ValueError:
            raise ConfigError(f"{_CERTIFICATE}: there is no certificate in PEM in {self.location}") from None
        begins, ends, now = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc, datetime.now(UTC)
        if now > ends:
            raise ConfigError(f"{_CERTIFICATE}: {self.location} expired at {ends:%Y-%m-%dT%H:%M:%SZ}; renew it")
        if now < begins:
            problem = f"{self.location} is not valid before {begins:%Y-%m-%dT%H:%M:%SZ}; look at this machine's clock"
            raise ConfigError(f"{_CERTIFICATE}: {problem}")
        return chain

    def _key(self) -> PrivateKeyTypes:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

        content, password = _content(_KEY, self.key_location), self.key_password.get_secret_value().encode()
        is_encrypted = b"ENCRYPTED" in content  # of PKCS#8 and of OpenSSL's own older form
        if is_encrypted and not password:
            raise ConfigError(f"{_PASSWORD}: is not set, and the key in {self.key_location} is encrypted")
        try:
            return load_pem_private_key(content, password if is_encrypted else None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            if is_encrypted:
                raise ConfigError(f"{_PASSWORD}: does not open the key in {self.key_location}") from None
            raise ConfigError(f"{_KEY}: there is no private key in PEM in {self.key_location}") from None


def _content(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror}") from None
