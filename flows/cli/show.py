"""One problem's whole life: where it comes from, what was decided on it and why, how the policy fared on it, and what training made of it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from data.lake import Lake

HELP = "show one problem's whole life"
EPILOG = """examples:
  synth show runs/arithmetic-001 66a2              any beginning of a problem's, candidate's or rollout's id
  synth show runs/arithmetic-001 66a2 --answers 20
  synth query runs/arithmetic-001 "SELECT problem_id, prompt FROM problems LIMIT 5"     where ids come from
"""
WIDTH = 100  # characters of an answer that are shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("id", metavar="ID", help="a problem's id, or a candidate's or rollout's; its beginning is enough")
    parser.add_argument("--answers", type=int, default=6, metavar="N", help="answers to show (default: 6)")


def main(args: argparse.Namespace) -> int:
    from rich.console import Console

    from pipelines.run import read_lake

    console = Console(highlight=False)
    with read_lake(args.dir) as lake:
        life(console, lake, find_problem(lake, args.id), max(0, args.answers))
    return 0


def find_problem(lake: Lake, beginning: str) -> str:
    """The one problem whose own, a candidate's or a rollout's id begins so."""
    from data.errors import UserError

    if not beginning or not beginning.isalnum():
        raise UserError(f"{beginning!r} is no id; an id is hexadecimal, e.g. the problem_id of `SELECT problem_id, prompt FROM problems`")
    found = lake.query(
        """
        SELECT DISTINCT problem_id FROM (
            SELECT problem_id FROM problems WHERE starts_with(problem_id, $1)
            UNION ALL SELECT problem_id FROM decisions WHERE starts_with(candidate_id, $1)
            UNION ALL SELECT problem_id FROM rollouts WHERE starts_with(rollout_id, $1)
        ) ORDER BY problem_id LIMIT 6
        """,
        (beginning.lower(),),
    )["problem_id"].to_list()
    if not found:
        raise UserError(f"no problem, candidate or rollout of this run has an id that begins with {beginning!r}")
    if len(found) > 1:
        raise UserError(f"{beginning!r} begins the ids of several problems ({', '.join(i[:12] for i in found[:5])}, …); give more of it")
    return str(found[0])


def life(console: Console, lake: Lake, problem_id: str, answers: int) -> None:
    """Prints the sections that have something to say, in the order in which things happened."""
    rows = lake.query("SELECT * FROM problems WHERE problem_id = ?", (problem_id,))
    decisions = lake.query(
        "SELECT round, stage, strategy, rule, kept, reason, parents FROM decisions WHERE problem_id = ? ORDER BY round, stage, rule", (problem_id,)
    )
    console.print(f"[bold]problem[/] {problem_id}")
    if rows.is_empty():
        console.print("  its text is not in the lake: it was refused before it was stored")
    else:
        _problem(console, rows.row(0, named=True))
    _origin(console, lake, problem_id, decisions)
    _checks(console, lake.query("SELECT kind, body, audit FROM checks WHERE problem_id = ? ORDER BY check_id", (problem_id,)))
    _decisions(console, decisions)
    _versions(console, lake, problem_id)
    _answers(console, lake, problem_id, answers)
    _training(console, lake, problem_id)


def _section(console: Console, title: str) -> None:
    console.print(f"\n[bold]{title}[/]")


def _print(console: Console, text: str) -> None:
    """Text of a problem or a model, as it is: no markup, no emoji names."""
    console.print(text, markup=False, emoji=False, soft_wrap=True)


def _problem(console: Console, row: dict[str, Any]) -> None:
    _print(console, _indented(row["prompt"]))
    about = [row["domain"], f"level {row['level']}" if row["level"] else "", f"from {row['source']}", row["split"]]
    _print(console, f"  reference {row['reference'] or '(none)'} · verifier {row['verifier']} · " + " · ".join(a for a in about if a))
    if row["concepts"]:
        _print(console, f"  concepts {', '.join(row['concepts'])}")
    meta = json.loads(row["meta"])
    if meta:
        _print(console, f"  made with {_cut(json.dumps(meta, ensure_ascii=False), 300)}")


def _origin(console: Console, lake: Lake, problem_id: str, decisions: pl.DataFrame) -> None:
    """Parents (problems or rollouts) and, where a model wrote the problem, the prompt it was asked with."""
    parents = sorted({p for parents in decisions["parents"].to_list() for p in parents or ()})
    written = lake.query(
        "SELECT purpose, request, text FROM requests WHERE problem_id = ? AND purpose NOT IN ('probe', 'train', 'evaluate', 'estimate') LIMIT 3",
        (problem_id,),
    )
    if not parents and written.is_empty():
        return
    _section(console, "origin")
    known = lake.query(
        """
        SELECT problem_id AS id, 'problem' AS kind, prompt AS text FROM problems WHERE problem_id IN (SELECT unnest($1))
        UNION ALL SELECT rollout_id, 'answer', text FROM trajectories WHERE rollout_id IN (SELECT unnest($1)) ORDER BY id
        """,
        (parents,),
    )
    for parent, kind, text in known.iter_rows():
        _print(console, f"  made from {kind} {parent[:12]}: {_cut(text)}")
    for purpose, request, text in written.iter_rows():
        asked = json.loads(request)
        _print(console, f"  {purpose} asked: {_cut(str(asked.get('prompt') or asked.get('messages') or ''), 400)}")
        _print(console, f"  and was answered: {_cut(text or '', 400)}")


def _checks(console: Console, checks: pl.DataFrame) -> None:
    if checks.is_empty():
        return
    _section(console, "checks")
    for kind, body, audit in checks.iter_rows():
        _print(console, f"  {kind}: {_cut(body, 200)}" + (f"   audit {audit}" if audit not in ("", "{}") else ""))


def _decisions(console: Console, decisions: pl.DataFrame) -> None:
    if decisions.is_empty():
        return
    _section(console, "decisions")
    order = {name: i for i, name in enumerate(("seeds", "synthesize", "audit", "select"))}
    for row in sorted(decisions.iter_rows(named=True), key=lambda r: (r["round"], order.get(r["stage"], 9))):
        word = "kept   " if row["kept"] else "refused"
        _print(console, f"  round {row['round']}  {row['stage']:<10}  {word}  {row['rule']:<10}  {row['reason']}")


def _versions(console: Console, lake: Lake, problem_id: str) -> None:
    rows = lake.query(
        """
        SELECT round, 'probed' AS what, policy_id, passes, n, ci_low AS low, ci_high AS high, decision FROM difficulty WHERE problem_id = $1
        UNION ALL SELECT round, 'held out', policy_id, passes, n, NULL, NULL, '' FROM evals WHERE problem_id = $1
        ORDER BY round, what
        """,
        (problem_id,),
    )
    if rows.is_empty():
        return
    _section(console, "difficulty over policy versions")
    for round, what, policy, passes, n, low, high, decision in rows.iter_rows():
        interval = "" if low is None else f"  pass rate in [{low:.2f}, {high:.2f}]"
        _print(console, f"  round {round}  {what:<8}  {passes} of {n} passed{interval}  {decision or ''}  {policy}".rstrip())


def _answers(console: Console, lake: Lake, problem_id: str, most: int) -> None:
    rows = lake.query(
        """
        SELECT r.round, r.stage, v.outcome, v.reason, r.response_tokens, t.text, r.rollout_id
        FROM rollouts r JOIN trajectories t USING (rollout_id) LEFT JOIN verdicts v USING (rollout_id)
        WHERE r.problem_id = ? ORDER BY r.round, r.stage, r.sample, r.rollout_id
        """,
        (problem_id,),
    )
    if rows.is_empty():
        return
    counts = rows.group_by("outcome").len().sort("outcome")
    mix = ", ".join(f"{count} {outcome or 'not judged'}" for outcome, count in counts.iter_rows())
    _section(console, f"answers  [dim]{rows.height} in all: {mix}[/]")
    for round, stage, outcome, reason, tokens, text, rollout in _spread(rows, most).iter_rows():
        about = f"({reason or 'not judged'}; {tokens} tokens, {rollout[:12]})"
        _print(console, f"  round {round}  {stage:<8}  {outcome or '–':<7}  {_cut(text)}   {about}")
    if rows.height > most:
        console.print(f"  [dim]{rows.height - most} more: --answers {rows.height}[/]")


def _spread(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """At most `most` rows from all over the table, so that early and late policies both show."""
    if rows.height <= most:
        return rows
    return rows[[i * rows.height // most for i in range(most)]]


def _training(console: Console, lake: Lake, problem_id: str) -> None:
    rows = lake.query(
        """
        SELECT round, shard AS step, stream, count(*) AS answers, count(*) FILTER (outcome = 'pass') AS passed, avg(reward) AS reward
        FROM rollouts WHERE problem_id = ? AND stage = 'train' GROUP BY round, shard, stream, group_id ORDER BY ALL
        """,
        (problem_id,),
    )
    if rows.is_empty():
        return
    _section(console, "in training")
    for round, step, stream, answers, passed, reward in rows.iter_rows():
        said = "no gradient: all answers alike" if passed in (0, answers) else "trained on"
        _print(console, f"  round {round}  step {step:<4}  {stream:<10}  {passed} of {answers} passed, mean reward {reward or 0:.2f}: {said}")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _cut(text: str, most: int = WIDTH) -> str:
    """One line of a text, control characters out, its full length said where it is cut."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}… ({len(text):,} characters)"
