"""The head of the report: what was run, what came of it in a sentence, and how to run it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.report.commands import recorded_commands
from pipelines.report.figure import count, duration, interval, label, percent, plural, points, short, visible


@dataclass(frozen=True)
class Head:
    title: str
    when: str
    state: str  # finished, or where the run stands
    finished: bool
    verdict: str
    tone: str  # better, worse, open, none
    facts: list[tuple[str, str]]
    tiles: list[tuple[str, str, str]]  # name, value, what it means
    commands: list[str]
    again: str
    digest: str
    resume: str


def head(
    folder: Path, begun: Mapping[str, Any], stages: pl.DataFrame, costs: pl.DataFrame, fates: pl.DataFrame, moments: tuple[Any, Any], starts: int
) -> Head:
    recipe = begun["recipe"]
    infos = {(round, stage): json.loads(info) for round, stage, info in stages.select("round", "stage", "info").iter_rows()}
    finished = (recipe["rounds"], "evaluate") in infos
    last = stages.row(-1, named=True) if stages.height else None
    state = "finished" if finished else f"unfinished: round {last['round']} of {recipe['rounds']}, after {last['stage']}" if last else "just begun"
    verdict, tone = _verdict(infos, recipe)
    began, ended = moments
    took = (ended - began).total_seconds() if isinstance(began, datetime) and isinstance(ended, datetime) else None
    where = shlex.quote(str(folder))
    facts = [
        ("run", visible(str(folder))),
        ("date", f"{began:%Y-%m-%d %H:%M} UTC" if isinstance(began, datetime) else "–"),
        ("duration", duration(took) + (f", {plural(starts, 'start')}" if starts > 1 else "")),
        ("policy", label(str(recipe["policy"]["path"]), 60)),
        ("problems", _problems(recipe["problems"])),
        ("training", f"{recipe['train']['preset']}, {plural(recipe['rounds'], 'round')} of {plural(recipe['train']['steps'], 'step')}"),
        ("strategies", ", ".join(label(s, 30) for s in sorted(recipe["strategies"])) or "none"),
        ("seed", str(recipe["seed"])),
        ("recipe hash", begun.get("recipe_hash", "–")),
        ("versions", ", ".join(f"{k} {v}" for k, v in begun.get("versions", {}).items() if v)),
        ("machine", f"{begun.get('machine', '–')}, {plural(begun.get('cores') or 0, 'core')}, Python {begun.get('python', '–')}"),
    ]
    return Head(
        title=label(str(recipe["name"]), 60),
        when=" · ".join(value for name, value in facts if name in ("date", "duration", "run") and value != "–") + f" · seed {recipe['seed']}",
        state=state,
        finished=finished,
        verdict=verdict,
        tone=tone,
        facts=facts,
        tiles=_tiles(infos, costs, fates, took),
        commands=[visible(c) for c in recorded_commands(folder)],
        again=f"synth run {shlex.quote(str(folder / 'recipe.toml'))} --out NEW_FOLDER",
        digest=f"synth digest {where}",
        resume="" if finished else f"synth resume {where}",
    )


def skipped(stages: pl.DataFrame) -> list[str]:
    """Why a round has not trained, a sentence each; the same reason once for all rounds that share it."""
    rounds: dict[str, list[int]] = {}
    for round, info in stages.filter(pl.col("stage") == "train").sort("round").select("round", "info").iter_rows():
        if why := json.loads(info).get("skipped"):
            rounds.setdefault(visible(str(why)), []).append(round)
    return [f"Round {', '.join(map(str, which))} did not train: {why}." for why, which in rounds.items()]


def _verdict(infos: Mapping[tuple[int, str], dict[str, Any]], recipe: Mapping[str, Any]) -> tuple[str, str]:
    evaluated = sorted((round, info) for (round, stage), info in infos.items() if stage == "evaluate" and "pass_at_1" in info)
    trained = [round for (round, stage), info in infos.items() if stage == "train" and info.get("steps")]
    why = [info["skipped"] for (_, stage), info in sorted(infos.items()) if stage == "train" and info.get("skipped")]
    if evaluated and trained and "gain" in evaluated[-1][1]:
        round, info = evaluated[-1]
        low, high = info["gain_low"], info["gain_high"]
        tone = "better" if low > 0 else "worse" if high < 0 else "open"
        sure = {"better": "better than chance explains", "worse": "worse than before", "open": "within what chance explains"}[tone]
        after = "" if round == recipe["rounds"] else f" after round {round}"
        return (
            f"Held-out pass@1 changed by {points(info['gain'])} points{after}, 95 % interval [{points(low)}, {points(high)}]"
            f" on {plural(info['problems'], 'problem')}: {sure}."
        ), tone
    if why:
        return f"Nothing was trained: {visible(str(why[-1]))}.", "none"
    if evaluated:
        info = evaluated[-1][1]
        told = interval(info["pass_at_1"], info.get("pass_at_1_low"), info.get("pass_at_1_high"))
        return f"Before any training, held-out pass@1 is {told} on {plural(info['problems'], 'problem')}.", "none"
    return "Nothing has been measured yet.", "none"


def _tiles(
    infos: Mapping[tuple[int, str], dict[str, Any]], costs: pl.DataFrame, fates: pl.DataFrame, took: float | None
) -> list[tuple[str, str, str]]:
    evaluated = sorted((round, info) for (round, stage), info in infos.items() if stage == "evaluate" and "pass_at_1" in info)
    tiles = []
    if evaluated:
        first, last = evaluated[0][1]["pass_at_1"], evaluated[-1][1]["pass_at_1"]
        tiles.append(("held-out pass@1", percent(last), f"from {percent(first)} before training" if len(evaluated) > 1 else "before any training"))
        learned = any(info.get("steps") for (_, stage), info in infos.items() if stage == "train")
        if learned and "gain" in (info := evaluated[-1][1]):
            tiles.append(("gain, in points", points(info["gain"]), f"95 % interval [{points(info['gain_low'])}, {points(info['gain_high'])}]"))
    refused = int(fates.filter(pl.col("fate") == "refused")["candidates"].sum())
    selected = int(fates.filter(pl.col("fate") == "selected")["candidates"].sum())
    tiles.append(("problems selected", count(selected), f"{count(refused)} refused by a rule"))
    rollouts, written, trained = (int(costs[c].sum() or 0) for c in ("rollouts", "response_tokens", "trained_tokens"))
    tiles.append(("answers", short(rollouts), f"{short(written)} tokens written"))
    tiles.append(
        ("tokens trained on", short(trained), f"in {plural(sum(info.get('steps') or 0 for (_, s), info in infos.items() if s == 'train'), 'step')}")
    )
    tiles.append(("duration", duration(took), "first start to last write"))
    return tiles


def _problems(part: Mapping[str, Any]) -> str:
    files = [label(Path(str(f)).name, 40) for f in part.get("files") or []]
    world = [f"world {label(part['world'], 40)}"] if part.get("world") else []
    return ", ".join([*world, *files[:5], *([f"and {len(files) - 5} more files"] if len(files) > 5 else [])]) or "none"
