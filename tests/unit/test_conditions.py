"""A condition is about one record and always says the same of it; what is more is refused, in one line."""

from __future__ import annotations

from itertools import product

import duckdb
import pytest

from stream_app.feeds.conditions import Conditions, connect

CONDITIONS = Conditions(
    {
        "a": "VARCHAR",
        "n": "BIGINT",
        "xs": "BIGINT[]",
        "ts": "TIMESTAMPTZ",
        "s": 'STRUCT("x" INTEGER)',
        "amount": "DECIMAL(18,2)",
        "yes": "BOOLEAN",
        "order": "VARCHAR",
    }
)

ACCEPTED = {
    "n > 1": "n",
    "N > 1 -- a comment": "n",
    "/* one */ n > 1": "n",
    "a <> 'x' OR amount > 5": "a amount",
    "yes": "yes",
    "NOT yes": "yes",
    "n BETWEEN 1 AND 2": "n",
    "CASE WHEN n > 0 THEN ln(n) > 1 END": "n",
    "if(n > 1, yes, NOT yes)": "n yes",
    "a IN ('x', 'y') AND n IS NOT NULL": "a n",
    "a LIKE 'x%' OR a SIMILAR TO 'y+' OR regexp_matches(a, 'z')": "a",
    "a COLLATE nocase = 'X'": "a",
    "coalesce(nullif(a, ''), 'x') = split_part(a, '-', 1)": "a",
    "s.x > 1 AND s['x'] > 1": "s",
    "len(xs) > 0 AND xs[1] > 0 AND list_sum(xs) > n": "n xs",
    "list_filter(xs, lambda x: x > n) = xs": "n xs",
    "list_filter(xs, lambda now: now > n) = xs": "n xs",
    "[x for x in xs if x > n] = xs": "n xs",
    "\"order\" = 'x'": "order",
    "ts > '2026-01-01' AND hour(ts) < 5 AND date_trunc('day', ts) <= ts": "ts",
    "age(ts, TIMESTAMPTZ '2026-01-01') < INTERVAL 1 DAY": "ts",
    "ts AT TIME ZONE 'Europe/Berlin' > '2026-01-01'": "ts",
    "TRY_CAST(a AS INTEGER) > 1 AND TRY(ln(n)) > 1": "a n",
    "main.upper(a) = a": "a",
}


@pytest.mark.parametrize(("check", "reads"), ACCEPTED.items())
def test_what_a_condition_may_say(check: str, reads: str) -> None:
    CONDITIONS.examine(check)
    assert sorted(CONDITIONS.columns_of(check)) == reads.split()


ONE = "and a condition is about one record"
NOT_ONE = "is not one condition, but more of a statement"
EACH_TIME = "does not say the same of a record each time"
REFUSED = {
    "n": "is of type BIGINT, and a condition is a BOOLEAN",
    "true": "reads no field",
    "": "Parser Error: SELECT clause without selection list",
    "'x": 'Parser Error: unterminated quoted string at or near "\'x"',
    "n > 1) FROM x --": 'Parser Error: syntax error at or near ")"',
    "n > 1 AS x": NOT_ONE,
    "n > 1, yes": NOT_ONE,
    "n > 1; SELECT 1": NOT_ONE,
    "n > 1 FROM range(1)": NOT_ONE,
    "n > 1 FROM read_csv('/etc/passwd')": NOT_ONE,
    "n > 1 WHERE yes": NOT_ONE,
    "n > 1 ORDER BY n": NOT_ONE,
    "n > 1 LIMIT 1": NOT_ONE,
    "n > 1 GROUP BY ALL": NOT_ONE,
    "n > 1 QUALIFY yes": NOT_ONE,
    "n > 1 UNION SELECT yes": NOT_ONE,
    "n > 1 USING SAMPLE 10": NOT_ONE,
    "DISTINCT yes": NOT_ONE,
    "amout > 1": 'Binder Error: Referenced column "amout" not found in FROM clause! Candidate bindings: "amount", "a"',
    "rowid > n": 'Binder Error: Referenced column "rowid" not found in FROM clause! Candidate bindings: "amount"',
    "_rows.n > 1": '"_rows" is not a field',
    "s.y > 1": 'Binder Error: Could not find key "y" in struct Candidate Entries: "x"',
    "a > n": "Binder Error: Cannot compare values of type VARCHAR and type BIGINT - an explicit cast is required",
    "foo(n)": 'Catalog Error: Scalar Function with name foo does not exist! Did you mean "floor"?',
    "regexp_matches(a, '(')": "Invalid Input Error: missing ): (",
    "a.upper() = a": "write upper(a, ...), not a.upper(...)",
    "sum(n) > 1": f"sum is an aggregate, {ONE}",
    "count(*) > 1": f"count_star is an aggregate, {ONE}",
    "row_number() OVER () > n": f"has a window function, {ONE}",
    "(SELECT true) AND yes": f"has a subquery, {ONE}",
    "n IN (SELECT 1)": f"has a subquery, {ONE}",
    "unnest(xs) > 1": "unnest is no function of one record",
    "*": f"has a star, {ONE}",
    "random() > n": f"random {EACH_TIME}",
    "now() > ts": f"now {EACH_TIME}",
    "ts > today()": f"today {EACH_TIME}",
    "uuid() = a": f"uuid {EACH_TIME}",
    "age(ts) > INTERVAL 1 DAY": f"age {EACH_TIME}",
    "getvariable('x') > n": f"getvariable {EACH_TIME}",
    "current_setting('threads') > n": f"current_setting {EACH_TIME}",
    "current_localtimestamp() > ts": f"current_localtimestamp {EACH_TIME}",
    "txid_current() > n": f"txid_current {EACH_TIME}",
    "error(a) IS NULL": f"error {EACH_TIME}",
    "version() = a": f"version {EACH_TIME}",
    "vector_type(n) = a": f"vector_type {EACH_TIME}",
    "list_aggregate(xs, 'Reservoir_Quantile', 0.5, 2000000000) > 0": f"list_aggregate by a reservoir {EACH_TIME}",
    "length(repeat(a, n)) > 0": "repeat makes as much as a number says, which no memory may hold",
    "len(range(n)) > 0": "range makes as much as a number says, which no memory may hold",
    "current_date > ts": '"current_date" is not a field',
    "current_timestamp > ts": '"current_timestamp" is not a field',
    "current_user = a": '"current_user" is not a field',
    "list_filter(xs, lambda current_date: true) = xs OR ts > current_date": '"current_date" is not a field',
    "ago(INTERVAL 1 DAY) < ts": 'ago is a macro that no condition may use: "current_timestamp" is not a field',
    "nextval('x') > n": "Catalog Error: Sequence with name x does not exist!",
    "n > $1": "Invalid Input Error: Values were not provided for the following prepared statement parameters: 1",
    "EXISTS (FROM read_csv('/etc/passwd')) AND yes": "Permission Error: Cannot access file "
    '"/etc/passwd" - file system operations are disabled by configuration',
}


