"""The embedded engine against transformers: greedy tokens, teacher-forced log-probs, scores, embeddings, weight updates."""

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import UserError
from data.records import Completion, PolicyVersion, Request, Sampling
from generators.engines.base import Batched, Engine
from generators.engines.folder import load_weights, open_folder
from generators.engines.fused import FusedDecoder
from generators.engines.ledgered import LedgeredEngine
from generators.engines.local import LocalEngine
from generators.engines.sampling import DrawRule, draw

TEXTS = ["3+4=", "a longer prompt: 12*7 =", "x", "tell me, what is 100-1?", "3-4=", "0123456789"]

SHARED = [f"given once, read by all: the sum {end}" for end in ("1+2=", "1+3=", "10+20+30=", "")]  # a trunk of their own

ENDS = (1, *range(180, 200))  # many, so that some rows of a random model end early


def tokenizer_into(folder: Path, merges: int = 40) -> int:
    """A byte-level BPE with two special tokens and a chat template; returns the vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=258 + merges, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(["the answer is 12 + 30 = 42", "tell me what is 100 - 1"] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    fast.save_pretrained(folder)
    return len(fast)


def model_into(folder: Path, kind: str = "qwen3", seed: int = 0, tied: bool = True, context: int = 96, eos: tuple[int, ...] = ENDS) -> Path:
    """A tiny random model, sharp enough for its greedy choices not to be ties."""
    from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, Qwen2Config, Qwen3Config

    folder.mkdir(parents=True, exist_ok=True)
    vocab = tokenizer_into(folder)
    shape = {"vocab_size": vocab, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
             "max_position_embeddings": context, "tie_word_embeddings": tied, "eos_token_id": list(eos), "pad_token_id": 0, "bos_token_id": None}
    grouped = {**shape, "num_key_value_heads": 2}
    config = {
        "qwen3": lambda: Qwen3Config(**grouped, head_dim=16),
        "qwen2": lambda: Qwen2Config(**grouped),
        "llama": lambda: LlamaConfig(**grouped),
        "gpt_neox": lambda: GPTNeoXConfig(**shape),
    }[kind]()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.rand_like(p) + 0.5 if "norm" in name and "bias" not in name else torch.randn_like(p) * 0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["qwen3", "qwen2", "llama", "gpt_neox"])
def policy(request, tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return model_into(tmp_path_factory.mktemp(request.param), request.param, tied=request.param == "qwen3")


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return model_into(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def engine(qwen3) -> LocalEngine:
    return LocalEngine(qwen3, policy_id="p", threads=1)


def reference(path: Path, dtype=torch.float32):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()


@torch.no_grad()
def teacher_forced(model, prompt, tokens, temperature=1.0) -> np.ndarray:
    ids = torch.tensor([[*prompt, *tokens]]).long()
    logp = (model(ids).logits[0] / temperature).log_softmax(-1)
    return logp[len(prompt) - 1 : -1].gather(-1, ids[0, len(prompt) :, None])[:, 0].numpy()


def asked(texts=TEXTS, n=3, policy_id="p", **sampling) -> list[Request]:
    rule = Sampling(**{"max_tokens": 20, **sampling})
    return [Request(policy_id, rule, seed=1000 * i + j, index=j, prompt=t) for i, t in enumerate(texts) for j in range(n)]


def same(a: Completion, b: Completion) -> bool:
    bits = [(c.key, c.tokens.tobytes(), c.logp.tobytes(), c.text, c.finish) for c in (a, b)]
    return bits[0] == bits[1]


def test_is_an_engine_with_a_plan(engine):
    assert isinstance(engine, Engine) and isinstance(engine, Batched)
    assert engine.capabilities == {"logprobs", "tokens", "score", "embed", "update", "batches", "structured"}


def test_greedy_tokens_are_those_of_transformers_generate(policy):
    engine, model = LocalEngine(policy, policy_id="p"), reference(policy)
    got = {c.key: c for c in engine.generate(asked(temperature=0.0, n=2))}
    for r in asked(temperature=0.0, n=2):
        ids = torch.tensor([engine.encode(r.prompt)])
        want = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        assert got[r.key].tokens.tolist() == want.tolist()
        assert got[r.key].prompt_tokens.tolist() == ids[0].tolist()
        assert got[r.key].finish == ("stop" if want[-1] in ENDS else "length")


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_behaviour_log_probs_are_those_of_a_full_forward(policy, temperature):
    engine, model = LocalEngine(policy, policy_id="p"), reference(policy)
    answers = list(engine.generate(asked(TEXTS + SHARED, temperature=temperature)))
    assert len(answers) == 3 * len(TEXTS + SHARED)
    assert temperature != 1.0 or {a.finish for a in answers} == {"stop", "length"}
    for a in answers:
        np.testing.assert_allclose(a.logp, teacher_forced(model, a.prompt_tokens, a.tokens, temperature or 1.0), atol=1e-4)


def test_scores_equal_the_behaviour_log_probs_and_the_full_forward(policy):
    engine, model = LocalEngine(policy, policy_id="p"), reference(policy)
    sequences = {a.key: [*a.prompt_tokens.tolist(), *a.tokens.tolist()] for a in engine.generate(asked())} | {"one": [5], "none": []}
    scores = {s.key: s.logp for s in engine.score(sequences.items())}
    assert scores.keys() == sequences.keys()
    assert len(scores["none"]) == 0 and np.isnan(scores["one"]).tolist() == [True]
    for key, ids in sequences.items():
        if len(ids) > 1:
            assert np.isnan(scores[key][0]) and scores[key].dtype == np.float32
            np.testing.assert_allclose(scores[key][1:], teacher_forced(model, ids[:1], ids[1:]), atol=1e-4)


def test_embeddings_are_mean_hidden_states_of_unit_length(policy):
    engine, model = LocalEngine(policy, policy_id="p"), reference(policy)
    got = engine.embed([*TEXTS, ""])
    assert got.dtype == np.float32 and got.shape == (7, 32) and not got[-1].any()
    for row, text in zip(got, TEXTS):
        with torch.no_grad():
            hidden = model(torch.tensor([engine.encode(text)]), output_hidden_states=True).hidden_states[-1][0].mean(0)
        np.testing.assert_allclose(row, (hidden / hidden.norm()).numpy(), atol=1e-5)


def test_two_runs_are_equal_bit_by_bit_and_in_any_order(engine, qwen3):
    requests = asked(TEXTS + SHARED, n=8, max_tokens=40)
    first = list(engine.generate(requests))
    noise = [torch.randn(n) for n in range(1, 200, 7)]  # another state of the allocator
    again = list(LocalEngine(qwen3, policy_id="p").generate(requests[::-1]))
    assert len(noise) and all(map(same, first, again))
    shuffled = [requests[i] for i in np.random.default_rng(0).permutation(len(requests))]
    by_key = {c.key: c for c in engine.generate_batch(shuffled)}
    assert all(same(c, by_key[c.key]) for c in first)


def test_a_seed_draws_the_same_tokens_in_any_batch(qwen3):
    engine = LocalEngine(qwen3, policy_id="p", dtype="float64")
    requests = asked(TEXTS + SHARED, n=4, max_tokens=30)
    together = {c.key: c for c in engine.generate(requests)}
    alone = {c.key: c for r in requests for c in engine.generate([r])}
    small = {c.key: c for c in LocalEngine(qwen3, policy_id="p", dtype="float64", batch_rows=3).generate(requests)}
    for key, c in together.items():
        assert c.tokens.tolist() == alone[key].tokens.tolist() == small[key].tokens.tolist()
        np.testing.assert_allclose(c.logp, alone[key].logp, atol=1e-6)
    assert len({tuple(c.tokens.tolist()) for c in together.values()}) == len(requests)


def test_the_plan_depends_on_the_set_of_requests_only(qwen3):
    engine = LocalEngine(qwen3, policy_id="p", batch_rows=7)
    requests = asked(n=3) + asked(["one big group"], n=17)
    plan = [[r.key for r in b] for b in engine.batches(requests)]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(requests))
        assert [[r.key for r in b] for b in engine.batches([requests[i] for i in order] + requests[:4])] == plan
    assert sorted(itertools.chain(*plan)) == sorted(r.key for r in requests)
    assert max(map(len, plan)) <= 7
    for text in TEXTS:  # a group that fits is never split
        keys = {r.key for r in requests if r.prompt == text}
        assert sum(not keys.isdisjoint(b) for b in plan) == 1


def test_rows_are_limited_by_memory(qwen3):
    engine = LocalEngine(qwen3, policy_id="p")
    per_row = 40 * engine.decoder.kv_bytes + engine.decoder.vocab * 16
    tight = LocalEngine(qwen3, policy_id="p", memory_bytes=5 * per_row)
    assert len(engine.batches(asked(n=8))) == 1
    assert max(len(b) for b in tight.batches(asked(n=8))) <= 8 and len(tight.batches(asked(n=8))) >= 6
    assert [len(b) for b in LocalEngine(qwen3, policy_id="p", memory_bytes=1).batches(asked(n=2))] == [1] * 12


def test_each_request_has_its_own_sampling_settings(engine, qwen3):
    rules = [Sampling(max_tokens=m, temperature=t, top_k=k) for m, t, k in [(1, 1, 0), (5, 0.5, 0), (30, 0, 0), (9, 1.3, 1), (12, 2.0, 5)]]
    requests = [Request("p", r, seed=i, prompt="3+4=") for i, r in enumerate(rules)]
    got = {c.key: c for c in engine.generate(requests)}
    model = reference(qwen3)
    for r in requests:
        c = got[r.key]
        assert len(c.tokens) <= r.sampling.max_tokens and (c.finish == "stop" or len(c.tokens) == r.sampling.max_tokens)
        if r.sampling.top_k == 0:
            np.testing.assert_allclose(c.logp, teacher_forced(model, c.prompt_tokens, c.tokens, r.sampling.temperature or 1), atol=1e-4)
        if r.sampling.top_k == 1:
            assert not c.logp.any()  # the only token left has probability 1


def test_end_of_text_is_kept_and_ends_the_row(engine):
    answers = list(engine.generate(asked(n=40, max_tokens=30)))
    ended = [a for a in answers if a.finish == "stop"]
    assert ended and len(ended) < len(answers)
    for a in answers:
        assert (a.tokens[-1] in ENDS) == (a.finish == "stop") and not np.isin(a.tokens[:-1], ENDS).any() and len(a.logp) == len(a.tokens)
        assert "<eos>" not in a.text
        assert a.ms > 0


def test_stop_strings_cut_the_text_and_keep_the_tokens(engine):
    free = {r.seed: c for r, c in zip(asked(n=10), engine.generate_batch(asked(n=10)))}
    stops = ("er", "9", "\u00e9\u00e9\u00e9")
    held = asked(n=10, stop=stops)
    hits = 0
    for r, c in zip(held, engine.generate_batch(held)):
        whole = free[r.seed].tokens.tolist()
        # oracle: the shortest prefix of the free run whose text holds a stop string
        cut = next((n for n in range(1, len(whole) + 1) if any(s in engine.decode(whole[:n]) for s in stops)), None)
        assert c.tokens.tolist() == whole[:cut]
        if cut is not None:
            hits += 1
            text = engine.decode(whole[:cut])
            assert c.finish == "stop" and c.text == text[: min(text.find(s) for s in stops if s in text)]
        else:
            assert c.text == free[r.seed].text
    assert hits > 5


def test_a_request_may_continue_tokens(engine, qwen3):
    (whole,) = engine.generate([Request("p", Sampling(temperature=0.0, max_tokens=12), seed=0, prompt="tell me")])
    prefix = (*whole.prompt_tokens.tolist(), *whole.tokens[:5].tolist())
    (rest,) = engine.generate([Request("p", Sampling(temperature=0.0, max_tokens=7), seed=0, tokens=prefix)])
    assert rest.tokens.tolist() == whole.tokens[5:].tolist() and rest.prompt_tokens.tolist() == list(prefix)


def test_messages_are_rendered_by_the_chat_template(engine):
    messages = ({"role": "user", "content": "1+1?"},)
    (c,) = engine.generate([Request("p", Sampling(max_tokens=3), seed=0, messages=messages)])
    assert engine.decode(c.prompt_tokens) == "[user]1+1?[assistant]" and engine.render_chat(messages) == c.prompt_tokens.tolist()


@pytest.mark.parametrize("text", ["", "plain", "日本語 \n\t emoji 🙂", "\x00\x7f"])
def test_any_text_survives_encode_and_decode(engine, text):
    assert engine.decode(engine.encode(text)) == text


def test_what_cannot_be_answered_is_an_error_that_says_why(engine):
    good = asked(["fine"], n=2)
    rule = Sampling(max_tokens=4)
    bad = {
        "asks for policy 'other', this engine holds 'p'": Request("other", rule, seed=0, prompt="fine"),
        "reads no images": Request("p", rule, seed=0, prompt="fine", media=("abc",)),
        "has 200 tokens and the model's context holds 96": Request("p", rule, seed=0, tokens=(7,) * 200),
        "has 96 tokens": Request("p", rule, seed=0, tokens=(7,) * 96),
        "outside the vocabulary": Request("p", rule, seed=0, tokens=(7, 99999)),
        "prompt is empty": Request("p", rule, seed=0, prompt=""),
        "max_tokens is 0": Request("p", Sampling(max_tokens=0), seed=0, prompt="fine"),
        "exactly one of json_schema, regex": Request("p", rule, seed=0, prompt="fine", structured={"type": "object"}),
        "can't be turned into tokens": Request("p", rule, seed=0, prompt="\ud800"),
    }
    got = {c.key: c for c in engine.generate([*bad.values(), *good])}
    assert len(got) == len(bad) + 2
    for reason, r in bad.items():
        assert got[r.key].finish == "error" and reason in got[r.key].error and len(got[r.key].tokens) == len(got[r.key].logp) == 0
    assert all(got[r.key].finish in ("stop", "length") for r in good)


def test_max_tokens_ends_where_the_context_does(tmp_path):
    engine = LocalEngine(model_into(tmp_path, context=24, eos=(0,)), policy_id="p")
    (c,) = engine.generate([Request("p", Sampling(max_tokens=1000, temperature=0), seed=0, tokens=tuple(range(5, 25)))])
    assert c.finish == "length" and len(c.tokens) == 4


def test_update_replaces_the_weights_and_the_policy_id(qwen3, tmp_path):
    other = model_into(tmp_path / "other", seed=7)
    (tmp_path / "next").mkdir()
    shutil.copy(other / "model.safetensors", tmp_path / "next")  # weights alone are enough
    engine = LocalEngine(qwen3, policy_id="p")
    before = list(engine.generate(asked()))
    engine.update(PolicyVersion("p2", str(tmp_path / "next"), step=1))
    after = list(engine.generate([replace(r, policy_id="p2") for r in asked()]))
    fresh = list(LocalEngine(other, policy_id="p2").generate([replace(r, policy_id="p2") for r in asked()]))
    assert all(map(same, after, fresh)) and [a.tokens.tolist() for a in after] != [b.tokens.tolist() for b in before]
    assert all("holds 'p2'" in c.error for c in engine.generate(asked()))


def test_bfloat16_stays_near_and_its_log_probs_are_float32(policy):
    engine, model = LocalEngine(policy, policy_id="p", dtype="bfloat16"), reference(policy)
    got = list(engine.generate(asked(TEXTS + SHARED, n=2)))
    far = np.concatenate([c.logp - teacher_forced(model, c.prompt_tokens, c.tokens) for c in got])
    assert {c.logp.dtype for c in got} == {np.dtype(np.float32)} and np.abs(far).mean() < 0.05  # this model's logits reach 50
    scores = {s.key: s.logp for s in engine.score([(c.key, [*c.prompt_tokens.tolist(), *c.tokens.tolist()]) for c in got])}
    near = np.concatenate([scores[c.key][len(c.prompt_tokens) :] - c.logp for c in got])
    assert np.abs(near).mean() < 0.05 and engine.embed(["x"]).dtype == np.float32


def test_everything_is_made_on_the_decoders_device(qwen3):
    """No GPU here: torch's "meta" device refuses to mix with tensors of another device, so a forward pass on it shows that none is left behind."""
    config, _ = open_folder(qwen3)
    weights = {name: w.to("meta") for name, w in load_weights(qwen3).items()}
    decoder = FusedDecoder(config, weights, torch.bfloat16, "meta")
    prompts = sorted([[7] * 20 + [i] * (1 + i % 3) for i in range(2, 8)] + [[3], [4, 5]])
    cache, logits = decoder.start(prompts, [1, 2] * 4, 5)
    assert len(cache.trunks) == 1 and logits.shape == (12, decoder.vocab) and logits.device.type == "meta"
    assert decoder.step(cache, torch.zeros(12, dtype=torch.int64)).device.type == "meta"
    cache.keep(torch.tensor([1, 2, 5, 6, 7, 9]))
    assert decoder.step(cache, torch.zeros(6, dtype=torch.int64)).shape == (6, decoder.vocab)
    assert decoder.hidden(torch.zeros(2, 4, dtype=torch.int64)).device.type == "meta"
    rule = DrawRule.of([Sampling(top_k=3)] * 6, decoder.vocab, device="meta")
    assert {t.device.type for t in draw(torch.zeros(6, decoder.vocab, device="meta"), torch.zeros(6, device="meta"), rule)} == {"meta"}


