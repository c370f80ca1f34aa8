"""Certificates for tests: of an authority of their own, for whatever time they need."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)


class Authority:
    """An issuer of certificates; its own is at `location`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = rsa.generate_private_key(65537, 2048)
        self._name = _name(name)
        self.location = folder / f"{name}.pem"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        mine = self._unsigned(name, self._key, _DAY).add_extension(basic, critical=True)
        self.location.write_bytes(mine.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(self, name: str, valid: timedelta = _DAY, password: str = "") -> tuple[Path, Path]:
        """Return the files of a certificate and of its key; valid from two days ago until `valid` from now."""
        key = rsa.generate_private_key(65537, 2048)
        local = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        signed = self._unsigned(name, key, valid).add_extension(local, critical=False).sign(self._key, hashes.SHA256())
        certificate, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(Encoding.PEM))
        closed = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, closed))
        return certificate, key_file

    def _unsigned(self, name: str, key: rsa.RSAPrivateKey, valid: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder(issuer_name=self._name, subject_name=_name(name), public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * _DAY)
            .not_valid_after(now + valid)
        )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
