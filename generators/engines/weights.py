"""New weights into a running vLLM server: by files in shared memory, CUDA IPC, NCCL, or as a hot-loaded adapter.

Every way follows one protocol: nothing runs (pause) → start → update … → finish, which names the version → the prefix cache is emptied → resume.
If it breaks on the way, the server holds half of two models and must be restarted: `push` says so by raising `HalfLoaded`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from data.errors import SynthError, UserError
from data.records import Float32
from generators.engines.folder import load_weights
from generators.engines.server import free_port
from generators.engines.vllm_settings import ADAPTER

CHUNK_BYTES = 1 << 30  # of one file in shared memory
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
_HEAD = "lm_head.weight"

Control = Callable[..., Any]
"""(method, path, body=None) -> the server's answer; SynthError where it gives none."""


class HalfLoaded(SynthError):
    """A weight update broke off: the server's weights are neither the old nor the new ones."""


class Holder(Protocol):
    """Who holds the new weights: the trainer in this process, or a folder."""

    def weights(self) -> Mapping[str, Tensor]:
        """All of them under their transformers names; a tied head may be left out."""
        ...

    def adapter(self) -> tuple[int, float, Mapping[str, Tensor]] | None:
        """(rank, alpha, tensors named `….lora_A.default.weight`) where only adapters change."""
        ...

    def logprobs(self, rows: Sequence[tuple[Sequence[int], int]]) -> list[Float32]:
        """(tokens, start) -> log-probs of tokens[start:] at temperature 1."""
        ...


class FolderHolder:
    """A policy folder."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def weights(self) -> Mapping[str, Tensor]:
        return load_weights(self.path)

    def adapter(self) -> tuple[int, float, Mapping[str, Tensor]] | None:
        from safetensors.torch import load_file

        file, state = self.path / "adapters.safetensors", self.path / "state.json"
        if not (file.is_file() and state.is_file()):
            return None
        config = json.loads(state.read_text("utf-8"))["config"]
        return int(config["lora_rank"]), float(config.get("lora_alpha") or 2 * config["lora_rank"]), load_file(file)

    def logprobs(self, rows: Sequence[tuple[Sequence[int], int]]) -> list[Float32]:
        from generators.engines.local import LocalEngine

        threads = torch.get_num_threads()
        scored = {s.key: s.logp for s in LocalEngine(self.path, policy_id="check").score((str(i), tokens) for i, (tokens, _) in enumerate(rows))}
        torch.set_num_threads(threads)
        return [scored[str(i)][start:] for i, (_, start) in enumerate(rows)]

    @property
    def bytes(self) -> int:
        return sum(f.stat().st_size for f in self.path.glob("*.safetensors"))


def with_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with a tied head under its own name, too: vLLM on a CPU keeps a packed copy of it, which is stale for ever where it is left out
    (0.7 to 1.5 nats off, measured), and says so only in its log."""
    found = dict(weights)
    if _HEAD not in found:
        tied = [t for name, t in found.items() if name.endswith(_EMBEDDINGS)]
        if len(tied) == 1:
            found[_HEAD] = tied[0]
    return found


class Transfer(Protocol):
    """One way to carry weights. Between `start` and `finish` of the protocol it calls the client's `update_weights`."""

    def send(self, weights: Mapping[str, Tensor], version: str) -> None: ...

    def close(self) -> None: ...


def make_transfer(backend: str, control: Control) -> Transfer:
    return FileTransfer(control) if backend == "file" else DeviceTransfer(backend, control)


def push(control: Control, transfer: Transfer, weights: Mapping[str, Tensor], version: str, *, asleep: bool = False) -> None:
    """The whole protocol. `asleep`: the server's memory is freed (sleep level 2) and it runs nothing; its weights wake first, its cache last."""
    if asleep:
        control("POST", "/wake_up?tags=weights")
    else:
        control("POST", "/pause?mode=wait")  # what is under way ends with the weights it began with
    try:
        transfer.send(with_head(weights), version)
        if asleep:
            control("POST", "/wake_up?tags=kv_cache")
        _forget(control)
    except BaseException as error:
        raise HalfLoaded(f"the new weights did not reach vLLM ({error})") from error
    control("POST", "/resume")


def push_adapter(control: Control, folder: Path, version: str) -> None:
    """Loads the adapter in `folder` over the one before it. Without `load_inplace` vLLM would keep the old one and say nothing."""
    control("POST", "/pause?mode=wait")
    try:
        control("POST", "/v1/load_lora_adapter", {"lora_name": ADAPTER, "lora_path": str(folder), "load_inplace": True})
        control("POST", "/update_weight_version", {"new_version": version})
        _forget(control)
    except BaseException as error:
        raise HalfLoaded(f"the adapter did not reach vLLM ({error})") from error
    control("POST", "/resume")


def _forget(control: Control) -> None:
    if not control("POST", "/reset_prefix_cache").get("success", True):
        raise SynthError("vLLM did not empty its prefix cache")


