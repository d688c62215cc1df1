"""What a policy writes when it is asked for problems, and whether that can be read: its own slips are what its judge must learn to see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.keyed import keyed_seed
from data.records import Request, Sampling
from data.render import Renderer
from filters.verifiers.process import first_false_claim, steps_of
from filters.written import plan_before, read_problem
from generators.worlds.arithmetic import ArithmeticWorld
from generators.worlds.arithmetic.concepts import assignment
from generators.worlds.arithmetic.draw import Draw
from pipelines.lessons import Own
from pipelines.policy_card import PROMPTS

TEMPERATURE = 0.6  # what SwS writes at
_LONGEST = 128  # tokens


def own_texts(folder: Path, world: ArithmeticWorld, n: int, families: Sequence[str], levels: Sequence[int], seed: int) -> list[Own]:
    """About `n` texts of the policy in `folder`, the same number ordered of every family and level, in the order of their orders.

    Left out are those that the filters see without a judge (unreadable in form, or planned with a false equation), and held-out problems.
    """
    from generators.engines.local import LocalEngine

    renderer, orders = Renderer([PROMPTS], "compact"), []
    for index in range(max(1, n // (len(families) * len(levels)))):
        for family in families:
            for level in levels:
                draw = Draw(keyed_seed(seed, "own", family, level, index))
                shape = world.make(family, level, index, seed=keyed_seed(seed, "own"), split="train").meta["shape"]
                orders.append((family, assignment(family, shape, draw), level))
    sampling = Sampling(TEMPERATURE, max_tokens=_LONGEST)
    requests = [
        Request("own", sampling, keyed_seed(seed, "own", at), prompt=renderer.render("sws_write", category=family, concepts=concepts, level=level))
        for at, (family, concepts, level) in enumerate(orders)
    ]
    engine = LocalEngine(folder, policy_id="own")
    answers = {completion.key: completion.text for completion in engine.generate(requests)}
    engine.close()
    found = []
    for request, (family, concepts, level) in zip(requests, orders, strict=True):
        said = answers[request.key]
        text, why = read_problem(said, "line")
        if why or first_false_claim(steps_of(plan_before(said, "line")))[0] >= 0:
            continue
        read = world.read(text)
        if read is None or read.split == "train":
            found.append(Own(family, tuple(concepts), level, text, read))
    return found
