"""The packed forward equals the model's own plain one, per trajectory, in value and gradient."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from data.errors import UserError
from pipelines.grpo.packing import Row, lay_out, micro_batches
from pipelines.grpo.policy import Policy

SIZE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
MODELS = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZE, head_dim=8, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE, tie_word_embeddings=False)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZE)),
    "mistral_sliding": lambda: MistralForCausalLM(MistralConfig(**SIZE, sliding_window=5)),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def folder(tmp_path: Path, name: str = "qwen3") -> Path:
    torch.manual_seed(0)
    MODELS[name]().save_pretrained(tmp_path / name)
    return tmp_path / name


def rows(seed: int = 0, groups: int = 4) -> list[Row]:
    """Ragged groups: other prompt and response lengths, observations between trained spans, twins, a lone row, one-token responses."""
    rng = np.random.default_rng(seed)
    out: list[Row] = []
    for g in range(groups):
        prompt = rng.integers(0, 50, 1 + 5 * g)
        for k in range(1 if g == 2 else 3 + g):
            response = rng.integers(0, 50, 1 if k == 0 else int(rng.integers(1, 14)))
            tokens = np.concatenate([prompt, response])
            mask = np.concatenate([np.zeros(len(prompt)), rng.integers(0, 2, len(response))])
            mask[-1] = 1
            trained = np.flatnonzero(mask)
            for _ in range(2 if k == 1 else 1):
                out.append(
                    Row(
                        len(out),
                        (g, ""),
                        tokens[: trained[-1]],
                        trained,
                        tokens[trained],
                        np.zeros(len(trained), np.float32),
                        0.0,
                        0.0,
                        0.5 + 0.5 * (k % 2),
                    )
                )
    return out


def plain(policy: Policy, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's own forward over the whole trajectory, naive log_softmax over full logits."""
    tokens = torch.from_numpy(np.append(row.tokens, row.targets[-1]))
    logits = policy.model(input_ids=tokens[None], use_cache=False).logits[0] / row.temperature
    logprobs = logits.log_softmax(-1)[torch.from_numpy(row.trained - 1)]
    return logprobs.gather(1, torch.from_numpy(row.targets)[:, None])[:, 0], -(logprobs.exp() * logprobs).sum(-1)


def gradients(policy: Policy) -> dict[str, torch.Tensor]:
    out = {n: p.grad.clone() for n, p in policy.parameters()}
    policy.model.zero_grad()
    return out


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize(("budget", "share"), [(10**6, True), (40, True), (25, False)])
def test_packed_equals_plain(tmp_path: Path, name: str, budget: int, share: bool) -> None:
    policy = Policy(folder(tmp_path, name))
    members = rows()
    scale = {r.index: torch.randn(len(r.targets), generator=torch.Generator().manual_seed(r.index)) for r in members}

    policy.model.set_attn_implementation("sdpa")
    expected = {r.index: plain(policy, r) for r in members}
    sum((scale[i] * (p + 0.3 * e)).sum() for i, (p, e) in expected.items()).backward()
    wanted = gradients(policy)

    policy.model.set_attn_implementation("synth_packed")
    for batch in micro_batches(members, budget, share):
        layout = lay_out(batch, policy.window)
        logp, entropy = policy.logprobs(layout)
        for r in layout.rows:
            mine = layout.row == r.index
            torch.testing.assert_close(logp[mine], expected[r.index][0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(entropy[mine], expected[r.index][1], atol=1e-5, rtol=1e-5)
        (torch.cat([scale[r.index] for r in layout.rows]) * (logp + 0.3 * entropy)).sum().backward()
    got = gradients(policy)
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(got[key], value, atol=1e-5, rtol=1e-4)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        Policy(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="does not load"):
        Policy(tmp_path)


def test_an_architecture_that_attends_differently_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe stands between a model whose attention ignores the layout and a silently wrong training run."""
    path = folder(tmp_path)
    from pipelines.grpo import policy as module

    def blind(*args: object, **kwargs: object) -> object:
        layout = kwargs["layout"]
        q = args[1].shape[2]  # type: ignore[attr-defined]
        seen = torch.arange(q)
        bucket = module.lay_out.__globals__["Bucket"](seen[None], seen[None], None)
        whole = type(layout)(**{**layout.__dict__, "buckets": (bucket,), "restore": seen})  # type: ignore[attr-defined]
        return module.packed_attention(*args, **{**kwargs, "layout": whole})  # type: ignore[arg-type]

    monkeypatch.setitem(module.ALL_ATTENTION_FUNCTIONS._global_mapping, module.ATTENTION, blind)
    with pytest.raises(UserError, match="other log-probs packed than plain"):
        Policy(path)


def test_tied_weights_are_one_parameter(tmp_path: Path) -> None:
    policy = Policy(folder(tmp_path))
    named = dict(policy.parameters())
    assert "lm_head.weight" not in named and policy.model.get_output_embeddings().weight is named["model.embed_tokens.weight"]
