"""The CSV mirror: silver's declared fields as RFC 4180 text."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from stream_app.feed import Feed

LINE = "line"
LINE_SEPARATOR = "\r\n"
_FORMULA = r"^[=+\-@\t\r\n]"


def header(feed: Feed) -> str:
    """The first line of each file, with its line separator."""
    return ",".join(feed.fields) + LINE_SEPARATOR


def raw_csv(rows: DataFrame, feed: Feed) -> DataFrame:
    """Silver's rows -> one column LINE, a CSV record each, without its line separator.

    Text is quoted where it must be, times are ISO-8601 in UTC with microseconds. Text that a spreadsheet would run
    as a formula gets a leading apostrophe (OWASP, CSV injection). Built as text, because Spark's CSV writer
    trims blanks and does not quote a carriage return.
    """
    # concat_ws leaves nulls out, which would shift the cells behind one
    cells = [F.coalesce(_cell(name, field.type), F.lit("")) for name, field in feed.fields.items()]
    return rows.select(F.concat_ws(",", *cells).alias(LINE))


def _cell(name: str, type_name: str) -> Column:
    column = F.col(name)
    if type_name == "timestamp":
        return F.date_format(column, "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'")
    if type_name != "string":
        return column.cast("string")
    text = F.when(column.rlike(_FORMULA), F.concat(F.lit("'"), column)).otherwise(column)
    quoted = F.concat(F.lit('"'), F.replace(text, F.lit('"'), F.lit('""')), F.lit('"'))
    return F.when(text.rlike('[",\r\n]'), quoted).otherwise(text)
