"""The report: what happened in a run, as one HTML file that needs nothing else.

`write_report(folder)` reads the lake (also of a run that is still going), and writes `report.html`. Everything in it comes from the
tables; DuckDB and Polars aggregate, so that a run of a million rollouts takes seconds. Sections are built one by one in
`learning`, `training`, `candidates`, `samples` and `cost`, and set by `page` from the template in `assets/`.
"""

from __future__ import annotations

from pathlib import Path


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Writes the report of the run in `folder` to `out` (default `folder`/report.html), in one piece or not at all; where it lies.

    UserError where `folder` is no run or `out` cannot be written.
    """
    from data.errors import UserError
    from pipelines.report.page import render
    from pipelines.run import read_lake, run_file

    begun = run_file(folder)
    out = out or folder / "report.html"
    with read_lake(folder) as lake:
        html = render(folder, begun, lake)
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        temporary.write_text(html, encoding="utf-8", newline="\n")
        temporary.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; choose a writable place with --out") from None
    return out
