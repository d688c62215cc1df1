"""Queries by results: what is the same, what only looks the same, and what a query may not do."""

import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Problem
from filters.verifiers.base import get_verifier
from filters.verifiers.sql import orders_result, same_result
from filters.verifiers.sql_guard import _glob, _like

TABLES = """CREATE TABLE dept(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE emp(id INTEGER PRIMARY KEY, name TEXT, dept INTEGER REFERENCES dept(id), pay REAL)"""
ROWS = "INSERT INTO dept VALUES (1,'a'),(2,'b'); INSERT INTO emp VALUES (1,'x',1,10),(2,'y',1,20),(3,'z',2,30)"
REFERENCE = "SELECT d.name, avg(e.pay) FROM dept d JOIN emp e ON e.dept = d.id GROUP BY d.id"


def judge(response: str, reference: str = REFERENCE, **spec: object):
    problem = Problem("q", reference, "sql", {"tables": TABLES, "databases": [ROWS], **spec})
    return get_verifier("sql").verify(problem, response)


@pytest.mark.parametrize(
    "query",
    [REFERENCE, f"```sql\n{REFERENCE};\n```", "SELECT avg(pay), dept.name FROM emp, dept WHERE dept.id = emp.dept GROUP BY dept.id, dept.name",
     "WITH j AS (SELECT d.id i, d.name n, pay p FROM emp JOIN dept d ON dept = d.id) SELECT n, sum(p) * 1.0 / count(p) FROM j GROUP BY i"],
)  # fmt: skip
def test_the_same_result_passes(query: str) -> None:
    assert judge(query).outcome == "pass", judge(query)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT 'a', 15.0 UNION ALL SELECT 'b', 30", "random instance"),  # right on the given rows only
        ("SELECT d.name, avg(e.pay) FROM dept d JOIN emp e ON e.dept = d.id GROUP BY d.name", "random instance"),
        ("SELECT name, 15 FROM dept", "another result on database 0"),
        ("SELECT name FROM dept", "another result on database 0"),
        ("SELECT 1; DROP TABLE emp", "one statement"),
        ("SELECT * FROM missing", "no such table"),
        ("SELECT load_extension('x'), 1", "not authorized"),
        ("SELECT printf('%.*c', 1000000000, 'x'), 1", "not authorized"),
        ("SELECT randomblob(1000000000), 1", "not authorized"),
        ("DELETE FROM emp", "no query"),
        ("ATTACH DATABASE 'x' AS y", "no query"),
        ("PRAGMA writable_schema = 1", "no query"),
        ("WITH x AS (SELECT 1) DELETE FROM emp", "not authorized"),
        ("SELECT name, sql FROM sqlite_master, pragma_table_info('emp')", "not authorized"),
        ("I would join the tables.", "no query"),
        ("", "no query"),
    ],
)
def test_what_is_not_the_same_or_not_allowed_fails(query: str, why: str) -> None:
    verdict = judge(query)
    assert verdict.outcome == "fail" and why in verdict.reason, verdict


def test_endless_and_huge_queries_end_soon_and_are_unknown_or_wrong() -> None:
    for query in (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*), 1 FROM c",
        "SELECT a.name, count(*) FROM emp a, emp b, emp c, emp d, emp e, emp f, emp g, emp h, emp i, emp j, emp k, emp l, emp m, emp n",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100000) SELECT x, x FROM c",
        "SELECT replace(hex(replace(hex('aaaaaaaaaaaaaaaaaaaaaaa'), '6', 'bbbbbbbbbbbbbbbbbbbbbb')), '6', 'ccccccccccccccccccccccc'), 1 FROM emp",
        "SELECT 1, 1 FROM emp WHERE replace(hex('aaaaaaaaaaaaaaaaaaaaaaa'), '6', 'bbbbbbbbbb') LIKE '%b%b%b%b%b%b%b%b%b%b%b%b%b%b%b%b%c'",
    ):
        start = time.thread_time()
        assert judge(query).outcome in ("unknown", "fail")
        assert time.thread_time() - start < 4.0


