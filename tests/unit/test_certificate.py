"""A client's certificate: what is wrong with its files is one line before a start; Java's client can read its key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from stream_app.errors import ConfigError
from stream_app.kafka.certificate import ClientCertificate
from tests.authority import Authority

PASSWORD = "zq'x"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


def _client(files: tuple[Path, Path], password: str = "") -> ClientCertificate:
    return ClientCertificate(*files, SecretStr(password))


@pytest.mark.parametrize("closed", [NoEncryption(), BestAvailableEncryption(PASSWORD.encode())])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_java_gets_each_key_as_it_can_read_it(
    form: PrivateFormat, closed: KeySerializationEncryption, authority: Authority
) -> None:
    """Java's client takes PKCS#8 alone, and under Java 17 none that is encrypted as OpenSSL 3 does."""
    certificate, file = authority.issue("client")
    open_pkcs8 = file.read_text()
    key = load_pem_private_key(open_pkcs8.encode(), None)
    file.write_bytes(key.private_bytes(Encoding.PEM, form, closed))
    chain, given = _client((certificate, file), PASSWORD).for_java()
    assert (chain, given) == (certificate.read_text(), open_pkcs8)


def test_one_file_may_hold_certificate_issuers_and_key(authority: Authority) -> None:
    certificate, key = authority.issue("all")
    certificate.write_text(certificate.read_text() + authority.location.read_text() + key.read_text())
    chain, given = _client((certificate, certificate)).for_java()
    assert chain.count("BEGIN CERTIFICATE") == 2
    assert "KEY" not in chain
    assert given == key.read_text()


def _no_certificate(certificate: Path, _key: Path) -> None:
    certificate.write_text("nothing of the kind")


def _gone(certificate: Path, _key: Path) -> None:
    certificate.unlink()


def _a_folder(_certificate: Path, key: Path) -> None:
    key.unlink()
    key.mkdir()


def _no_key(_certificate: Path, key: Path) -> None:
    key.write_text("nothing of the kind")


def _cut_off(_certificate: Path, key: Path) -> None:
    key.write_text(key.read_text()[:-300])


def _of_another(_certificate: Path, key: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_no_certificate, r"KAFKA_SSL_CERTIFICATE_LOCATION: there is no certificate in PEM in \S+/client\.pem$"),
        (_gone, r"KAFKA_SSL_CERTIFICATE_LOCATION: \S+/client\.pem cannot be read: No such file or directory$"),
        (_a_folder, r"KAFKA_SSL_KEY_LOCATION: \S+/client\.key cannot be read: Is a directory$"),
        (_no_key, r"KAFKA_SSL_KEY_LOCATION: there is no private key in PEM in \S+/client\.key$"),
        (_cut_off, r"KAFKA_SSL_KEY_LOCATION: there is no private key in PEM in \S+/client\.key$"),
        (_of_another, r"KAFKA_SSL_KEY_LOCATION: the key in \S+/client\.key is not the one of \S+/client\.pem$"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_that_names_the_setting(
    spoil: Callable[[Path, Path], None], told: str, tmp_path: Path
) -> None:
    files = Authority(tmp_path, "authority").issue("client")
    spoil(*files)
    with pytest.raises(ConfigError, match=told):
        _client(files).check()


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("", r"KAFKA_SSL_KEY_PASSWORD: is not set, and the key in \S+/closed\.key is encrypted$"),
        ("zq-wrong", r"KAFKA_SSL_KEY_PASSWORD: does not open the key in \S+/closed\.key$"),
    ],
)
def test_a_password_that_is_wrong_or_missing_is_told_and_not_shown(
    password: str, told: str, authority: Authority
) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        _client(authority.issue("closed", password=PASSWORD), password).check()
    assert "zq" not in str(error.value)


def test_a_password_for_a_key_that_has_none_is_no_mistake(authority: Authority) -> None:
    """As OpenSSL takes it."""
    _client(authority.issue("open"), PASSWORD).check()


def test_a_certificate_that_has_expired_is_refused(authority: Authority) -> None:
    told = r"KAFKA_SSL_CERTIFICATE_LOCATION: \S+/old\.pem expired at 20\d\d-[-0-9T:]+Z; renew it$"
    with pytest.raises(ConfigError, match=told):
        _client(authority.issue("old", valid=timedelta(seconds=-5))).check()


def test_its_text_holds_no_secret(authority: Authority) -> None:
    assert "zq" not in repr(_client(authority.issue("client"), PASSWORD))
