"""How the verbs that take a file of problems read their options and show what came in."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from data.problems.source import Source
    from data.records import Problem
    from filters.decontaminate import HeldoutSet
    from filters.intake import Summary
    from pipelines.recipe import Recipe

KINDS = ".jsonl, .json, .csv, .tsv (each also .gz), .parquet, a folder saved by datasets, or hf:NAME[:CONFIG][@SPLIT]"
SHOWN = 8  # domains and the like


def add_file(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    parser.add_argument("file", nargs="+" if several else None, metavar="FILE", help=f"{KINDS}; DOMAIN=FILE names a domain")
    parser.add_argument("--map", action="append", default=[], metavar="FIELD=COLUMN,…", help="which column holds which field, e.g. prompt=question")


def add_against(parser: argparse.ArgumentParser, *, needed: bool) -> None:
    parser.add_argument("--against", action="append", default=[], required=needed, metavar="FILE", help="a held-out set; may be given again")
    parser.add_argument("--against-map", action="append", default=[], metavar="FIELD=COLUMN,…", help="its columns, where they differ")


def console() -> Console:
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=120)


def sources(args: argparse.Namespace) -> list[Source]:
    from data.problems.mapping import parse_map
    from data.problems.source import parse_sources

    files = args.file if isinstance(args.file, list) else [args.file]
    return parse_sources(files, parse_map(args.map))


def heldout_sets(args: argparse.Namespace) -> list[HeldoutSet]:
    """The files of `--against`; only their texts are read, so they need no answers. Their problems are called by their places."""
    from dataclasses import replace

    from data.problems.mapping import parse_map
    from data.problems.readers import read_rows
    from data.problems.rows import prompt_of
    from data.problems.source import parse_source
    from filters.decontaminate import HeldoutSet

    fields = parse_map(args.against_map)
    found = []
    for text in args.against:
        source = replace(parse_source(text, fields), usual="test")
        problems = [_Text(where.removeprefix(f"{source.path}, "), prompt_of(row, where, source.map)) for where, row in read_rows(source)]
        found.append(HeldoutSet(Path(source.path).name, problems))  # type: ignore[arg-type]
    return found


class _Text:
    """What a held-out index needs of a problem."""

    def __init__(self, where: str, prompt: str) -> None:
        self.id, self.prompt = where, prompt


def problem_tables(files: list[str], maps: list[str]) -> list[dict[str, Any]]:
    """`--problems` and `--map` as a recipe writes them (`[[problems.files]]`)."""
    from data.errors import UserError
    from data.problems.mapping import parse_map
    from data.problems.source import parse_sources

    if not files:
        raise UserError("--map says which column of a --problems file is what; give that file, too (in a recipe, write map = {…} beside its path)")
    return [{"path": s.path, "domain": s.domain, "map": dict(s.map), "split": s.split} for s in parse_sources(files, parse_map(maps))]


def problems(listed: list[Source]) -> Iterator[tuple[str, Problem]]:
    from data.problems.readers import iter_problems
    from filters.verifier_choice import choose_verifier

    for source in listed:
        yield from iter_problems(source, choose=choose_verifier)


def first_look(recipe: Recipe, *, quiet: bool) -> None:
    """Reads every file that a recipe names, so that a wrong one is said before anything is written; shows what came in unless `quiet`."""
    from filters.intake import summarise
    from pipelines.problems import index_of, read_benchmarks, user_problems

    benchmarks = read_benchmarks(recipe)
    summary = summarise(user_problems(recipe), index_of([], benchmarks))
    if quiet:
        return
    out = console()
    if summary.rows:
        show_summary(out, f"problems {', '.join(map(str, recipe.problems.files))}", summary)
    for name, held in benchmarks.items():
        out.print(f"  {'held out':<12}{name}: {len(held):,} problems that nothing may give away ({recipe.evaluate.benchmarks[name]})", soft_wrap=True)


def show_summary(out: Console, title: str, summary: Summary) -> None:
    """What came in, as a person would say it; lines that have nothing to say are left out."""
    from rich.markup import escape

    here = f"{Path.cwd()}/"

    def line(name: str, text: str) -> None:
        out.print(f"  {name:<12}{escape(text.replace(here, ''))}", soft_wrap=True)

    out.print(f"[bold]{escape(title.replace(here, ''))}[/]", soft_wrap=True)
    doubles = f", {summary.duplicates:,} repeat the text of another" if summary.duplicates else ""
    line("rows", f"{summary.rows:,} ({summary.distinct:,} distinct{doubles})")
    if summary.conflicting:
        line("", f"{summary.conflicting:,} have the text of another row and another answer: is a part of the problem in another column?")
    line("length", " · ".join(f"{_PERCENTILE[name]} {value:,}" for name, value in summary.words.items()) + " words")
    line("answers", counted(summary.answer_kinds))
    for name, reasons in summary.verifiers.items():
        line("verifier", f"{name}: " + ", ".join(f"{rows:,} ({reason})" for reason, rows in reasons.items()))
    if set(summary.domains) - {""}:
        line("domains", counted(summary.domains, none="without"))
    if set(summary.licences) - {""}:
        line("licences", counted(summary.licences, none="not stated"))
    if summary.unjudgeable:
        line("unjudgeable", f"{summary.unjudgeable:,}, which no run would train on, e.g.")
        for example in summary.unjudgeable_examples:
            line("", f"{example['where']}: {example['reason']}" + (f" ({_short(example['answer'])!r})" if example["answer"] else ""))
    for name, rows in summary.leaks.items():
        line("leaks", f"{rows:,} give away a problem of {name}; they would be refused, e.g.")
        for example in summary.leak_examples:
            line("", f"{example['where']}: {example['reason']}")


_PERCENTILE = {"p5": "5 % below", "p50": "median", "p95": "95 % below", "p100": "longest"}


def counted(counts: Mapping[str, Any], none: str = "none") -> str:
    """`number 7,473, text 12`, the most frequent first; the rest is a number."""
    listed = list(counts.items())
    rest = f", and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(f"{_short(name) or none} {rows:,}" for name, rows in listed[:SHOWN]) + rest


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"
