"""Names that a feed file may give and that mean something to what reads them: SQL, Spark, PostgreSQL, ourselves."""

import re

import duckdb

from stream_app.feeds.parts import IDENTIFIER

_COMMON = """
order group table all end case default select from where limit show check column main temp system user union values
information_schema pg_catalog memory public json due missing repeats repeat replayed csv late for_csv for_w own gold
silver bronze quarantine raw_csv raw seen lake bar back first last ended window window_start window_end session_start
session_end final processing_time event_date key value headers topic partition offset timestamp kafka_ts reasons
warnings rows file batch count sum
"""

_OURS = """
name of fields event_time dedupe windows sessions lakes topics tables feed sink layer gap ends keys events outcome
duration_seconds value_text replay reset start status transactions copied incoming excluded stream_app_batches t i g s
late_x postgres_x sources path line clock metadata spark python record text message level time level_ time_ a a_b b
b_c
"""

# PostgreSQL's reserved words (its manual, Appendix C), and the columns of every table.
_POSTGRES = """
analyse analyze and any array as asc asymmetric authorization binary both cast collate collation concurrently
constraint create cross current_catalog current_date current_role current_schema current_time current_timestamp
current_user deferrable desc distinct do else except false fetch for foreign freeze full grant having ilike in
initially inner intersect into is isnull join lateral leading left like localtime localtimestamp natural not notnull
null on only or outer overlaps placing primary references returning right session_user similar some symmetric
tablesample then to trailing true unique using variadic verbose when with tableoid xmin cmin xmax cmax ctid oid
pg_class pg_x
"""

# Spark's reserved words (its manual, ANSI compliance), what is resolved without parentheses, and hidden columns.
_SPARK = """
anti between by commit cube date day escape exists extract filter function functions global grouping grouping__id hour
insert interval item items lines map minute month overlay pivot position qualify range recursive revoke rollback
rollup row second semi session_window set sets struct substring tables tinyint trim truncate unknown update year
spark_grouping_id input_file_name monotonically_increasing_id
"""

# Columns that DuckDB's readers and tables have beside those of a file.
_DUCKDB = "rowid filename file_row_number file_index hive_partitioning"


def words() -> list[str]:
    """Return all of them, with the words that this version of DuckDB keeps."""
    kept = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category != 'unreserved'"
    found = {*" ".join((_COMMON, _OURS, _POSTGRES, _SPARK, _DUCKDB)).split()}
    found |= {word for (word,) in duckdb.execute(kept).fetchall()}
    return sorted(word for word in found if re.fullmatch(IDENTIFIER, word))


WIRE_NAMES = """
user's id
@timestamp
a.b
a b
größe
Ünïcödé
$ref
with-dash
日本
[/x]
[bold]
a:b
%s {x} $1
* ?
--
; DROP TABLE x
""".strip().splitlines()
