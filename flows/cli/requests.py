"""The model requests of a run, while it goes on or afterwards: how many, what came of them, tokens, seconds and money; what was sent twice, failed
or took long; and any one of them whole.

One ledger row is one request. Seconds pass from the first request of a purpose to its last answer, policy by policy.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from data.ledger import Ledger

HELP = "show what a run asked its model: counts, tokens, seconds, money"
EPILOG = """examples:
  synth requests runs/arithmetic-001
  synth requests runs/arithmetic-001 --failed              those that failed, with their errors
  synth requests runs/arithmetic-001 --repeated            those that were sent more than once
  synth requests runs/arithmetic-001 --where "purpose = 'train' AND tokens_out > 200" --most 50
  synth requests runs/arithmetic-001 --show 66a2           one of them whole: prompt, answer, who asked, what the verifier said
  synth requests runs/arithmetic-001 --json

Money needs prices in the recipe: engine.price_per_million = {input = 0.1, output = 0.4}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="the run folder")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--where", metavar="SQL", help="list the requests that this condition holds for")
    chosen.add_argument("--failed", action="store_true", help="list requests with errors")
    chosen.add_argument("--repeated", action="store_true", help="list requests that were sent more than once or answered again")
    chosen.add_argument("--show", metavar="KEY", help="one request whole; the beginning of its key is enough")
    parser.add_argument("--most", type=int, default=20, metavar="N", help="rows to list (default: 20)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")


def main(args: argparse.Namespace) -> int:
    from rich.console import Console

    from data.errors import UserError
    from data.ledger import Ledger
    from data.request_counts import FAILED, REPEATED, beginning_with, rows_where
    from pipelines.run import run_file

    if args.most < 1:
        raise UserError(f"--most {args.most}: give the number of rows to list, 1 or more")
    begun = run_file(args.dir)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    condition = args.where or (FAILED if args.failed else REPEATED if args.repeated else "")
    with Ledger.open(args.dir / "ledger.sqlite", write=False) as ledger:
        if args.show is not None:
            one = beginning_with(ledger, args.show) | {"verdicts": _verdicts(args.dir, beginning_with(ledger, args.show)["key"])}
            one["request"] = json.loads(one["request"])
            _print_json(one) if args.json else _whole(console, one)
        elif condition:
            total, rows = rows_where(ledger, condition, most=args.most)
            _print_json({"requests": total, "rows": rows}) if args.json else _list(console, rows, total)
        else:
            found = summary(ledger, prices(begun["recipe"]))
            _print_json(found) if args.json else _summary(console, found)
    return 0


def prices(recipe: dict[str, Any]) -> dict[str, float]:
    """Money per million tokens, input and output; {} where the recipe names none."""
    engine = recipe.get("engine", {})
    return dict(engine.get("price_per_million") or {})


def summary(ledger: Ledger, price: dict[str, float]) -> dict[str, Any]:
    """Everything that the command shows without a choice, JSON-able."""
    from data.request_counts import by_purpose, money, slowest

    rows = by_purpose(ledger)
    spent = money(rows, price)
    for place, row in enumerate(rows):
        row["tokens_per_second"] = row["tokens_out"] / row["seconds"] if row["seconds"] else None
        if spent is not None:
            row["money"] = spent[place]
    total = {name: sum(row[name] for row in rows) for name in rows[0] if name not in ("purpose", "tokens_per_second")} if rows else {}
    if total:
        total["tokens_per_second"] = total["tokens_out"] / total["seconds"] if total["seconds"] else None
    short = ("key", "purpose", "seconds", "tokens_in", "tokens_out")
    return {
        "by_purpose": rows,
        "total": total,
        "slowest": [{name: row[name] for name in short} for row in slowest(ledger, 5)],
        "errors": [{"error": error, "requests": count} for error, count in ledger.errors(5)],
    }


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _summary(console: Console, found: dict[str, Any]) -> None:
    from rich.table import Table

    if not found["by_purpose"]:
        console.print("nothing was asked yet")
        return
    rows, total = found["by_purpose"], found["total"]
    states = [name for name in ("done", "failed", "sent", "cancelled") if total[name]]
    titles = {"done": "answered", "sent": "in flight"}
    names = ["asked by", "requests", *(titles.get(s, s) for s in states), "sent again", "tokens in", "tokens out", "seconds", "tokens/s"]
    names += ["money"] * ("money" in total)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name == "asked by" else "right")
    for row in [*rows, {"purpose": "in all", **total}] if len(rows) > 1 else rows:
        counts = [row["requests"], *(row[s] for s in states), row["again"], row["tokens_in"], row["tokens_out"]]
        speed = "" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:,.0f}"
        cells = [row["purpose"] or "(not said)", *(f"{count:,}" for count in counts), f"{row['seconds']:,.1f}", speed]
        table.add_row(*cells, *([f"{row['money']:,.4f}"] if "money" in row else []), end_section=row["purpose"] == "in all")
    console.print(table)
    again = f"{total['again']:,} sent again" if total["again"] else "none was sent twice"
    twice = f", {total['repeats']:,} answered twice" if total["repeats"] else ""
    console.print(f"\n{total['requests']:,} requests, {total['attempts']:,} attempts: {again}{twice}", style="dim")
    if found["errors"]:
        console.print("\n[bold]failed[/]")
        for one in found["errors"]:
            console.print(f"  {one['requests']:,} × {_cut(one['error'], 120)}", markup=False, emoji=False)
    console.print("\n[bold]slowest[/]")
    for one in found["slowest"]:
        console.print(f"  {one['key'][:12]}  {one['purpose']:<10} {one['seconds']:8.2f} s  {one['tokens_out']:,} tokens", markup=False, emoji=False)


