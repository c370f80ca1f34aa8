"""Quarantine: the records that break the feed's contract, as they came, with every reason."""

from __future__ import annotations

from pyspark.sql import DataFrame

from stream_app import schema


def quarantine(invalid: DataFrame) -> DataFrame:
    """What the reader's contract refused -> schema.QUARANTINE."""
    return invalid.select(*schema.QUARANTINE.names)
