"""One rank under torchrun: calls the run that started it, and does what it is told until it is told no more.

torchrun … -m pipelines.grpo.rank_worker        (`rank_group.RankGroup` starts it)
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from data.errors import SynthError, UserError
from pipelines.grpo.wire import frame, receive


def main() -> int:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(os.environ["SYNTH_RANKS"])
    except OSError:  # the run has gone while torch was imported
        return 1
    threading.Thread(target=_end_with_the_run, args=(connection,), daemon=True).start()
    connection.sendall(frame({"token": os.environ["SYNTH_RANKS_TOKEN"], "rank": int(os.environ["RANK"]), "pid": os.getpid()}))
    rank = _Rank()
    while (message := receive(connection)) is not None:
        try:
            answer = rank.do(message)
        except (UserError, SynthError) as error:
            answer = {"error": str(error), "kind": "UserError" if isinstance(error, UserError) else "SynthError"}
        except Exception as error:  # noqa: BLE001 - the run says it
            traceback.print_exc()
            answer = {"error": f"rank {os.environ['RANK']} of the trainer failed: {type(error).__name__}: {error}"[:500], "kind": "failure"}
        connection.sendall(frame(answer))
    return 0


def _end_with_the_run(connection: socket.socket) -> None:
    """The run's end of the socket closes when it does, however it ends; a rank in the middle of an update must not outlive it."""
    waiting = select.poll()
    waiting.register(connection, select.POLLRDHUP)
    waiting.poll()
    os._exit(0)


class _Rank:
    """The trainer of this rank; made by the first message."""

    def __init__(self) -> None:
        self.trainer: Any = None

    def do(self, message: dict[str, Any]) -> dict[str, Any]:
        from pipelines.grpo.replay import group_from_json

        if message["do"] == "open":
            self._open(message)
            return {"extra": self.trainer.extra, "step": self.trainer.step_count}
        if message["do"] == "step":
            groups = [group_from_json(g) for g in message["groups"]]
            return {"metrics": self.trainer.step(groups, message["factors"], stale=message["stale"]), "seconds": self.trainer.seconds}
        if message["do"] == "save":
            try:
                return {"hash": self.trainer.save(Path(message["folder"]), extra=message["extra"])}
            except OSError as error:
                raise SynthError(f"cannot write the checkpoint {message['folder']}: {error.strerror}; free some space and go on") from error
        raise ValueError(f"a rank cannot {message['do']!r}")

    def _open(self, message: dict[str, Any]) -> None:
        from pipelines.grpo.config import GRPOConfig
        from pipelines.grpo.ranks import Ranks
        from pipelines.grpo.trainer import GRPOTrainer

        config = GRPOConfig(**message["config"])
        ranks = Ranks.join(config.device)
        make = GRPOTrainer.resume if message["resume"] else GRPOTrainer
        self.trainer = make(Path(message["policy"]), config, ranks=ranks)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # torch's own goodbyes would wait for ranks that have gone