def test_order_counts_where_the_reference_orders() -> None:
    ordered = "SELECT name, pay FROM emp ORDER BY pay, id"
    assert judge("SELECT name, pay FROM emp ORDER BY pay, id", ordered).outcome == "pass"
    assert judge("SELECT name, pay FROM emp ORDER BY pay DESC, id", ordered).outcome == "fail"
    assert judge("SELECT name, pay FROM emp ORDER BY pay DESC", ordered, ordered=False).outcome == "pass"
    assert orders_result(ordered)
    for inner in (
        "SELECT * FROM (SELECT * FROM t ORDER BY x)",
        "SELECT 'order by'",
        "SELECT 1 -- order by x",
        "SELECT row_number() OVER (ORDER BY x) FROM t",
    ):
        assert not orders_result(inner)


def test_rows_compare_as_a_bag_under_an_order_of_columns() -> None:
    assert same_result([(1, "a"), (2, "b")], [("b", 2.0), ("a", 1)], ordered=False)
    assert not same_result([(1, "a"), (2, "b")], [("b", 1), ("a", 2)], ordered=False)
    assert not same_result([(1,), (1,)], [(1,)], ordered=False)
    assert not same_result([("1",)], [(1,)], ordered=False)
    assert not same_result([(None,)], [(0,)], ordered=False)
    assert same_result([(0.1 + 0.2,)], [(0.3,)], ordered=True)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.none() | st.floats(0, 1)), min_size=1, max_size=6),
    st.permutations(range(3)),
    st.randoms(),
)
@settings(max_examples=100)
def test_shuffled_rows_and_columns_are_the_same_result(rows: list, order: list[int], random) -> None:
    shuffled = [tuple(row[k] for k in order) for row in rows]
    random.shuffle(shuffled)
    assert same_result(rows, shuffled, ordered=False)
    assert not same_result(rows, [*shuffled[:-1], (9, 9, 9)], ordered=False)


def test_problems_that_cannot_be_judged_say_why() -> None:
    def why(reference: str, **spec: object) -> str:
        return get_verifier("sql").check_problem(Problem("q", reference, "sql", {"tables": TABLES, "databases": [ROWS], **spec}))

    assert why(REFERENCE) == ""
    assert "no reference query" in why("")
    assert "does not run: no such column" in why("SELECT missing FROM emp")
    assert "returns nothing on every database" in why("SELECT * FROM emp WHERE 1 = 2")
    assert "databases[0]: the database cannot be built" in why(REFERENCE, databases=["INSERT INTO none VALUES (1)"])
    assert "not authorized" in why(REFERENCE, databases=["ATTACH DATABASE '/tmp/x' AS y"])
    assert "cannot be built" in why(
        REFERENCE, tables="CREATE TABLE t AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT x FROM c"
    )


@given(st.text("aAb%_xé", max_size=6), st.text("aAbxé%", max_size=6), st.text("ab*?[]^-c", max_size=6), st.text("abc]-^[", max_size=5))
@settings(max_examples=1_500, deadline=None)
def test_our_like_and_glob_are_sqlites(pattern: str, text: str, glob: str, other: str) -> None:
    with sqlite3.connect(":memory:") as connection:
        assert connection.execute("SELECT ? LIKE ?", (text, pattern)).fetchone()[0] == _like(pattern, text)
        if "[" not in glob:
            assert connection.execute("SELECT ? GLOB ?", (other, glob)).fetchone()[0] == _glob(glob, other)


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for query in (
        "VACUUM INTO 'x'",
        "```sql\nATTACH 'x' AS y\n```",
        "SELECT writefile('x', 'y'), 1",
        "WITH a AS (SELECT 1) INSERT INTO emp SELECT 9, 'x', 1, 1",
    ):
        judge(query)
    assert list(tmp_path.iterdir()) == []
