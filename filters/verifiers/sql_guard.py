"""What a guarded SQLite connection may do: actions and functions by allowlist, values and statements bounded in size, steps and time.

A step budget alone is not enough: one call of printf('%.*c', 1e9, 'x') is a single step of 12 s, and LIKE backtracks. So functions are
allowed by name, values are small, LIKE and GLOB are ours and linear in the text.
"""

from __future__ import annotations

import sqlite3
import time

MAX_VALUE = 10_000  # bytes of one text or blob
STEPS_PER_CALL = 1_000
SECONDS = 2.0  # of this thread's CPU time, for one connection

READING = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_FUNCTION))
BUILDING = READING | {
    sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_REINDEX,
}  # fmt: skip
FUNCTIONS = frozenset((
    "abs", "avg", "count", "sum", "total", "min", "max", "group_concat", "string_agg", "length", "lower", "upper", "substr", "substring",
    "trim", "ltrim", "rtrim", "replace", "round", "coalesce", "ifnull", "iif", "nullif", "instr", "like", "glob", "typeof", "date", "time",
    "datetime", "julianday", "strftime", "unixepoch", "timediff", "sign", "ceil", "ceiling", "floor", "trunc", "power", "pow", "sqrt", "mod",
    "exp", "ln", "log", "log10", "log2", "pi", "row_number", "rank", "dense_rank", "ntile", "lag", "lead", "first_value", "last_value",
    "nth_value", "percent_rank", "cume_dist", "unicode", "char", "hex", "quote", "concat", "concat_ws", "likely", "unlikely", "likelihood",
))  # fmt: skip


def guard(connection: sqlite3.Connection, allowed: frozenset[int], steps: int) -> None:
    """Allows the actions in `allowed`; every later statement together takes at most `steps` virtual-machine steps and `SECONDS`."""
    left = [steps]
    until = time.thread_time() + SECONDS

    def may(action: int, one: str | None, two: str | None, *rest: object) -> int:
        if action == sqlite3.SQLITE_FUNCTION and str(two).lower() not in FUNCTIONS:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

    def tick() -> bool:
        left[0] -= STEPS_PER_CALL
        return left[0] < 0 or time.thread_time() > until

    for limit, value in (
        (sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE), (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 1_000_000), (sqlite3.SQLITE_LIMIT_COLUMN, 200),
        (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100), (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 20), (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1), (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
    ):  # fmt: skip
        connection.setlimit(limit, value)
    connection.create_function("like", 2, lambda p, t: _like(p, t), deterministic=True)
    connection.create_function("like", 3, lambda p, t, e: _like(p, t, e), deterministic=True)
    connection.create_function("glob", 2, _glob, deterministic=True)
    connection.set_authorizer(may)
    connection.set_progress_handler(tick, STEPS_PER_CALL)


Token = tuple[str, frozenset[str] | str]
"""("many" | "any" | "one" | "not", characters)"""


def _like(pattern: object, text: object, escape: object = None) -> int | None:
    """LIKE as SQLite has it: % and _, case of ASCII letters ignored."""
    if pattern is None or text is None:
        return None
    tokens: list[Token] = []
    chars = iter(_folded(str(pattern)))
    for c in chars:
        if escape is not None and c == _folded(str(escape)):
            tokens.append(("one", next(chars, "")))
        else:
            tokens.append(("many", "") if c == "%" else ("any", "") if c == "_" else ("one", c))
    return int(_matches(tokens, _folded(str(text))))


def _folded(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def _glob(pattern: object, text: object) -> int | None:
    """GLOB: *, ? and [abc], [^abc], [a-z]; case counts."""
    if pattern is None or text is None:
        return None
    said, i = str(pattern), 0
    tokens: list[Token] = []
    while i < len(said):
        c = said[i]
        end = said.find("]", i + 2 + said.startswith("[^", i)) if c == "[" else -1
        if c == "[" and end < 0:
            return 0  # a class that is not closed matches nothing
        if end > 0:
            inside = said[i + 1 : end]
            tokens.append(("not", _members(inside[1:])) if inside.startswith("^") else ("one", _members(inside)))
            i = end
        else:
            tokens.append(("many", "") if c == "*" else ("any", "") if c == "?" else ("one", c))
        i += 1
    return int(_matches(tokens, str(text)))


def _members(inside: str) -> frozenset[str]:
    found = set(inside)
    for a, dash, b in zip(inside, inside[1:], inside[2:]):
        if dash == "-" and ord(b) - ord(a) < 200:
            found |= {chr(c) for c in range(ord(a), ord(b) + 1)}
    return frozenset(found)


def _matches(tokens: list[Token], text: str) -> bool:
    """Greedy with one point of return, the last "many": at most len(tokens) * len(text) steps."""
    t = i = 0
    star, mark = -1, 0
    while i < len(text):
        kind, chars = tokens[t] if t < len(tokens) else ("end", "")
        if kind == "many":
            star, mark = t, i
            t += 1
        elif kind == "any" or (kind == "one" and text[i] in chars) or (kind == "not" and text[i] not in chars):
            t, i = t + 1, i + 1
        elif star >= 0:
            mark += 1
            t, i = star + 1, mark
        else:
            return False
    return all(kind == "many" for kind, _ in tokens[t:])
