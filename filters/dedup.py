"""Exact deduplication on normalised text; near-duplicates (n-grams, embeddings) are other filters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl


def normalised(text: pl.Expr) -> pl.Expr:
    """NFKC, case folded, every run of anything but letters, marks, digits and mathematical signs turned into one blank.

    Signs of arithmetic stay ("3 + 4" and "3 - 4" are two problems, and so are "5" and "5!"), and so do point and comma between
    digits ("1.5" is not "15", "1,2" is not "12"). Rust's regular expressions know no look-around, hence the two steps at a time.
    """
    folded = text.str.normalize("NFKC").str.to_lowercase().str.replace_all("ß", "ss", literal=True).str.replace_all("ς", "σ", literal=True)
    kept = folded.str.replace_all(r"[^\p{L}\p{M}\p{N}.,+\-−*/^=<>%$€£×÷√!]+", " ")
    words = kept.str.replace_all(r"(\p{L})-(\p{L})", "${1} ${2}").str.replace_all(r"(\p{L}\p{L}|^|\s)!+", "${1} ")
    inside = words.str.replace_all(r"(^|[^0-9])[.,]+", "${1} ").str.replace_all(r"[.,]+([^0-9.,]|$)", " ${1}")
    return inside.str.replace_all(r"\s+", " ").str.strip_chars()


def normalise_texts(texts: Iterable[str]) -> list[str]:
    return pl.DataFrame({"text": list(texts)}, schema={"text": pl.String}).select(normalised(pl.col("text")))["text"].to_list()


def mark_duplicates(rows: pl.DataFrame, *, text: str = "prompt", order: Sequence[str] = ("round", "id")) -> pl.DataFrame:
    """`rows` with a column `duplicate_of`: the first row's id with the same normalised text, null for that first row.

    First is smallest in `order`, whose last column is the id; the rows' own order does not matter and is kept.
    """
    ident = order[-1]
    keyed = rows.with_row_index("_position").with_columns(_text=normalised(pl.col(text)))
    ranked = keyed.sort(*order, "_position").group_by("_text", maintain_order=True)
    first = ranked.agg(pl.col(ident).first().alias("_first"), pl.col("_position").first().alias("_at"))
    joined = keyed.join(first, on="_text", how="left").sort("_position")
    duplicate_of = pl.when(pl.col("_position") != pl.col("_at")).then(pl.col("_first")).alias("duplicate_of")
    return joined.with_columns(duplicate_of).drop("_position", "_text", "_first", "_at")


def exact_dedup(rows: pl.DataFrame, *, text: str = "prompt", order: Sequence[str] = ("round", "id")) -> pl.DataFrame:
    """The first row of each normalised text, in the rows' own order."""
    return mark_duplicates(rows, text=text, order=order).filter(pl.col("duplicate_of").is_null()).drop("duplicate_of")


def matches_heldout(texts: Sequence[str], heldout_texts: Sequence[str]) -> list[bool]:
    """Whether each text equals a held-out text once both are normalised; an empty text matches nothing."""
    heldout = set(normalise_texts(heldout_texts)) - {""}
    return [text in heldout for text in normalise_texts(texts)]