@pytest.mark.parametrize(("check", "problem"), REFUSED.items())
def test_what_no_condition_may_say(check: str, problem: str) -> None:
    with pytest.raises(ValueError) as error:
        CONDITIONS.examine(check)
    assert str(error.value) == problem


def test_every_function_of_the_clock_or_of_chance_is_refused() -> None:
    """As DuckDB tells of them; the next version may bring more."""
    names = CONDITIONS.database.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'scalar' "
        "AND stability <> 'CONSISTENT'"
    ).fetchall()
    assert len(names) > 20
    for (name,) in names:
        with pytest.raises(ValueError, match=EACH_TIME):
            CONDITIONS.columns_of(f"{name}()")


_NUMBER = 200_000
_VALUES = {
    "VARCHAR": ["'ab'", f"'{{:{_NUMBER}}}'", f"'%{_NUMBER}d'"],
    "BLOB": ["'ab'::BLOB"],
    "BIT": ["'101'::BIT"],
    "BOOLEAN": ["true"],
    "DATE": ["DATE '2020-01-01'"],
    "TIMESTAMP": ["TIMESTAMP '2020-01-01'"],
    "INTERVAL": ["INTERVAL 1 DAY"],
}


def test_no_function_makes_more_than_it_is_given_by_a_number_alone() -> None:
    """Or a record could fill the memory of the task that judges it. The next version of DuckDB may bring more."""
    database = connect()
    functions = database.execute(
        "SELECT DISTINCT function_name, parameter_types FROM duckdb_functions() WHERE function_type = 'scalar' "
        "AND stability = 'CONSISTENT' AND len(parameter_types) BETWEEN 1 AND 3 "
        "AND regexp_full_match(function_name, '[a-z_0-9]+')"
    ).fetchall()
    large = set()
    for name, types in functions:
        choices = [_VALUES.get(kind, [str(_NUMBER), "'ab'", "[1, 2]"]) for kind in types]
        for given in (*product(*choices), *product(*choices[:2], ["'ab'"])):
            if str(_NUMBER) not in "".join(given):
                continue
            try:
                sql = f"SELECT octet_length(encode(CAST({name}({', '.join(given)}) AS VARCHAR)))"
                ((size,),) = database.execute(sql).fetchall()
            except duckdb.Error:
                continue
            if size and size > _NUMBER // 4:
                large.add(name)
    assert "repeat" in large
    for name in large:
        with pytest.raises(ValueError, match="makes as much as a number says"):
            CONDITIONS.columns_of(f"{name}(n)")


def test_no_function_without_arguments_is_taken_that_is_not_a_constant() -> None:
    """Where DuckDB is wrong about one of them, it is most likely one of these."""
    names = CONDITIONS.database.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN ('scalar', 'macro') "
        "AND len(parameters) = 0 AND regexp_full_match(function_name, '[a-z_0-9]+')"
    ).fetchall()
    taken = set()
    for (name,) in names:
        try:
            CONDITIONS.columns_of(f"{name}()")
        except ValueError:
            continue
        if not name.startswith(("json_", "list_", "array_", "struct_", "map", "inet_", "pg_")):
            taken.add(name)
    constants = {"current_user", "current_role", "session_user", "user", "pi", "get_block_size", "current_catalog"}
    assert taken <= constants | {"row", "row_to_json", "to_json", "union_value", "unpivot_list", "add"}


def test_the_database_reads_no_file_and_keeps_its_settings() -> None:
    database = connect()
    for sql in (
        "FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/x'",
        "ATTACH '/tmp/x.db'",
        "SET threads = 4",
    ):
        with pytest.raises(duckdb.Error):
            database.execute(sql)
    assert database.execute("SELECT current_setting('TimeZone'), current_setting('threads')").fetchall() == [("UTC", 1)]
