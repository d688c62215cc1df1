"""Replay: groups of earlier steps join a step once more. They are off policy, so their ratio is against the sampler's own log-probs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.keyed import keyed_order
from data.records import Group, Problem, Sampling, Trajectory, Turn, Verdict
from pipelines.grpo.component import component
from pipelines.grpo.recompose import StepInfo


@component(
    "composers",
    needs=["behavior_logp"],
    switch="replay_share",
    paper="RLEP, arXiv 2507.07451",
    checks={"replay_capacity": (lambda v: v >= 1, "must be 1 or more")},
)
class Replay:
    """Adds `replay_share` x (this step's groups) earlier groups with variance, drawn by key from the newest `replay_capacity` ones.

    The memory is whole groups, tokens and all; it is part of every checkpoint. RLEP itself mixes verified successes of an earlier run into
    the groups of this one; here whole groups come back, so that each keeps the baseline it was sampled with.
    """

    def __init__(self) -> None:
        self.kept: list[Group] = []

    def __call__(self, groups: Sequence[Group], info: StepInfo, *, replay_share: float = 0.0, replay_capacity: int = 64) -> list[Group]:
        by_id = {f"{i:08d}": g for i, g in enumerate(self.kept)}
        wanted = round(replay_share * len(groups))
        drawn = [by_id[i] for i in keyed_order(info.seed, list(by_id), "replay", info.step)[:wanted]]
        again = [replace(g, id=f"{g.id}~{info.step}.{n}") for n, g in enumerate(drawn)]
        info.stale.update(g.id for g in again)
        self.kept = [*self.kept, *(g for g in groups if not g.zero_variance)][-replay_capacity:]
        return [*groups, *again]

    def state_dict(self) -> dict[str, Any]:
        return {"kept": [group_to_json(g) for g in self.kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.kept = [group_from_json(g) for g in state["kept"]]


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _unpacked(text: str, dtype: Any) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype).copy()


_ARRAYS = {"tokens": np.int32, "loss_mask": np.uint8, "logp": np.float32}


def group_to_json(group: Group) -> dict[str, Any]:
    """JSON-able, bit for bit: what the policy sampled goes through base64, NaN included."""
    rows = []
    for t in group.rollouts:
        plain = {f.name: getattr(t, f.name) for f in fields(t) if f.name not in _ARRAYS}
        arrays = {k: _packed(np.asarray(getattr(t, k), dtype)) for k, dtype in _ARRAYS.items()}
        rows.append({**plain, **arrays, "sampling": asdict(t.sampling), "turns": [asdict(turn) for turn in t.turns]})
    return {
        "id": group.id,
        "problem": asdict(group.problem),
        "rollouts": rows,
        "verdicts": [asdict(v) for v in group.verdicts],
        "rewards": _packed(np.asarray(group.rewards, np.float32)),
        **{k: getattr(group, k) for k in ("stream", "estimator", "coef", "refs", "kl")},
    }


def group_from_json(state: Mapping[str, Any]) -> Group:
    """The group that `group_to_json` wrote."""
    rollouts = []
    for row in state["rollouts"]:
        made = {**row, **{k: _unpacked(row[k], dtype) for k, dtype in _ARRAYS.items()}}
        made["sampling"] = Sampling(**{**row["sampling"], "stop": tuple(row["sampling"]["stop"])})
        made["turns"] = tuple(Turn(**turn) for turn in row["turns"])
        made |= {k: tuple(tuple(v) for v in row[k]) for k in ("version_spans", "media")}
        made |= {"request_keys": tuple(row["request_keys"]), "parent": tuple(row["parent"]) if row["parent"] else None}
        rollouts.append(Trajectory(**made))
    problem = {**state["problem"], "media": tuple(state["problem"]["media"]), "concepts": tuple(state["problem"]["concepts"])}
    return Group(
        state["id"],
        Problem(**problem),
        tuple(rollouts),
        tuple(Verdict(**v) for v in state["verdicts"]),
        _unpacked(state["rewards"], np.float32),
        state["stream"],
        state["estimator"],
        state["coef"],
        tuple(state["refs"]),
        state.get("kl", 1.0),
    )
