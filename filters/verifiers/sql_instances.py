"""Small databases drawn at random from a schema, by key: what tells a right query from one that happens to agree on the given rows.

Columns are filled from few values, so that joins meet and groups have members; constants of the reference query are among them, so that
its conditions hold now and then; foreign keys point at rows that are there.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import lru_cache

from data.keyed import keyed_rng

ROWS = (3, 12)  # rows of a table
_TEXTS = ("ash", "birch", "cedar", "Ash", "a b", "", "zinc", "oak")


@lru_cache(maxsize=1_024)
def random_instance(schema: bytes, reference: str, seed: int) -> str:
    """INSERT statements for the tables of `schema`, an image of a database without rows."""
    texts = [t.replace("''", "'") for t in re.findall(r"'((?:[^']|'')*)'", reference)]
    likes = [re.sub(r"[%_]+", "x", t) for t in texts if "%" in t or "_" in t]
    numbers = [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", reference) if len(n) < 12]
    rng = keyed_rng(seed, "sql", reference)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(schema)
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid")]
        columns = {n: connection.execute(f"PRAGMA table_info({_quoted(n)})").fetchall() for n in names}
        foreign = {n: {r[3]: (r[2], r[4]) for r in connection.execute(f"PRAGMA foreign_key_list({_quoted(n)})")} for n in names}

    def value(kind: str, row: int, unique: bool) -> str:
        kind = kind.upper()
        near = [n + d for n in numbers for d in (-1, 0, 1)]
        if any(word in kind for word in ("CHAR", "TEXT", "CLOB", "DATE", "TIME", "BOOL")) and "INT" not in kind:
            if "DATE" in kind or "TIME" in kind:
                said = f"20{int(rng.integers(18, 24)):02d}-{int(rng.integers(1, 13)):02d}-{int(rng.integers(1, 28)):02d}"
            else:
                pool = (*texts, *likes, *_TEXTS)
                said = pool[int(rng.integers(len(pool)))] + (f" {row}" if unique else "")
            return "'" + said.replace("'", "''") + "'"
        drawn = float(row + 1) if unique else near[int(rng.integers(len(near)))] if near and rng.random() < 0.4 else float(rng.integers(0, 8))
        return str(int(drawn)) if "INT" in kind or drawn.is_integer() else repr(drawn)

    lines: list[str] = []
    made: dict[tuple[str, str], list[str]] = {}
    for name in names:
        keys = [c[1] for c in columns[name] if c[5]]
        for row in range(int(rng.integers(*ROWS))):
            cells = []
            for _, column, kind, required, _, primary in columns[name]:
                target = next(((t, c) for k, (t, c) in foreign[name].items() if k == column), None)
                pool = made.get((target[0].casefold(), (target[1] or column).casefold())) if target else None
                if pool:
                    cell = pool[int(rng.integers(len(pool)))]
                elif not primary and not required and rng.random() < 0.08:
                    cell = "NULL"
                else:
                    cell = value(kind or "TEXT", row, bool(primary) and len(keys) == 1)
                made.setdefault((name.casefold(), column.casefold()), []).append(cell)
                cells.append(cell)
            lines.append(f"INSERT OR IGNORE INTO {_quoted(name)} VALUES ({', '.join(cells)});")
    return "\n".join(lines)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
