"""DELTA_PATH and the settings of object stores, named as the stores' own tools name them, and what they make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr, TypeAdapter, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from stream_app.paths import FromRoot

_PATH = TypeAdapter(FromRoot)
# No sign that means something in a URL, a pattern or SQL.
URL = re.compile(r"(s3|gs|az)://[a-z0-9][a-z0-9._-]{1,62}(/[A-Za-z0-9_=][A-Za-z0-9._=-]*)*/?")
"""Where a table may lie in a store."""
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_ENDPOINT = re.compile(r"https?://[^\s/@?#]+(/[^\s@?#]*)?")


@dataclass(frozen=True)
class Access:
    """What the client of a kind of stores is told. Its text holds no secret."""

    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Endpoint, region and credentials of a store, as obstore and delta-rs call them."""
    hidden: tuple[str, ...] = field(default=(), repr=False)
    """Those of the values that are never shown."""


@dataclass(frozen=True)
class TableRoot:
    """Where tables lie: those of all feeds, or a single one. Its text holds no secret."""

    location: str
    """A path from the root on, or a URL as s3://bucket/prefix."""
    stores: tuple[tuple[str, Access], ...] = ()
    """By scheme, how stores are reached."""
    named_by: str = "DELTA_PATH"
    """The setting or the key that says so, for errors."""

    def at(self, location: str, named_by: str) -> TableRoot:
        """Return another place, whose store is reached in the same way."""
        return replace(self, location=location, named_by=named_by)

    @property
    def escape(self) -> str:
        """What a path has that delta-rs takes for another sign, as %20, and so looks elsewhere; else ""."""
        # it follows links before that
        found = None if "://" in self.location else _ESCAPE.search(str(Path(self.location).resolve()))
        return found[0] if found else ""

    @property
    def access(self) -> Access:
        """How its store is reached; nothing of a path."""
        return dict(self.stores).get(self.location.partition("://")[0], Access())


def _location(value: str) -> str:
    if "://" not in value:
        return str(_PATH.validate_python(value)) if value else ""
    if not URL.fullmatch(value):
        problem = f'"{value}" is neither a folder nor a URL such as s3://bucket/prefix, gs://… or az://container/prefix'
        raise ValueError(problem)
    return value.rstrip("/")


def _endpoint(value: str) -> str:
    if value and not _ENDPOINT.fullmatch(value):
        # not as it is: it may have a password in it
        problem = f'"{value[:8]}…" is no URL such as https://storage.example.com:9000, without a user or a password'
        raise ValueError(problem)
    return value.rstrip("/")


class StoreSettings(BaseSettings):
    """Where tables lie that are not under OUTPUT_PATH. What a store is not told it looks for as its own tools do."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    delta_path: Annotated[str, AfterValidator(_location)] = ""
    """Where tables of delta lie: a folder, or s3://bucket/prefix, gs://… or az://container/prefix. Unset: OUTPUT_PATH.
    Everything else stays under OUTPUT_PATH. A store must honour conditional puts, which each start tries."""

    aws_endpoint_url: Annotated[str, AfterValidator(_endpoint)] = ""
    """The server of s3://, if it is not Amazon's."""
    aws_allow_http: bool = False
    """1: take an AWS_ENDPOINT_URL or AZURE_STORAGE_ENDPOINT that is not encrypted."""
    aws_region: str = "us-east-1"
    """The region of the bucket."""
    aws_virtual_hosted_style_request: bool = False
    """1: the bucket is a part of the host's name. 0: of the path, which most servers but Amazon's need."""
    aws_access_key_id: SecretStr = SecretStr("")
    """The key's name. Unset, as with the next: the role of the machine or the container. Never logged."""
    aws_secret_access_key: SecretStr = SecretStr("")
    """The key. Never logged."""
    aws_session_token: SecretStr = SecretStr("")
    """The token of a key that is for some hours. Never logged."""

    azure_storage_account: str = ""
    """The account of az://."""
    azure_storage_key: SecretStr = SecretStr("")
    """Its key. Unset: AZURE_STORAGE_SAS_TOKEN, or the identity of the machine. Never logged."""
    azure_storage_sas_token: SecretStr = SecretStr("")
    """A shared access signature. Never logged."""
    azure_storage_endpoint: Annotated[str, AfterValidator(_endpoint)] = ""
    """The server of az://, if it is not Microsoft's. Its URL ends with the account, as https://host:10000/account."""
    azure_storage_use_emulator: bool = False
    """1: az:// is Azurite, at 127.0.0.1:10000."""

    google_application_credentials: str = ""
    """The file with the key of a service account, for gs://. Unset: the account of the machine."""

    @model_validator(mode="after")
    def _is_encrypted(self) -> StoreSettings:
        for name in ("aws_endpoint_url", "azure_storage_endpoint"):
            if getattr(self, name).startswith("http://") and not self.aws_allow_http:
                problem = "begins with http://, so records go unencrypted; use https://, or set AWS_ALLOW_HTTP=1 where"
                raise ValueError(f"{name.upper()}: {problem} that is meant")
        if bool(self.aws_access_key_id.get_secret_value()) != bool(self.aws_secret_access_key.get_secret_value()):
            raise ValueError("AWS_SECRET_ACCESS_KEY: it and AWS_ACCESS_KEY_ID are set together, or not at all")
        return self

    def table_root(self, otherwise: str) -> TableRoot:
        """Return where tables lie, `otherwise` where DELTA_PATH is not set."""
        stores = tuple((scheme, _access(given)) for scheme, given in self._given().items())
        root = TableRoot(self.delta_path or otherwise, stores)
        return root if self.delta_path else replace(root, named_by="OUTPUT_PATH")

    def _given(self) -> dict[str, dict[str, str | SecretStr]]:
        """Return by scheme what its client is told."""
        allow_http = {"allow_http": "true"} if self.aws_allow_http else {}
        return {
            "s3": {
                "aws_endpoint_url": self.aws_endpoint_url,
                "aws_region": self.aws_region,
                "aws_virtual_hosted_style_request": str(self.aws_virtual_hosted_style_request).lower(),
                "aws_access_key_id": self.aws_access_key_id,
                "aws_secret_access_key": self.aws_secret_access_key,
                "aws_session_token": self.aws_session_token,
                "aws_conditional_put": "etag",  # the default, which no later version must undo
                **allow_http,
            },
            "az": {
                "azure_storage_account_name": self.azure_storage_account,
                "azure_storage_account_key": self.azure_storage_key,
                "azure_storage_sas_token": self.azure_storage_sas_token,
                "azure_storage_endpoint": self.azure_storage_endpoint,
                "azure_storage_use_emulator": "true" if self.azure_storage_use_emulator else "",
                **allow_http,
            },
            "gs": {"google_application_credentials": self.google_application_credentials},
        }


def _access(given: Mapping[str, str | SecretStr]) -> Access:
    texts = {key: value.get_secret_value() if isinstance(value, SecretStr) else value for key, value in given.items()}
    hidden = tuple(texts[key] for key, value in given.items() if isinstance(value, SecretStr) and texts[key])
    return Access(tuple((key, value) for key, value in texts.items() if value), hidden)
