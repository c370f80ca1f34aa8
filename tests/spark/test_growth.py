"""Files from before and after a feed has grown, as docs/outputs.md tells plain readers to take them for one table."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from stream_app.feeds.feed import Feed
from stream_app.settings import PROJECT
from tests.helpers import flow_of, silver_row, write_layer
from tests.sinks.test_conformance import grown, narrow

FOLDER = "data/output/transactions/silver"


@pytest.mark.proves("Outputs grow in place", "silver")
def test_plain_readers_read_files_of_both_widths_as_the_page_says(
    spark: SparkSession, feed: Feed, tmp_path: Path
) -> None:
    flow = flow_of(narrow(feed), "silver", tmp_path)
    write_layer(flow, 0, [silver_row(0, visits=7)], last=1)
    more: dict[str, Any] = {"visits": 2**40, "amount": Decimal("1.2345"), "note": "new", "parts": [{"n": 1}, None]}
    write_layer(flow_of(grown(feed), "silver", tmp_path), 2, [silver_row(1, **more)])
    page = (PROJECT / "docs" / "outputs.md").read_text().partition("### Files from before a feed has grown")[2]
    code = [
        line.strip().replace(FOLDER, str(flow.layout.output))
        for line in re.findall(r"^    .+$", page.partition("\n- ")[0], re.MULTILINE)
    ]
    names: dict[str, Any] = {"duckdb": duckdb, "spark": spark}
    tables = []
    for line in code:
        if "=" in line.partition("(")[0] or line.startswith("import"):
            exec(line, names)  # noqa: S102 - of our own page
        else:
            tables.append(eval(line, names))  # noqa: S307 - of our own page
    found, by_pandas, by_spark = tables
    assert isinstance(by_pandas, pd.DataFrame)
    expected = {("t0", None, 7, Decimal("12.5000")), ("t1", "new", 2**40, Decimal("1.2345"))}
    columns = ["txn_id", "note", "visits", "amount"]
    assert {tuple(row) for row in by_pandas[columns].itertuples(index=False)} == expected
    assert {tuple(row) for row in by_spark.select(columns).collect()} == expected
    assert {*found.select(*columns).fetchall()} == expected
