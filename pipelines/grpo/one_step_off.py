"""One-step-off rollouts: while the learner makes an update, the step after it is sampled with the weights before that update.

Generation and learning overlap at the price of one update of lag (verl's one-step-off, prime-rl and NeMo-RL do the same; TRL and AReaL count
it as a staleness of 1). The ratio against the sampler's own log-probs corrects the lag, or importance weights where the objective has them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from data.errors import UserError

if TYPE_CHECKING:
    from data.records import Sampling
    from pipelines.grpo.config import GRPOConfig
    from pipelines.grpo.presets import Preset

A = TypeVar("A")
B = TypeVar("B")


class Overlap:
    """Two jobs side by side: the learner's always on one thread of its own, the sampler's on the caller's.

    The ledger, the lake and the verifiers' processes thus stay on the thread that they were opened on, and an update is computed on the
    same thread whether something is sampled beside it or not. Use with `with`.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        """`cancel` makes a running update end soon; called when the caller is interrupted."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="learner")
        self._cancel = cancel

    def __enter__(self) -> Overlap:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown()

    def run(self, learn: Callable[[], A], sample: Callable[[], B]) -> tuple[A, B | Exception]:
        """(what was learned, what was sampled). An error of the learner is raised; one of the sampler is handed back, so that
        the update which is made by then can be kept first."""
        learning = self._pool.submit(learn)
        sampled: B | Exception
        try:
            try:
                sampled = sample()
            except Exception as error:  # noqa: BLE001 - raised by the caller, after the commit
                sampled = error
            return learning.result(), sampled
        except BaseException:
            self._cancel()
            raise


def ratio_corrects(preset: Preset) -> bool:
    """Whether the ratio itself has to correct for an older sampler: no importance weight does it."""
    return not set(preset.parts["weights"]) & {"truncated_importance", "masked_importance"}


def refuse_stale(config: GRPOConfig, sampling: Sampling) -> None:
    """UserError where this objective cannot learn from rollouts that are one update old, with the reason and what would be right."""
    preset = config.objective()
    reason = ""
    if ratio_corrects(preset):
        if preset.one("surrogate") == "ppo" and preset.one("clip") == "none":
            reason = "its ratio has no bound, so that one token may carry a whole step; set train.objective.tis_cap = 2.0, or clip = 'fixed'"
        elif "rejection" in preset.parts["weights"]:
            reason = (
                "reject_high compares the weights of now with the sampler's, and the ratio of stale rollouts already starts at the sampler's: "
                "it would reject nothing; set train.objective.tis_cap = 2.0 beside it"
            )
        elif config.stop_mismatch:
            reason = "stop_mismatch watches a gap that is 0 for stale rollouts (their ratio shows it); set train.trainer.stop_kl or stop_grad_norm"
    if not reason and config.temperature not in (0.0, sampling.temperature):
        reason = f"train.trainer.temperature = {config.temperature} is not sampling.temperature = {sampling.temperature}, so log-probs do not compare"
    if not reason and (sampling.top_p < 1 or sampling.top_k):
        reason = "sampling.top_p or top_k cuts the sampler's distribution, so that its log-probs do not compare with the policy's; set top_p = 1"
    if reason:
        raise UserError(f"train.staleness = 1 cannot work with preset {config.preset!r} as given: {reason}, or staleness = 0")
