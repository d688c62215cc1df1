"""Run by vLLM's own interpreter, our environment's packages behind its own: the engine in one process. argv: site-packages, a moved policy."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
sys.path.append(sys.argv[1])

from data.records import PolicyVersion, Request, Sampling  # noqa: E402
from generators.engines.trial import SCHEMA, _is_valid  # noqa: E402
from generators.engines.vllm_in_process import VllmInProcess  # noqa: E402
from generators.engines.vllm_settings import VllmSettings  # noqa: E402

BASE = ROOT / "data" / "policies" / "arithmetic"


def requests(policy_id, **changes):
    usual = {"sampling": Sampling(max_tokens=32)} | changes
    return [Request(policy_id, seed=n, index=n, prompt=f"Q: {n}+5=?\nA:", **usual) for n in range(16)]


engine = VllmInProcess(BASE, policy_id="p0", settings=VllmSettings(max_num_seqs=32))
try:
    assert "LD_PRELOAD" not in os.environ, "what a verifier starts would load it"
    first = list(engine.generate(requests("p0")))
    assert {c.policy_id for c in first} == {"p0"} and all(len(c.tokens) == len(c.logp) > 0 for c in first)
    for policy in (PolicyVersion("moved", sys.argv[2], 0, 1), PolicyVersion("p1", str(BASE), 0, 2)):
        engine.update(policy)
        assert engine.agreement.last.largest < 1e-4, engine.agreement.last
        assert {c.policy_id for c in engine.generate(requests(policy.id))} == {policy.id}
    assert [c.finish for c in engine.generate(requests("p0"))] == ["error"] * 16
    structured = list(engine.generate(requests("p1", structured={"json_schema": SCHEMA}, sampling=Sampling(max_tokens=64))))
    assert all(_is_valid(c.text) for c in structured), [c.text for c in structured]
    print("in process", engine.agreement.last, flush=True)
finally:
    engine.close()
