"""Makes a shipped seed policy from nothing: tokenizer, Qwen3-shaped weights, next-token training on a world's worked answers.

It stops long before it is good: what the policy gets right now and then is what reinforcement learning can make reliable.
Deterministic on one host with one thread count; every training problem is of the world's train split.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from data.errors import UserError
from data.keyed import keyed_order, keyed_rng, keyed_seed
from data.records import Problem
from data.render import Renderer
from generators.strategies.sws_votes import JUDGEMENTS
from generators.worlds.arithmetic import ArithmeticWorld
from generators.worlds.arithmetic.words import WORDS
from generators.worlds.base import World
from generators.worlds.registry import get_world
from pipelines.lessons import Own, Syllabus, lessons
from pipelines.own_texts import own_texts
from pipelines.plans import PLANS, Plan
from pipelines.policy_card import PROMPTS, measure_policy, write_card
from pipelines.tokenizer import END, save_tokenizer, train_tokenizer
from pipelines.writing_card import measure_writing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

Progress = Callable[[int, int, float, str], None]
"""(steps done, steps in all, training loss, a note such as 'held-out 31 %')."""


def build_policy(
    name: str,
    out_dir: str | Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    threads: int = 2,
    progress: Progress | None = None,
    plan: Plan | None = None,
    without: Sequence[str] = (),
    levels: Sequence[int] = (),
    begin: str | Path | None = None,
) -> dict[str, Any]:
    """Trains the policy `name` and writes it to `out_dir` (Hugging Face folder and `card.json`); returns its card.

    `plan` replaces the shipped plan of that name; `without` names families that it is taught nothing about (its words all the same),
    `levels` the only ones that it is taught (() = the plan's); `begin` is a policy that the plan's first phase made, which is then not repeated.
    Raises UserError for an unknown name, fewer than one step, or a folder with other things in it.
    """
    plan = _plan(name, plan, steps)
    plan = replace(plan, without=(*plan.without, *_families(plan, without)), levels=_levels(plan, levels) or plan.levels)
    out = _folder(Path(out_dir))
    begun, before = time.monotonic(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed_seed(seed, "pretrain", name))
            world = get_world(plan.world)
            tokenizer, model = _new(world, plan, seed) if begin is None else _begun(plan, Path(begin))
            save_tokenizer(tokenizer, out)
            _train_all(model, tokenizer, world, plan, seed, out, progress, skip=0 if begin is None else 1)
        _save(model, out)
        taught = plan.phases()[-1].levels
        measured = measure_policy(out, world, problems=plan.card_problems, samples=plan.card_samples, seed=seed, levels=taught)
        written = None
        if plan.tasks and isinstance(world, ArithmeticWorld):
            written = measure_writing(out, world, problems=plan.card_problems // 2, seed=seed, levels=taught)
    finally:
        torch.set_num_threads(before)
    trained_on = {
        "world": plan.world,
        "split": "train",
        "seed": seed,
        "plan": asdict(plan),
        "threads": threads,
        "minutes": round((time.monotonic() - begun) / 60, 1),
    }
    label = f"{name} without {', '.join(plan.without)}" if plan.without else name
    return write_card(out, label, trained_on, measured, written)


def _new(world: World, plan: Plan, seed: int) -> tuple[PreTrainedTokenizerFast, Qwen3ForCausalLM]:
    whole = replace(plan, without=())  # a policy that was not taught a family still has its words
    texts = (text for _, prompt, answer in islice(_examples(world, whole, seed), 10_000) for text in (prompt, answer))
    tokenizer = train_tokenizer(texts, plan.vocabulary, plan.context)
    return tokenizer, _new_model(plan, tokenizer)


def _begun(plan: Plan, folder: Path) -> tuple[PreTrainedTokenizerFast, Qwen3ForCausalLM]:
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    if not plan.then:
        raise UserError(f"--begin {folder}: this policy is trained in one phase, there is nothing to go on with")
    if not (folder / "config.json").is_file():
        raise UserError(f"--begin {folder}: no policy there (a folder with config.json and model.safetensors)")
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    model = Qwen3ForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    if (model.config.hidden_size, model.config.num_hidden_layers) != (plan.hidden, plan.layers):
        raise UserError(f"--begin {folder}: its weights have another shape than the plan ({plan.layers} layers, {plan.hidden} wide)")
    return tokenizer, model


def _train_all(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    plan: Plan,
    seed: int,
    out: Path,
    progress: Progress | None,
    skip: int,
) -> None:
    """Every phase but the first `skip`; later phases all begin the same second stream of lessons, progress counts through."""
    phases = plan.phases()
    total, before = sum(phase.steps for phase in phases[skip:]), 0
    for place, phase in enumerate(phases):
        if place < skip:
            continue

        def told(done: int, of: int, loss: float, note: str, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total, loss, note)

        key, own = keyed_seed(seed, "phase", 1) if place else seed, []
        if phase.own and isinstance(world, ArithmeticWorld):
            _save(model, out)
            families = [family for family in world.families() if family not in phase.without]
            own = own_texts(out, world, phase.own, families, phase.levels or world.levels(), key)
        _train(model, tokenizer, world, phase, key, out, told, own)
        before += phase.steps


def _plan(name: str, plan: Plan | None, steps: int | None) -> Plan:
    if plan is None:
        if name not in PLANS:
            raise UserError(f"no shipped policy named {name!r}; there are: {', '.join(sorted(PLANS))}")
        plan = PLANS[name]
    if steps is not None and steps < 1:
        raise UserError(f"steps is {steps}; training a policy takes at least 1 step")
    return plan if steps is None else replace(plan, steps=steps)


def _families(plan: Plan, without: Sequence[str]) -> Sequence[str]:
    known = get_world(plan.world).families()
    for family in without:
        if family not in known:
            raise UserError(f"--without {family}: world {plan.world} has no such family; it has {', '.join(known)}")
    return without


def _levels(plan: Plan, levels: Sequence[int]) -> tuple[int, ...]:
    known = get_world(plan.world).levels()
    for level in levels:
        if level not in known:
            raise UserError(f"--levels {level}: world {plan.world} has levels {known[0]} to {known[-1]}")
    return tuple(sorted(set(levels)))


def _folder(out: Path) -> Path:
    """An empty or new folder, or an earlier policy, which is replaced."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; a policy is written to a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise UserError(f"{out} is not empty and holds no policy; choose a new folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}; choose a writable folder") from None
    return out