def test_a_gpu_that_is_not_there_is_said_so(qwen3, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch sees no GPU here"):
        LocalEngine(qwen3, policy_id="p", device="cuda")
    assert LocalEngine(qwen3, policy_id="p", device="auto").decoder.device.type == "cpu"


def test_weights_of_another_shape_are_refused(engine, policy, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(policy / "model.safetensors")
    name = sorted(weights)[-1]
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="weights"):
        LocalEngine(policy, policy_id="p").update(PolicyVersion("x", str(tmp_path)))
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        engine.update(PolicyVersion("x", str(tmp_path / "nowhere")))


def test_folders_that_are_no_policy_are_refused(tmp_path, qwen3):
    with pytest.raises(UserError, match=r"no config\.json"):
        LocalEngine(tmp_path, policy_id="p")
    shutil.copy(qwen3 / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        LocalEngine(tmp_path, policy_id="p")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"model_type": "no such thing"}')
    with pytest.raises(UserError, match="can't be opened as a transformers folder"):
        LocalEngine(tmp_path, policy_id="p")
    with pytest.raises(UserError, match="batch_rows"):
        LocalEngine(qwen3, policy_id="p", batch_rows=0)


def test_weights_in_shards_and_several_end_tokens(qwen3, tmp_path):
    model = reference(qwen3)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    for f in qwen3.glob("tokenizer*"):
        shutil.copy(f, tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 70]}))
    assert (tmp_path / "model.safetensors.index.json").exists()
    engine, whole = LocalEngine(tmp_path, policy_id="p"), LocalEngine(qwen3, policy_id="p")
    assert engine.eos == sorted({*ENDS, 70})
    np.testing.assert_array_equal(next(iter(engine.score([("a", [4, 5, 6])]))).logp, next(iter(whole.score([("a", [4, 5, 6])]))).logp)


