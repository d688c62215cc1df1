"""`synth run --preview N` and `--dry-run`: what a recipe would ask, shown or counted, with nothing kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.recipe import Recipe

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.memory import Role

PILOT_ITEMS = 48  # problems: enough rows for the engine's usual pace, a few seconds of work


def preview(console: Console, recipe: Recipe, items: int) -> None:
    """N items of every stage: the exact prompt, what the policy answers, what the verifier says, what strategies propose."""
    from data.errors import UserError
    from pipelines.check import check_names
    from pipelines.preview import ASKING, asked, proposed, tried

    if items < 1:
        raise UserError(f"--preview {items}: give the number of items to show per stage, 1 or more")
    check_names(recipe)
    if recipe.engine.kind == "replay":
        raise UserError("--preview asks a few requests of its own, which no recorded run holds; preview with the engine that answered that run")
    shown = f"{items} item{'s' * (items > 1)} per stage, really run in a scratch folder; nothing is kept"
    console.print(f"[bold]preview[/] of recipe {recipe.name}: {shown}\n", soft_wrap=True)
    with tried(recipe, items) as lake:
        for stage in ASKING:
            if stage == "synthesize":
                for strategy, prompt, reference, why in proposed(lake, items):
                    _title(console, stage, f"{strategy} proposes, because: {why}")
                    _block(console, prompt)
                    _block(console, f"reference {reference or '(none)'}", "dim")
            for item in asked(lake, stage, items):
                _title(console, stage, f"prompt, {item.prompt_tokens} tokens")
                _block(console, item.prompt)
                _block(console, f"answer, {item.answer_tokens} tokens", "dim")
                _block(console, item.answer)
                if item.outcome:
                    colour = {"pass": "green", "fail": "red"}.get(item.outcome, "yellow")
                    console.print(f"  [{colour}]{item.outcome}[/]", end=" ")
                    console.print(f"{item.reason}; reference {item.reference}\n", markup=False, emoji=False, style="dim")
    console.print("to run it: the same command without --preview", style="dim")


def _title(console: Console, stage: str, text: str) -> None:
    console.print(f"[bold]{stage}[/]", end="  ")
    console.print(text, markup=False, emoji=False, style="dim")


def _block(console: Console, text: str, style: str = "") -> None:
    for line in text.splitlines() or [""]:
        console.print(f"  {line}", markup=False, emoji=False, soft_wrap=True, style=style)


def dry_run(console: Console, recipe: Recipe) -> None:
    """Everything checked, requests counted, tokens and time scaled from a pilot on the embedded engine; no other engine is called."""
    import tomli_w
    from rich.table import Table

    from flows.cli.watch import clock
    from pipelines.check import check_names
    from pipelines.memory import check_memory, shape_of
    from pipelines.plan import measure, most_money, plan
    from pipelines.preview import tried
    from pipelines.problems import count_problems

    there = recipe.machine.gpus > 0  # the recipe names a machine of its own, which this one need not be
    check_names(recipe, here=not there)
    held = check_memory(recipe)
    train_problems, heldout_problems = count_problems(recipe)
    pilot = None
    if recipe.engine.kind == "local" and not there:
        console.print(f"pilot: {PILOT_ITEMS} items per stage on this machine …", style="dim")
        with tried(recipe, PILOT_ITEMS) as lake:
            pilot = measure(lake)
    lines = plan(recipe, train_problems=train_problems, heldout_problems=heldout_problems, pilot=pilot)
    console.print(tomli_w.dumps({k: v for k, v in recipe.plain().items() if v not in ({}, [])}), markup=False, emoji=False, soft_wrap=True)
    found = f"{train_problems:,} problems to learn from, {heldout_problems:,} held out; every name and file of the recipe was found\n"
    console.print(found, soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("stage", "requests", "tokens out", "time"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for line in lines:
        count = f"{line.low:,}" if line.low == line.high else f"{line.low:,} – {line.high:,}"
        per_answer = pilot.response_tokens if pilot else float(recipe.sampling.max_tokens)
        tokens = f"{'~' if pilot else '≤ '}{line.expected * per_answer:,.0f}" if line.high else ""
        table.add_row(line.stage, count if line.high else "", tokens, "" if line.seconds is None else f"~{clock(line.seconds)}")
    console.print(table)
    if (money := most_money(recipe, lines)) is not None:
        console.print(f"\nat most [bold]{money:,.2f}[/] for these answers at engine.openai.price_out; prompts come on top", soft_wrap=True)
    if held:
        _memory(console, held, "its config.json" if shape_of(recipe.policy.path)[1] else "the published shape: its folder is not on this machine")
    known = [line.seconds for line in lines if line.seconds is not None]
    if pilot:
        console.print(
            f"\nabout [bold]{clock(sum(known))}[/] in all on this machine as busy as it is now: {pilot.tokens_per_second:,.0f} tokens/s, "
            f"{pilot.response_tokens:.0f} tokens an answer, {pilot.mixed:.0%} of training groups with gradient",
            soft_wrap=True,
        )
    console.print("nothing was written", style="dim")


def _memory(console: Console, held: list[Role], source: str) -> None:
    """A column of terms per role, in GB on each of its GPUs."""
    from rich.table import Table

    from pipelines.memory import GB

    for role in held:
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column(f"\n{role.name}, each of {role.gpus} GPU{'s' * (role.gpus > 1)}")
        table.add_column("\nGB", justify="right")
        for what, size in role.terms:
            table.add_row(what, f"{size / GB:.2f}")
        table.add_row(f"[bold]of {role.room / GB:g} GB", f"[bold]{role.total / GB:.2f}")
        console.print(table)
        if role.note:
            console.print(role.note, style="dim", soft_wrap=True)
    console.print(f"memory is counted from {source}; activations and a process's own share are estimates", style="dim", soft_wrap=True)
