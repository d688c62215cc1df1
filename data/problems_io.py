"""The short way to `data.problems` for whoever has a file of problems: read it, or read one line or row of it."""

from __future__ import annotations

from data.problems.json_rows import parse_line
from data.problems.readers import iter_problems, read_problems
from data.problems.rows import problem_from_row, reference_text
from data.problems.text_file import MAX_LINE, read_lines

__all__ = ["MAX_LINE", "iter_problems", "parse_line", "problem_from_row", "read_lines", "read_problems", "reference_text"]
