"""What the disk can do to us: durable writes, and errors of storage in one sentence each."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from data.errors import UserError

_FULL = ("no space left", "disk is full", "disk full", "disk quota exceeded")
_READ_ONLY = ("readonly database", "read-only", "permission denied", "unable to open database file", "attempt to write a readonly")


def sync_file(path: str | Path) -> None:
    """fsync of one file; DuckDB does not sync the Parquet files that it writes (seen with strace, 1.5.5)."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: str | Path) -> None:
    """fsync of a folder: makes the names in it durable."""
    _sync(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))


def sync_files(paths: Iterable[str | Path]) -> None:
    """fsync of files and of the folders that hold them."""
    folders = set()
    for path in paths:
        sync_file(path)
        folders.add(os.path.dirname(path))
    for folder in sorted(folders):
        sync_folder(folder)


def storage_error(error: BaseException, where: Path) -> UserError | None:
    """The user's sentence for a full disk or a folder that cannot be written, None for any other error."""
    code = getattr(error, "errno", None)
    text = str(error).lower()
    # SQLite says no more than "disk I/O error" where it cannot grow the index of its WAL.
    full = "disk i/o error" in text and _free(where) < 1 << 20
    if full or code in (errno.ENOSPC, errno.EDQUOT) or any(word in text for word in _FULL):
        return UserError(f"disk full: nothing more can be written to {where}; free some space and resume (what was committed is safe)")
    if code in (errno.EROFS, errno.EACCES, errno.EPERM) or any(word in text for word in _READ_ONLY):
        return UserError(
            f"{where} cannot be written: it is read-only or somebody else's; choose another folder with --out, or change its permissions"
        )
    return None


def _free(where: Path) -> int:
    try:
        return shutil.disk_usage(where).free
    except OSError:
        return 1 << 62


def _sync(path: str | Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
