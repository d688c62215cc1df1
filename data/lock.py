"""One writer per run: an advisory lock that the kernel drops when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from data.disk import storage_error
from data.errors import UserError


class WriterLock:
    """`flock` on `<run>/writer.lock`; the file names the holder, for the one who is refused."""

    def __init__(self, folder: Path) -> None:
        path = folder / "writer.lock"
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise storage_error(error, folder) or error from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._handle, 64, 0).decode("utf-8", "replace").strip()
            os.close(self._handle)
            who = f" (process {holder})" if holder else ""
            raise UserError(f"another process{who} is writing to {folder}; wait for it or stop it, or choose another folder with --out") from error
        # The name of the holder is a courtesy: a full disk must not keep us from opening the run.
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