def _list(console: Console, rows: list[dict[str, Any]], total: int) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("key", "asked by", "state", "sent", "errors", "tokens", "seconds", "answer or error"):
        table.add_column(name, justify="right" if name in ("sent", "errors", "tokens", "seconds") else "left", no_wrap=name != "answer or error")
    for row in rows:
        said = row["error"] if row["state"] == "failed" else row["text"]
        cells = (str(row["attempts"]), str(row["errors"]), f"{row['tokens_out']:,}", f"{row['seconds']:.2f}")
        table.add_row(row["key"][:12], Text(row["purpose"]), row["state"], *cells, Text(_cut(said or "", 80)))
    if rows:
        console.print(table)
    more = f", {total - len(rows):,} more: --most {total}" if total > len(rows) else ""
    console.print(f"{total:,} request{'s' * (total != 1)}{more}", style="dim")


def _whole(console: Console, one: dict[str, Any]) -> None:
    from pipelines.preview import prompt_text

    def block(title: str, text: str) -> None:
        console.print(f"\n[bold]{title}[/]")
        for line in text.splitlines() or [""]:
            console.print("  " + "".join(c if c.isprintable() else " " for c in line), markup=False, emoji=False, soft_wrap=True)

    asked = one["request"]
    console.print(f"[bold]request[/] {one['key']}")
    who = f"  {one['purpose'] or 'nobody said who'} asked policy {one['policy']} ({one['model'] or 'no model named'})"
    console.print(who + (f" about problem {one['problem']}" if one["problem"] else ""), markup=False, emoji=False, soft_wrap=True)
    times = f"sent {one['attempts']} time{'s' * (one['attempts'] != 1)}"
    sent = f"  {one['state']}; {times}, {one['errors']} errors, {one['repeats']} later answers ignored"
    console.print(sent, markup=False)
    console.print(f"  seed {asked['seed']}, sample {asked['index']}, sampling {json.dumps(asked['sampling'])}", markup=False, soft_wrap=True)
    block(f"prompt  [dim]{one['tokens_in']:,} tokens[/]", prompt_text(asked))
    if asked.get("structured"):
        block("wanted form", json.dumps(asked["structured"], ensure_ascii=False))
    if one["state"] == "done":
        block(f"answer  [dim]{one['tokens_out']:,} tokens, {one['seconds']:.2f} s, ended by {one['finish']}[/]", one["text"] or "")
    elif one["error"]:
        block("error", one["error"])
    if one["verdicts"]:
        block("verdict", "\n".join(f"{v['outcome']}, reward {v['reward']:.2f}: {v['reason']} ({v['verifier']})" for v in one["verdicts"]))
    elif one["state"] == "done":
        block("verdict", "none in the lake: its shard is not committed yet, or nothing judges it")


def _verdicts(folder: Path, key: str) -> list[dict[str, Any]]:
    """The verdicts on the rollouts that this request is a part of."""
    from pipelines.run import read_lake

    with read_lake(folder) as lake:
        found = lake.query(
            """
            SELECT DISTINCT v.rollout_id, v.outcome, v.reward, v.reason, v.verifier FROM trajectories t JOIN verdicts v USING (rollout_id)
            WHERE list_contains(t.request_keys, ?) ORDER BY v.rollout_id
            """,
            (key,),
        )
        return list(found.iter_rows(named=True))


def _cut(text: str, most: int) -> str:
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"
