"""Loaded by vLLM's worker: weights from a file in shared memory, or straight from this process. Imports nothing of ours.

Loading goes through vLLM's layerwise reload: on a CPU the linear layers are packed and their plain parameters are empty, so that a plain
`load_weights` fails there. Named as the worker extension, this module is imported in every worker, which registers the backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

BACKEND = "cpu_file"


@dataclass
class FileInit(WeightTransferInitInfo):
    pass


@dataclass
class FileUpdate(WeightTransferUpdateInfo):
    path: str = ""
    """A safetensors file that every worker can read."""
    tensors: Any = None
    """Or (name, tensor) pairs, where engine and trainer are one process."""


class FileTransfer(WeightTransferEngine[FileInit, FileUpdate]):
    """One call of `update_weights` per file; a model may come in several."""

    init_info_cls = FileInit
    update_info_cls = FileUpdate

    def init_transfer_engine(self, init_info: FileInit) -> None:
        pass

    def start_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: FileUpdate) -> None:
        if update_info.tensors is not None:
            self.model.load_weights(iter(update_info.tensors))
            return
        from safetensors.torch import load_file

        self.model.load_weights(iter(load_file(update_info.path, device=str(self.device)).items()))

    def finish_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        pass


class Extension:
    """Mixed into the worker; being named is what makes vLLM import this module there."""


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, FileTransfer)
