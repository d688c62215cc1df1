"""Run by vLLM's own interpreter: what of ours meets vLLM's classes and needs no GPU. Prints one line per check, ends with 1 at the first that fails.

The trainer's side of NCCL and CUDA IPC: vLLM's own classes take our source, our client and our arguments; only the copy over the wire is left out.
"""

import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "generators" / "engines" / "vllm_side")]

import torch  # noqa: E402

from generators.engines import weights as ours  # noqa: E402


def recorded():
    calls = []

    def control(method, path, body=None):
        calls.append((method, path, body))
        return {"success": True, "world_size": 2}

    return calls, control


def nccl():
    """The whole protocol with vLLM's NCCL trainer engine, its broadcast replaced by a walk over the source."""
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerWeightTransferEngine as Engine

    calls, control = recorded()
    source, client = ours._source(), ours._client(control)
    info = ours.init_info("nccl", 2)
    assert (info.rank, info.world_size, info.master_address, info.is_sender) == (0, 3, "127.0.0.1", True)
    engine = Engine(client=client, source=source)
    walked = []
    engine._broadcast = lambda src, meta: walked.extend(Engine._checked_iter(src, meta))
    made = types.SimpleNamespace(source=source, client=client, engine=engine)
    made.send = types.MethodType(ours.DeviceTransfer.send, made)
    real, ours.torch.cuda.current_device = torch.cuda.current_device, lambda: 0
    device, ours.torch.device = torch.device, lambda *a: device("cpu")
    try:
        tied = torch.arange(6.0).view(2, 3)
        ours.push(control, made, {"model.embed_tokens.weight": tied, "model.norm.weight": torch.ones(3, dtype=torch.bfloat16)}, "v7")
    finally:
        ours.torch.cuda.current_device, ours.torch.device = real, device
    assert [c[1] for c in calls] == [
        *("/pause?mode=wait", "/start_weight_update", "/update_weights", "/finish_weight_update", "/reset_prefix_cache", "/resume"),
    ], calls
    assert calls[2][2]["update_info"] == {
        "names": ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"],
        "dtype_names": ["float32", "bfloat16", "float32"],
        "shapes": [[2, 3], [3], [2, 3]],
    }, calls[2]
    assert calls[3][2] == {"weight_version": "v7"}
    assert [name for name, _ in walked] == calls[2][2]["update_info"]["names"]
    assert source.tensors == {}, "no second copy of the weights is kept"


def ipc():
    """Arguments of the handshake, and how a handle travels through our client."""
    calls, control = recorded()
    client, info = ours._client(control), ours.init_info("ipc", 0)
    assert (info.backend, info.rank, info.packed) == ("ipc", 0, True)
    client.update_weights({"names": ["w"], "dtype_names": ["float32"], "shapes": [[1]], "ipc_handles": {"GPU-1": (1, 2)}, "tensor_sizes": [4]})
    sent = calls[0][2]["update_info"]
    assert "ipc_handles" not in sent and isinstance(sent["ipc_handles_pickled"], str)


def anneal():
    """Both forms of the logits processor divide by the same temperatures, and refuse the same nonsense."""
    import synth_anneal
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate

    wanted = SamplingParams(extra_args={"anneal": [1.5, 0.5, 4]})
    for wrong in ([1.0, 1.0], [0, 1, 4], [1, 1, 0], ["a", 1, 1], 3, [float("nan"), 1, 1]):
        for kind in (synth_anneal.AnnealedV1, synth_anneal.AnnealedV2):
            try:
                kind.validate_params(SamplingParams(extra_args={"anneal": wrong}))
            except ValueError:
                continue
            raise AssertionError(f"{kind} took {wrong}")
    old = synth_anneal.AnnealedV1(None, torch.device("cpu"), False)
    sampled = []
    old.update_state(BatchUpdate(batch_size=2, removed=[], added=[(0, wanted, [1, 2, 3], sampled), (1, SamplingParams(), [1], [])], moved=[]))
    prompt_len = types.SimpleNamespace(gpu=torch.tensor([1, 3]))
    new = synth_anneal.AnnealedV2(None, types.SimpleNamespace(max_num_reqs=2, device="cpu", prompt_len=prompt_len))
    assert new.add_request(1, wanted) and not new.add_request(0, SamplingParams())
    for step in range(7):
        expected = 1.5 - 1.0 * min(step, 4) / 4
        # In V2 slot 1 is the annealed one and stands in row 0; `pos` is where the token before the sampled one lies.
        ctx = types.SimpleNamespace(expanded_idx_mapping=torch.tensor([1, 0]), pos=torch.tensor([2 + step, step]))
        for got in (old.apply(torch.full((2, 5), 3.0)), new.apply(torch.full((2, 5), 3.0), ctx)):
            torch.testing.assert_close(got[0], torch.full((5,), 3.0 / expected))
            torch.testing.assert_close(got[1], torch.full((5,), 3.0))
        sampled.append(1)
    old.update_state(BatchUpdate(batch_size=1, removed=[0], added=[], moved=[]))
    torch.testing.assert_close(old.apply(torch.ones(1, 5)), torch.ones(1, 5))
    new.add_request(1, SamplingParams())
    torch.testing.assert_close(new.apply(torch.ones(2, 5), ctx), torch.ones(2, 5))


for check in (nccl, ipc, anneal):
    check()
    print(check.__name__, flush=True)