class FileTransfer:
    """Through safetensors files in shared memory, removed as soon as the server has read them. Works everywhere on one machine."""

    def __init__(self, control: Control) -> None:
        self.control = control
        control("POST", "/init_weight_transfer_engine", {"init_info": {}})

    def send(self, weights: Mapping[str, Tensor], version: str) -> None:
        from safetensors.torch import save_file

        self.control("POST", "/start_weight_update")
        with shared_folder() as folder:
            for n, part in enumerate(chunks(weights)):
                path = folder / f"{n}.safetensors"
                try:
                    save_file(part, path)
                except OSError as error:
                    raise SynthError(f"cannot write {path}: {error.strerror}; the weights need {CHUNK_BYTES >> 20} MiB of shared memory") from None
                self.control("POST", "/update_weights", {"update_info": {"path": str(path)}})
                path.unlink()
        self.control("POST", "/finish_weight_update", {"weight_version": version})

    def close(self) -> None:
        pass


def chunks(weights: Mapping[str, Tensor], most: int = CHUNK_BYTES) -> Iterator[dict[str, Tensor]]:
    """Parts of at most `most` bytes (a larger tensor is one part), on the CPU; clones where tensors share memory, which a file can't."""
    part: dict[str, Tensor] = {}
    size, seen = 0, set()
    for name, tensor in weights.items():
        value = tensor.detach().to("cpu").contiguous()
        if value.data_ptr() in seen:
            value = value.clone()
        seen.add(value.data_ptr())
        if part and size + value.nbytes > most:
            yield part
            part, size = {}, 0
        part[name] = value
        size += value.nbytes
    if part:
        yield part


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder of ours alone in shared memory (else in the temporary folder), gone afterwards."""
    root = next((p for p in (Path("/dev/shm"), Path(tempfile.gettempdir())) if os.access(p, os.W_OK)), None)
    if root is None:
        raise SynthError("neither /dev/shm nor the temporary folder can be written")
    _sweep(root)
    folder = root / f"synth-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Removes what processes that were killed have left: shared memory is not freed by a death."""
    for left in root.glob("synth-*-*"):
        pid = left.name.split("-")[1]
        if pid.isdigit() and left.is_dir() and left.stat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)


def write_adapter(folder: Path, rank: int, alpha: float, tensors: Mapping[str, Tensor], base: str) -> Path:
    """The adapter in `folder` as peft writes it, which is what vLLM reads."""
    from safetensors.torch import save_file

    named = {f"base_model.model.{name.replace('.default.weight', '.weight')}": t.detach().cpu().contiguous() for name, t in tensors.items()}
    targets = sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in tensors})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
    }
    folder.mkdir(mode=0o700, exist_ok=True)
    save_file(named, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    return folder


class DeviceTransfer:
    """From GPU memory: `ipc` into servers on the same GPU, `nccl` to others. vLLM's own trainer side does the work, so vLLM must be
    in this environment.

    Needs GPUs; what the tests show without one is the order of the calls and their arguments.
    """

    def __init__(self, backend: str, control: Control) -> None:
        try:
            from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
        except ImportError:
            raise UserError(
                f"engine.vllm.transfer = {backend!r} needs vLLM in synth's own environment (pip install '.[vllm]'); use transfer = \"file\" without"
            ) from None
        self.client = _client(control)
        self.source = _source()
        workers = int(control("GET", "/get_world_size")["world_size"]) if backend == "nccl" else 0
        self.engine = WeightTransferTrainerFactory.trainer_init(init_info(backend, workers), client=self.client, source=self.source)

    def send(self, weights: Mapping[str, Tensor], version: str) -> None:
        device = torch.device("cuda", torch.cuda.current_device())
        self.source.tensors = {name: t.detach().to(device) for name, t in weights.items()}
        self.client.version = version
        try:
            self.engine.send_weights()  # start, update …, finish, through the client
        finally:
            self.source.tensors = {}

    def close(self) -> None:
        self.engine.shutdown()


def init_info(backend: str, workers: int) -> Any:
    """The trainer's half of the handshake: rank 0 sends; with NCCL the `workers` of the server follow it in one group."""
    if backend == "ipc":
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        return IPCTrainerInitInfo(rank=0, packed=True)
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    return NCCLTrainerInitInfo(rank=0, master_address="127.0.0.1", master_port=free_port(), world_size=1 + workers)


def _source() -> Any:
    """A vLLM `WeightSource` over the mapping of the moment."""
    from vllm.distributed.weight_transfer import ParamMeta, WeightSource

    class Source(WeightSource):  # type: ignore[misc]
        tensors: Mapping[str, Tensor] = {}

        def metadata(self) -> list[Any]:
            return [ParamMeta(name, t.dtype, tuple(t.shape)) for name, t in self.tensors.items()]

        def __iter__(self) -> Iterator[tuple[str, Tensor]]:
            yield from self.tensors.items()

    return Source()


def _client(control: Control) -> Any:
    """vLLM's own HTTP client (it knows how CUDA handles travel), with our control (and so our key) below it, and the version that `finish` names."""
    from vllm.distributed.weight_transfer import HTTPVLLMWeightSyncClient

    class Client(HTTPVLLMWeightSyncClient):  # type: ignore[misc]
        version = ""

        def _post(self, path: str, json: dict[str, Any] | None = None) -> None:
            control("POST", f"/{path}", json)

        def finish_weight_update(self, weight_version: str | None = None) -> None:
            super().finish_weight_update(weight_version or self.version)

    return Client("")
