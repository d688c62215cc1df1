"""The further answers of adaptive probing, a wave at a time.

Between two waves an engine elsewhere would stand idle, with the last answers of one on their way and the next not planned. So a problem that its
own answers leave open is asked for its next ones at once, behind everything else; what the plan, which looks at all problems together, then does
not ask for is cancelled. The plan alone says what is kept: which answers came early changes no row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import polars as pl

from data.records import Problem, RolloutSpec
from filters.adaptive import decide
from filters.difficulty import Band, priors_of
from pipelines.judging import Judge
from pipelines.problems import problems_by_id
from pipelines.rollout_shards import Shard, judged_shards
from pipelines.rollout_stream import Judged, RolloutStream
from pipelines.run import Run
from pipelines.stages.rows import rollouts_of, sampled_tables, shards_of


@dataclass(frozen=True)
class Wave:
    """The `number`-th wave, before which each of its problems was asked for `asked` answers."""

    number: int
    asked: int

    def more(self, run: Run) -> int:
        """Answers it asks of each problem."""
        return min(run.recipe.probe.n, run.recipe.probe.most - self.asked)

    def spec(self, run: Run, problem: Problem) -> RolloutSpec:
        return RolloutSpec(problem, self.more(run), run.recipe.sampling.sampling(), stream="probe", key=("adaptive", self.number))


class Waves:
    """Samples and judges waves; over an engine that can cancel, one stream goes through all of them and is asked ahead. Use `with`."""

    def __init__(self, run: Run, round: int, inside: Band) -> None:
        self.run, self.round, self.inside, self.policy = run, round, inside, run.policy()
        self.rollouts = rollouts_of(run, round, "estimate", self.policy)
        self.stream = RolloutStream(self.rollouts) if self.rollouts.streams else None

    def __enter__(self) -> Waves:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stream is not None:
            self.stream.__exit__()

    def sample(self, wave: Wave, ids: Sequence[str], rows: pl.DataFrame, last: int) -> int:
        """`ids`: what `rows` leave open. Returns the wave's last shard, `last` being that of the wave before."""
        run, round = self.run, self.round
        chunks = shards_of(ids, run.recipe.probe.shard)
        askers: dict[int, Judge] = {}
        shards = []
        for number, chunk in enumerate(chunks, last + 1):
            if not run.lake.has_shard(round, "estimate", number):
                askers[number] = Judge(run, self.policy)
                shards.append(Shard(number, [wave.spec(run, p) for p in problems_by_id(run, list(chunk))], askers[number].tools))
        if self.stream is not None:
            self.stream.cancel_ahead(but={spec.group_id for shard in shards for spec in shard.specs})
        seen = self._looking_ahead(wave, rows)
        with closing(judged_shards(self.rollouts, shards, on_judged=seen, stream=self.stream)) as judged:
            for shard in judged:
                tables = sampled_tables(run, round, "estimate", shard.number, shard.specs, shard.rollouts, shard.verdicts)
                tables["requests"] += askers[shard.number].requests(round, "estimate", shard.number)
                run.lake.commit(round, "estimate", shard.number, tables)
                note = f"{len(ids)} problems need more answers, wave {wave.number}"
                run.emit("progress", round=round, stage="estimate", done=shard.number - last, total=len(chunks), note=note)
        return last + len(chunks)

    def _looking_ahead(self, wave: Wave, rows: pl.DataFrame) -> Callable[[Judged], object]:
        """What is done with each judged group of the wave: where it leaves its problem open, the next wave's answers are asked for."""
        run, stream, following = self.run, self.stream, Wave(wave.number + 1, wave.asked + wave.more(self.run))
        if stream is None or not stream.looks_ahead or following.asked >= run.recipe.probe.most:
            return lambda judged: None
        before = {i: (k, n) for i, k, n in rows.select("problem_id", "passes", "n").iter_rows()}
        most, prior = run.recipe.probe.most, priors_of(rows)[self.policy.id]

        def seen(judged: Judged) -> None:
            spec, _, _, verdicts = judged
            outcomes = [v.outcome for v in verdicts]
            k, n = before[spec.problem.id]
            passes, answers = k + outcomes.count("pass"), n + len(outcomes) - outcomes.count("unknown")
            if decide(passes, answers, self.inside, max(most, answers), prior, run.recipe.difficulty.certainty) == "open":
                stream.ask_ahead([following.spec(run, spec.problem)])

        return seen
