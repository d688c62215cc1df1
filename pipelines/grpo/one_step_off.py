"""One-step-off rollouts: while the trainer learns from one batch, the sampler already makes the next with the weights before that update.

Generation and learning overlap at the price of one update of lag (NeMo-RL, verl and prime-rl do the same), which the ratio against
the sampler's own log-probs corrects, or truncated importance where the objective has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from data.records import Group
from pipelines.grpo.replay import group_from_json, group_to_json
from pipelines.grpo.trainer import GRPOTrainer


class OneStepOff:
    """Drives a trainer and a sampler side by side.

    `sample(step)` gives the judged groups of a step with the weights that the sampler holds; it runs in a thread of its own, so it must
    share nothing with the trainer. `load(trainer)` hands the sampler the trainer's weights. The first step is on policy, all others
    lag by one update. What is sampled ahead is part of the state, so a resumed run learns from the very same groups.
    """

    def __init__(self, trainer: GRPOTrainer, sample: Callable[[int], Sequence[Group]], load: Callable[[GRPOTrainer], None]) -> None:
        self.trainer, self.sample, self.load = trainer, sample, load
        self.ahead: list[Group] = []
        corrected = set(trainer.objective.preset.parts["weights"]) & {"truncated_importance", "masked_importance"}
        self._ratio_corrects = not corrected

    def step(self, last: bool = False) -> dict[str, float]:
        """One step of the trainer, and the next one's groups sampled meanwhile (not after the `last`). Errors of either side are raised here."""
        number = self.trainer.step_count
        lags = bool(self.ahead)
        groups = self.ahead or list(self.sample(number))
        with ThreadPoolExecutor(1) as pool:
            following = None if last else pool.submit(self.sample, number + 1)
            metrics = self.trainer.step(groups, stale={g.id for g in groups} if lags and self._ratio_corrects else ())
            self.ahead = [] if following is None else list(following.result())
        self.load(self.trainer)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """JSON-able, for `GRPOTrainer.save(extra=…)`."""
        return {"ahead": [group_to_json(g) for g in self.ahead]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """After a resume; the sampler is given the trainer's weights, with which it samples the step after the next."""
        self.ahead = [group_from_json(g) for g in state["ahead"]]
        self.load(self.trainer)