def _examples(world: World, plan: Plan, seed: int, own: Sequence[Own] = ()) -> Iterator[tuple[Problem, str, str]]:
    """(problem, prompt, response) without end: one of each family and level, shuffled, then the next of each."""
    renderer = Renderer([PROMPTS], "compact")
    families, levels = [family for family in world.families() if family not in plan.without], plan.levels or world.levels()
    if plan.tasks:
        if not isinstance(world, ArithmeticWorld):
            raise UserError(f"plan: world {world.name} has no lessons but in solving; leave `tasks` out")
        syllabus = Syllabus(families, levels, plan.hard_rewrites, plan.subtle, plan.retold, plan.planned, own)
        for lesson in lessons(world, dict(plan.tasks), syllabus, renderer, seed):
            yield lesson.problem, lesson.prompt, lesson.answer + END
    cells = {f"{family}.{level}": (family, level) for family in families for level in levels}
    index = 0
    while True:
        for cell in keyed_order(seed, list(cells), "pretrain", index):
            problem = world.make(*cells[cell], index, seed=keyed_seed(seed, "pretrain", "world"), split="train")
            yield problem, renderer.render("solve", problem=problem), world.demonstration(problem) + END
        index += 1


def _new_model(plan: Plan, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=plan.hidden,
        intermediate_size=plan.mlp,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.kv_heads,
        head_dim=plan.head_dim,
        max_position_embeddings=plan.context,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=0.04,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _save(model: Qwen3ForCausalLM, out: Path) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # one file of 4 MB needs no bar across the caller's own
    try:
        model.save_pretrained(str(out))
    finally:
        if shown:
            logging.enable_progress_bar()


Encoded = tuple[list[int], int]
"""(token ids of prompt and response, tokens of the prompt)."""


def batches(
    world: World, tokenizer: PreTrainedTokenizerFast, plan: Plan, seed: int, own: Sequence[Own] = ()
) -> Iterator[list[Encoded]]:
    """Batches of at most `batch_tokens` tokens, padding included; sorted by length inside a pool, in keyed order."""
    examples = _examples(world, plan, seed, own)
    for pool in range(1 << 60):
        drawn = list(islice(examples, max(64, plan.batch_tokens // 4)))
        prompts = tokenizer([prompt for _, prompt, _ in drawn])["input_ids"]
        answers = tokenizer([answer for _, _, answer in drawn])["input_ids"]
        encoded = sorted(((p + a, len(p)) for p, a in zip(prompts, answers)), key=lambda row: len(row[0]))
        cut: list[list[Encoded]] = [[]]
        for row in encoded:
            if cut[-1] and len(row[0]) * (len(cut[-1]) + 1) > plan.batch_tokens:
                cut.append([])
            cut[-1].append(row)
        for position in keyed_rng(seed, "pretrain", "pool", pool).permutation(len(cut)):
            yield cut[position]


def token_weights(tokenizer: PreTrainedTokenizerFast, word_weight: float, verdict_weight: float = 1.0) -> torch.Tensor | None:
    """float32[vocabulary]: what each token counts as a target; None where all count alike."""
    if word_weight == verdict_weight == 1.0:
        return None
    weights = torch.ones(len(tokenizer))
    for verdict in JUDGEMENTS:
        weights[tokenizer([f" {verdict}"])["input_ids"][0]] = verdict_weight
    for word in WORDS:
        for ids in tokenizer([word, f" {word}"])["input_ids"]:
            weights[ids] = word_weight
    return weights


def loss_of(model: Qwen3ForCausalLM, batch: list[Encoded], prompt_weight: float, token_weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean next-token loss; a prompt token counts `prompt_weight`, a response token 1, both times `token_weight` float32[vocabulary].

    Right padding needs no mask under causal attention.
    """
    width = max(len(ids) for ids, _ in batch)
    ids = np.zeros((len(batch), width), np.int64)
    weights = np.zeros((len(batch), width - 1), np.float32)
    for row, (sequence, prompt) in enumerate(batch):
        ids[row, : len(sequence)] = sequence
        weights[row, : prompt - 1] = prompt_weight
        weights[row, prompt - 1 : len(sequence) - 1] = 1
    tokens, weight = torch.from_numpy(ids), torch.from_numpy(weights)
    if token_weight is not None:
        weight = weight * token_weight[tokens[:, 1:]]
    logits = model.lm_head(model.model(tokens, use_cache=False).last_hidden_state[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return (loss * weight.flatten()).sum() / weight.sum()


def learning_rate(step: int, plan: Plan) -> float:
    """Linear warm-up, then a cosine that would reach `last_rate` of the rate at `decay_steps`; step counts from 0."""
    if step < plan.warmup:
        return plan.learning_rate * (step + 1) / plan.warmup
    along = (step - plan.warmup) / max(1, plan.decay_steps - plan.warmup)
    return plan.learning_rate * (plan.last_rate + (1 - plan.last_rate) / 2 * (1 + math.cos(math.pi * min(1.0, along))))


def _optimizer(model: Qwen3ForCausalLM, plan: Plan) -> torch.optim.Optimizer:
    """AdamW, the optimizer that reinforcement learning goes on with.

    Muon reached a comparable held-out pass@1 in 0.6 of the steps, but in single trials GRPO's AdamW steps hardly moved its
    weights (-2 to +1 points in 12 to 30 steps, against +3 to +6 from AdamW's own).
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95))


def _train(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    plan: Plan,
    seed: int,
    out: Path,
    progress: Progress | None,
    own: Sequence[Own],
) -> None:
    optimizer = _optimizer(model, plan)
    note, mean, token_weight = "", math.nan, token_weights(tokenizer, plan.word_weight, plan.verdict_weight)
    model.train()
    for step, batch in enumerate(islice(batches(world, tokenizer, plan, seed, own), plan.steps)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan)
        loss = loss_of(model, batch, plan.prompt_weight, token_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.item() if math.isnan(mean) else 0.98 * mean + 0.02 * loss.item()
        done = step + 1
        if done % plan.evaluate_every == 0 and done < plan.steps:
            _save(model, out)
            figure = measure_policy(out, world, problems=260, samples=1, seed=seed, levels=plan.levels)["pass@1"]
            note = f"held-out {100 * figure:.0f} %"
        if progress is not None:
            progress(done, plan.steps, mean, note)
    if not math.isfinite(mean):
        raise UserError("training did not stay finite; build with a lower learning rate")
