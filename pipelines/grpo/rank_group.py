"""The processes that learn, seen from the run that started them: torchrun as their supervisor, a local socket to each.

The lake, the ledger and the engine stay in the run's one process. A rank that dies ends the group, and with it the run, in one sentence; a
run that dies (kill -9 too) closes the sockets, at which every rank ends by itself, and torchrun after them. No process is left.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import SynthError, UserError
from pipelines.grpo.wire import frame, receive

ROOT = Path(__file__).parents[2]
LOG = Path("logs") / "ranks.log"
START_S = 600.0  # until every rank has called: torch is imported first, on a loaded machine or from a cold disk
CLOSE_S = 10.0
ECHO_S = 3.0  # after one rank's error, until another's death must have been noticed


class RankGroup:
    """`size` ranks on this machine. `devices`: their GPUs as nvidia-smi numbers them, empty = the first that this process sees.

    threads: torch's threads in each. home: the run's folder; what the ranks print goes to its logs/ranks.log.
    """

    def __init__(self, size: int, *, threads: int, devices: Sequence[int] = (), home: Path) -> None:
        self.size, self.home = size, home
        self.pids: list[int] = []
        self._connections: list[socket.socket] = []
        (home / LOG).parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="synth-ranks-"))  # 0700: nobody else can call
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(folder / "run"))
                listener.listen(size)
                listener.settimeout(0.2)
                token = secrets.token_hex(16)
                self._torchrun = self._start(folder / "run", token, threads, devices)
                self._accept(listener, token)
        except BaseException:
            self.close()
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, address: Path, token: str, threads: int, devices: Sequence[int]) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TORCHELASTIC_", "PET_")) and k not in _OF_TORCHRUN}
        environment |= {"SYNTH_RANKS": str(address), "SYNTH_RANKS_TOKEN": token, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # ranks that wait for one another leave the cores to the engine
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = visible(devices, os.environ.get("CUDA_VISIBLE_DEVICES"))
        rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
        launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(self.size), *rendezvous]
        with (self.home / LOG).open("ab") as log:
            # A session of its own: Ctrl-C is the run's to hear, and it closes the group.
            return subprocess.Popen(
                [*launch, "-m", "pipelines.grpo.rank_worker"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _accept(self, listener: socket.socket, token: str) -> None:
        called: dict[int, tuple[socket.socket, int]] = {}
        deadline = time.monotonic() + START_S
        while len(called) < self.size:
            if self._torchrun.poll() is not None or time.monotonic() > deadline:
                raise SynthError(f"the {self.size} ranks of the trainer did not start; what they said last: {self._last_words()}")
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.setblocking(True)
            hello = receive(connection)
            if hello is None or hello.get("token") != token:
                connection.close()
                continue
            called[int(hello["rank"])] = (connection, int(hello["pid"]))
        self._connections = [called[rank][0] for rank in range(self.size)]
        self.pids = [called[rank][1] for rank in range(self.size)]

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Every rank does what `message` says; the first one's answer. UserError or SynthError as a rank raised it, SynthError where one died."""
        if not self._connections:
            raise SynthError("the ranks of the trainer were closed")
        whole = frame(message)
        answers: dict[int, dict[str, Any]] = {}
        with selectors.DefaultSelector() as waiting:
            for rank, connection in enumerate(self._connections):
                try:
                    connection.sendall(whole)
                except OSError:
                    raise self._died(rank) from None
                waiting.register(connection, selectors.EVENT_READ, rank)
            while len(answers) < self.size:
                for key, _ in waiting.select():
                    answer = receive(key.fileobj)  # type: ignore[arg-type]
                    if answer is None:
                        raise self._died(key.data)
                    if "error" in answer:
                        waiting.unregister(key.fileobj)
                        raise self._failed(answer, waiting)
                    answers[key.data] = answer
                    waiting.unregister(key.fileobj)
        return answers[0]

    def _failed(self, answer: Mapping[str, Any], waiting: selectors.BaseSelector) -> SynthError:
        """What one rank said, or that another died: its neighbours' broken connections may be heard of first. The others would wait for ever."""
        deadline = time.monotonic() + ECHO_S
        while answer["kind"] == "failure" and waiting.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                if receive(key.fileobj) is None:  # type: ignore[arg-type]
                    return self._died(key.data)
                waiting.unregister(key.fileobj)
        self.close()
        if answer["kind"] == "failure":
            return SynthError(f"{answer['error']}; nothing is lost, go on with `synth resume {self.home}` ({self.home / LOG} says more)")
        return (UserError if answer["kind"] == "UserError" else SynthError)(answer["error"])

    def _died(self, rank: int) -> SynthError:
        self.close()
        go_on = f"nothing is lost, go on with `synth resume {self.home}`"
        return SynthError(f"rank {rank} of the trainer's {self.size} died; {go_on}; what it said last is in {self.home / LOG}: {self._last_words()}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in (self.home / LOG).read_text("utf-8", "replace").splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line and "ChildFailedError" not in line]
        return (errors or lines or ["nothing"])[-1][:300]

    def close(self) -> None:
        """Ends the ranks; harmless twice, and from another thread than the one that asks."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for an answer
            connection.close()
        self._connections = []
        process = getattr(self, "_torchrun", None)
        if process is None or process.poll() is not None:
            return
        try:
            process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


_OF_TORCHRUN = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR", "MASTER_PORT"})
"""What torchrun tells its processes: a run that was itself started by it must not hand this on."""


def visible(devices: Sequence[int], shown: str | None) -> str:
    """CUDA_VISIBLE_DEVICES for some of the GPUs; where only some are shown to us, `devices` count those."""
    if not shown:
        return ",".join(map(str, devices))
    names = [name.strip() for name in shown.split(",") if name.strip()]
    if max(devices) >= len(names):
        raise UserError(f"train.devices names GPU {max(devices)}, but CUDA_VISIBLE_DEVICES={shown} shows {len(names)}, counted from 0")
    return ",".join(names[d] for d in devices)
