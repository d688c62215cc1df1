"""Where a run stands, read from outside while it goes on: its lake, its ledger and its event log. Writes nothing and locks nothing."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.events import LOG, read_events

if TYPE_CHECKING:
    from data.lake import Lake

RATE_WINDOW = 30.0  # seconds of events that the rates are taken from
Event = dict[str, Any]


@dataclass
class RunState:
    """What `synth watch` shows. Rates are None where nothing was generated lately; `seconds_left` is None where nothing can tell."""

    folder: Path
    name: str
    seed: int
    rounds: int
    state: str  # running | finished | stopped
    why: str = ""
    round: int = 0
    stage: str = ""
    done: int = 0
    total: int = 0
    note: str = ""
    stage_seconds: float = 0.0
    answers_per_second: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    requests: dict[str, int] = field(default_factory=dict)  # sent (in flight), done, failed, repeats, …
    proposed: int = 0
    kept: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    pass_counts: dict[int, int] = field(default_factory=dict)  # passes -> problems, newest round
    probed_n: int = 0
    rewards: list[float] = field(default_factory=list)
    staleness: int = 0  # of the newest optimizer step, as are:
    ranks: int = 1
    ratio: float | None = None
    scores: list[tuple[int, float, float, float]] = field(default_factory=list)  # round, pass@1, low, high
    errors: list[tuple[str, int]] = field(default_factory=list)


def read_state(folder: Path, lake: Lake, now: float) -> RunState:
    """`now`: seconds since the epoch. The lake is open for reading and may be asked again and again."""
    from pipelines.run import run_file

    recipe = run_file(folder)["recipe"]
    state = RunState(folder, recipe["name"], recipe["seed"], recipe["rounds"], "stopped")
    events = list(read_events(folder / LOG))
    _standing(state, events, now)
    _rates(state, events, now)
    _from_lake(state, lake)
    _from_ledger(state, folder)
    state.seconds_left = _seconds_left(state, lake, events, now)
    return state


def writer_of(folder: Path) -> int | None:
    """The process that writes the run, if it is alive on this machine."""
    try:
        pid = int((folder / "writer.lock").read_text("ascii"))
        os.kill(pid, 0)
    except PermissionError:
        return pid
    except (OSError, ValueError):
        return None
    return pid


def _time(event: Event) -> float:
    try:
        return datetime.fromisoformat(event["time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0


def _standing(state: RunState, events: list[Event], now: float) -> None:
    """Running, finished or stopped, and which stage is at work since when."""
    last = next((e["event"] for e in reversed(events) if e["event"] in ("run_started", "run_done", "run_failed", "interrupted")), "")
    writer = writer_of(state.folder)
    if last == "run_done":
        state.state = "finished"
    elif last == "run_failed":
        state.why = next((str(e.get("error", "")) for e in reversed(events) if e["event"] == "run_failed"), "")
    elif writer is not None and last != "interrupted":
        state.state = "running"
    else:
        state.why = "interrupted" if last == "interrupted" else "its process is gone"
    began = next((e for e in reversed(events) if e["event"] == "stage_started"), None)
    if began is None:
        return
    state.round, state.stage = int(began.get("round", 0)), str(began.get("stage", ""))
    state.stage_seconds = max(0.0, now - _time(began))
    since = [e for e in events[events.index(began) :] if e["event"] == "progress" and e.get("stage") == state.stage]
    if since:
        state.done, state.total, state.note = int(since[-1]["done"]), int(since[-1]["total"]), str(since[-1].get("note") or "")


def _rates(state: RunState, events: list[Event], now: float) -> None:
    """Answers and tokens per second over the last `RATE_WINDOW` seconds of generation; a counter that fell began anew."""
    seen = [e for e in events if e["event"] == "generating" and now - _time(e) <= RATE_WINDOW]
    if len(seen) < 2:
        return
    answers = tokens = 0
    for before, after in pairwise(seen):
        anew = after["done"] < before["done"] or after["tokens"] < before["tokens"]
        answers += after["done"] - (0 if anew else before["done"])
        tokens += after["tokens"] - (0 if anew else before["tokens"])
    seconds = max(1e-3, (now if state.state == "running" else _time(seen[-1])) - _time(seen[0]))
    state.answers_per_second, state.tokens_per_second = answers / seconds, tokens / seconds


def _from_lake(state: RunState, lake: Lake) -> None:
    newest = lake.query("SELECT max(round) FROM decisions WHERE stage = 'synthesize'").item()
    if newest is not None:
        asked = "SELECT stage, rule, kept, count(*) FROM decisions WHERE round = ? AND stage IN ('synthesize', 'audit') GROUP BY ALL"
        rows = lake.query(asked, (newest,))
        for stage, rule, kept, count in rows.iter_rows():
            if stage == "synthesize":
                state.proposed += count
                if not kept:
                    state.refused[rule] = state.refused.get(rule, 0) + count
            elif kept:
                state.kept += count
            else:
                state.refused[rule] = state.refused.get(rule, 0) + count
    newest_counts = "SELECT passes, n, count(*) FROM difficulty WHERE round = (SELECT max(round) FROM difficulty) GROUP BY ALL ORDER BY ALL"
    counts = lake.query(newest_counts).rows()
    state.probed_n = max((n for _, n, _ in counts), default=0)
    for passes, n, problems in counts:
        bucket = round(passes * state.probed_n / n) if n else 0
        state.pass_counts[bucket] = state.pass_counts.get(bucket, 0) + problems
    state.rewards = [r for (r,) in lake.query("SELECT reward_mean FROM train_steps WHERE groups > 0 ORDER BY round, step").iter_rows()]
    if "staleness" in lake.query("SELECT * FROM train_steps LIMIT 0").columns:  # not in a lake of an older version
        newest = lake.query("SELECT staleness, ranks, ratio_mean FROM train_steps ORDER BY round DESC, step DESC LIMIT 1").rows()
        state.staleness, state.ranks, state.ratio = newest[0] if newest else (0, 1, None)
    for of_round, info in lake.query("SELECT round, info FROM stages WHERE stage = 'evaluate' ORDER BY round").iter_rows():
        found = json.loads(info)
        if "pass_at_1" in found:
            state.scores.append((of_round, found["pass_at_1"], found["pass_at_1_low"], found["pass_at_1_high"]))
    unknown = lake.query("SELECT reason, count(*) FROM verdicts WHERE outcome = 'unknown' GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT 3").rows()
    state.errors = [(f"unknown verdict: {reason}", count) for reason, count in unknown]


def _from_ledger(state: RunState, folder: Path) -> None:
    from data.errors import SynthError
    from data.ledger import Ledger

    with contextlib.suppress(SynthError, OSError), Ledger.open(folder / "ledger.sqlite", write=False) as ledger:
        state.requests = ledger.counts()
        state.errors = [(f"request failed: {error}", count) for error, count in ledger.errors(3)] + state.errors


def _seconds_left(state: RunState, lake: Lake, events: list[Event], now: float) -> float | None:
    """What this stage and the stages after it take, judged by its own pace and by the last round's stages."""
    if state.state != "running" or not state.stage:
        return None
    # by stage; of several rounds the newest stays
    took: dict[str, float] = dict(lake.query("SELECT stage, seconds FROM stages WHERE round > 0 ORDER BY round").iter_rows())
    from pipelines.stages import FIRST, ROUND

    names = [s.name for s in (FIRST if state.round == 0 else ROUND)]
    if state.done and state.total:
        here = state.stage_seconds / state.done * (state.total - state.done)
    elif state.stage in took:
        here = max(0.0, took[state.stage] - state.stage_seconds)
    else:
        return None
    later = names[names.index(state.stage) + 1 :] if state.stage in names else []
    whole = [s.name for s in ROUND] * (state.rounds - state.round)
    if any(name not in took for name in (*later, *whole)):
        return None
    return here + sum(took[name] for name in (*later, *whole))
