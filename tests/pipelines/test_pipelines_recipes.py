"""Shipped recipes whose strategies no other test runs from end to end: tiny, but whole, twice, and the lake is right."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from data.lake import Lake
from generators.strategies.segments import SHIPPED, read_documents, sentences
from pipelines.run import read_lake
from tests.command import synth, synth_process

GROUP = 4
SMALL = [
    "problems.per_cell=1", "problems.levels=[1, 2, 3]", "probe.problems=30", "probe.n=4", "select.problems=24", "train.steps=2",
    "train.prompts_per_step=8", f"train.group_size={GROUP}", "evaluate.problems=8", "evaluate.n=1",
]  # fmt: skip
MORE = {"mr_rlvr": ["strategies.mr_rlvr.budget=16"], "rlpt": ["strategies.rlpt.budget=16", "strategies.rlpt.context=150"]}


def rewrites(lake: Lake, said: str) -> None:
    """Every writing of the policy has one fate, and what is kept has the answer of the problem it was written from."""
    written = lake.query("SELECT count(*) FROM rollouts WHERE stream = 'clpo.write'").item()
    fates = lake.query("SELECT candidate_id, bool_and(kept) AS kept FROM decisions WHERE strategy = 'clpo' GROUP BY ALL")
    assert written == fates.height > 0
    assert f"clpo wrote {written}, {fates['kept'].sum()} kept" in said
    other = "SELECT p.reference, o.reference FROM problems p JOIN problems o ON o.problem_id = (p.meta->>'rewrite_of') WHERE p.source = 'clpo'"
    pairs = lake.query(other).rows()
    assert pairs and all(mine == its for mine, its in pairs)


def votes(lake: Lake, said: str) -> None:
    """The rewards, worked out again: an answer is worth 1 where it is what most answers to the other wording say."""
    rows = lake.query(
        """
        SELECT r.shard, coalesce(p.meta->>'paraphrase_of', r.problem_id) AS pair, r.stream, r.reward, r.finish, t.text
        FROM rollouts r JOIN trajectories t USING (rollout_id) JOIN problems p ON p.problem_id = r.problem_id
        WHERE r.stream LIKE 'co_reward.%' ORDER BY r.sample
        """
    )
    pairs: dict[tuple[int, str], dict[str, list[tuple[str, float]]]] = {}
    for shard, pair, stream, reward, finish, text in rows.iter_rows():
        stated = re.search(r"#### (-?\d+)$", text.strip()) if finish == "stop" else None
        pairs.setdefault((shard, pair), {}).setdefault(stream, []).append((stated[1] if stated else "", reward))
    clear = [tuple(g.values()) for g in pairs.values() if all(len(answers) == GROUP for answers in g.values())]  # not drawn twice in one step
    assert len(clear) >= 6
    for one, two in clear:
        for mine, its in ((one, two), (two, one)):
            most = Counter(answer for answer, _ in its if answer).most_common(1)
            assert [reward for _, reward in mine] == [float(bool(most) and answer == most[0][0]) for answer, _ in mine]


def process_tasks(lake: Lake, said: str) -> None:
    kinds = dict(lake.query("SELECT verifier, count(*) FROM problems WHERE source = 'mr_rlvr' GROUP BY ALL").rows())
    assert set(kinds) == {"fill", "reorder"} and sum(kinds.values()) <= 16
    lost = "SELECT count(*) FROM problems p WHERE source = 'mr_rlvr' AND (meta->>'task_of') NOT IN (SELECT problem_id FROM problems)"
    assert lake.query(lost).item() == 0
    assert re.search(r"none of the \d+ groups of mr_rlvr had different rewards", said)  # a policy that was never taught the format


def next_sentences(lake: Lake, said: str) -> None:
    text = {s for document in read_documents(SHIPPED / "texts.txt") for s in sentences(document)}
    rows = lake.query("SELECT reference, domain, prompt FROM problems WHERE source = 'rlpt'").rows()
    assert {domain for _, domain, _ in rows} == {"rlpt.asr", "rlpt.msr"}
    assert all(reference in text and reference not in prompt for reference, _, prompt in rows)
    assert re.search(r"none of the \d+ groups of rlpt had different rewards", said)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "own"), [("clpo", rewrites), ("co_reward", votes), ("mr_rlvr", process_tasks), ("rlpt", next_sentences)])
def test_a_whole_small_run_has_a_sound_lake_and_the_same_digest_again(tmp_path: Path, recipe: str, own) -> None:  # type: ignore[no-untyped-def]
    words = ["run", recipe, *(w for change in (*SMALL, *MORE.get(recipe, ())) for w in ("--set", change)), "--out"]
    done = synth(*words, tmp_path / "one")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "internal" not in done.stdout
    with read_lake(tmp_path / "one") as lake:
        assert lake.duplicate_keys() == {}
        decided = "SELECT problem_id FROM decisions WHERE reason <> ''"
        undecided = f"SELECT count(*) FROM problems WHERE verifier <> 'written' AND problem_id NOT IN ({decided})"  # 'written': an order to write
        assert lake.query(undecided).item() == 0
        unknown = "SELECT problem_id FROM rollouts UNION SELECT problem_id FROM decisions"
        assert lake.query(f"SELECT count(*) FROM ({unknown}) ANTI JOIN problems USING (problem_id)").item() == 0
        assert lake.query("SELECT count(*) FROM train_steps").item() == 2
        shapes = """
            SELECT count(*) FROM trajectories t JOIN rollouts r USING (rollout_id)
            WHERE len(tokens) <> len(loss_mask) OR len(tokens) <> len(logp) OR list_sum(loss_mask) <> response_tokens
               OR len(list_filter(list_zip(loss_mask, logp), x -> x[1] = 1 AND NOT coalesce(x[2] <= 0, false))) > 0
               OR NOT coalesce(reward BETWEEN 0 AND 1, r.stage = 'probe')
        """
        assert lake.query(shapes).item() == 0
        groups = lake.query("SELECT DISTINCT stream, count(*) FROM rollouts WHERE stage = 'train' GROUP BY stream, shard, group_id, problem_id")
        assert all(size == (1 if stream.endswith(".write") else GROUP) for stream, size in groups.iter_rows())
        own(lake, done.stdout)
    again = synth_process(*words, tmp_path / "two", "--quiet", env={**os.environ, "PYTHONHASHSEED": "7"})
    assert again.returncode == 0, again.stderr
    assert synth("digest", tmp_path / "one").stdout == synth("digest", tmp_path / "two").stdout != ""
    assert (tmp_path / "one" / "report.html").stat().st_size > 100_000