def test_progress_counts_up_to_every_row(qwen3):
    seen: list[tuple[int, int, int]] = []
    engine = LocalEngine(qwen3, policy_id="p", batch_rows=6, on_progress=lambda *at: seen.append(at))
    tokens = sum(len(c.tokens) for c in engine.generate(asked()))
    assert seen == sorted(seen) and seen[-1] == (18, 18, tokens) and len(seen) >= 3


FRESH = """
import hashlib, sys
from data.records import Request, Sampling
from generators.engines.folder import load_weights, open_folder
from generators.engines.fused import FusedDecoder
from generators.engines.ledgered import LedgeredEngine
from generators.engines.local import LocalEngine
noise = [bytes(int(sys.argv[2]) * n) for n in range(50)]  # another layout of memory in each process
engine = LocalEngine(sys.argv[1], policy_id="p", threads=1)
requests = [Request("p", Sampling(max_tokens=30), seed=100 * i + j, index=j, prompt="1+" * (i + 1)) for i in range(9) for j in range(7)]
print(hashlib.sha256(b"".join(c.tokens.tobytes() + c.logp.tobytes() for c in engine.generate(requests))).hexdigest())
"""


@pytest.mark.slow
def test_fresh_processes_agree_bit_by_bit(qwen3):
    root = Path(__file__).parents[2]
    python = [sys.executable, "-c", FRESH, str(qwen3)]
    runs = [subprocess.run([*python, noise], cwd=root, capture_output=True, text=True, check=True) for noise in ("1", "77", "4099")]
    assert len({r.stdout for r in runs}) == 1


def test_a_killed_shard_resumes_to_the_same_bits(qwen3, tmp_path):
    from data.ledger import Ledger

    requests = asked(n=5, max_tokens=25)

    def shard(folder: Path, stop_after: int | None = None) -> tuple[list[Completion], int]:
        folder.mkdir(exist_ok=True)
        with Ledger.open(folder / "ledger.sqlite") as ledger:
            engine = LedgeredEngine(LocalEngine(qwen3, policy_id="p", batch_rows=10), ledger)
            answers = list(itertools.islice(engine.generate(requests), stop_after))
            return answers, ledger.counts()["attempts"]

    whole, attempts = shard(tmp_path / "whole")
    assert attempts == len(requests) == len(whole)
    killed, _ = shard(tmp_path / "killed", stop_after=13)
    resumed, attempts = shard(tmp_path / "killed")
    assert len(killed) == 13 and attempts == len(requests)  # nothing was asked twice
    for a, b in [*zip(whole, resumed), *zip(killed, resumed)]:
        assert same(a, b), (a, b)
