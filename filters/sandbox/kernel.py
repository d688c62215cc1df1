"""The few kernel calls that Python lacks: namespaces, mounts, prctl, capabilities, Landlock, loading a seccomp filter.

Runs inside the processes that become a sandbox (and nowhere else), so it stands alone: standard library and ctypes only.
Every function raises OSError with the kernel's errno. Sources: landlock(7) with ABI 1-7, seccomp(2), pivot_root(2), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
CLONE_NEWCGROUP = 0x2000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
ADDR_NO_RANDOMIZE = 0x0040000
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # one number on every architecture, like all calls since 5.1
MOUNT_SETATTR, AT_RECURSIVE = 442, 0x8000
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

FS_EXECUTE, FS_WRITE, FS_READ, FS_READ_DIR = 1, 2, 4, 8
FS_TRUNCATE, FS_IOCTL = 1 << 14, 1 << 15
FS_ALL = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # by the ABI that brought the last bit
FS_FILE = FS_EXECUTE | FS_WRITE | FS_READ | FS_TRUNCATE | FS_IOCTL  # the rights that exist on a file that is no directory

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_kept: list[object] = []  # memory that a prepared call points to


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *args: object) -> int:
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return _checked(_libc.syscall(ctypes.c_long(number), *given), f"syscall {number}")


def prctl(option: int, value: int = 0, pointer: object = 0) -> None:
    third = ctypes.c_ulong(pointer) if isinstance(pointer, int) else pointer
    _checked(_libc.prctl(option, ctypes.c_ulong(value), third, ctypes.c_ulong(0), ctypes.c_ulong(0)), f"prctl {option}")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def no_randomisation() -> None:
    """Equal addresses in every process executed after this: `id()` and the order of sets of objects repeat."""
    _checked(_libc.personality(ctypes.c_ulong(ADDR_NO_RANDOMIZE)), "personality")


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    text = [t.encode() if t is not None else None for t in (source, target, kind, data)]
    _checked(_libc.mount(text[0], text[1], text[2], ctypes.c_ulong(flags), text[3]), f"mount {target}")


def bind_read_only(source: str, target: str) -> None:
    """Bind `source` with everything mounted below it, read-only, nosuid, nodev."""
    mount(source, target, None, MS_BIND | MS_REC)
    attributes = struct.pack("QQQQ", MS_RDONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
    try:
        syscall(MOUNT_SETATTR, -100, ctypes.c_char_p(target.encode()), AT_RECURSIVE, ctypes.c_char_p(attributes), len(attributes))
    except OSError:  # before 5.12: the top mount only, with the flags an unprivileged namespace may not take away
        kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | 8 | 1024 | 2048)
        relatime = 1 << 21 if os.statvfs(target).f_flag & 4096 else 0
        mount("none", target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | kept | relatime)


def enter_root(new_root: str, old_root: str) -> None:
    """pivot_root; `new_root` must be a mount point, `old_root` a folder below it."""
    number = PIVOT_ROOT[os.uname().machine]
    syscall(number, ctypes.c_char_p(new_root.encode()), ctypes.c_char_p(old_root.encode()))
    os.chdir("/")


def unmount(target: str) -> None:
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def trim() -> None:
    """Gives memory that is free inside this process back, where the C library can."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


def drop_capabilities() -> None:
    """Empties the effective, permitted and inheritable sets of this thread."""
    header = struct.pack("Ii", 0x20080522, 0)
    _checked(_libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))), "capset")


def prepared(option: int, value: int, pointer: object = 0) -> Callable[[], None]:
    """`prctl` with everything made ready here, once, not in every job: plain numbers, and a library that keeps no errno."""
    call, arguments = ctypes.CDLL(None).prctl, (option, value, pointer, 0, 0)

    def run() -> None:
        if call(*arguments) != 0:
            raise OSError(f"prctl {option}")

    return run


def seccomp_loader(filters: bytes) -> Callable[[], None]:
    """A function that puts the filter in force for good."""
    code = ctypes.create_string_buffer(filters, len(filters))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(filters) // 8, ctypes.addressof(code)))
    load = prepared(PR_SET_SECCOMP, 2, ctypes.byref(program))
    _kept.extend((code, program))
    return load


def landlock_abi() -> int:
    """0 where the kernel has no Landlock (or it is off)."""
    try:
        return syscall(LANDLOCK_CREATE, ctypes.c_void_p(None), 0, 1)
    except OSError:
        return 0


def landlock(readable: list[str], writable: list[str]) -> int:
    """Restrict this process for good: read and execute below `readable`, everything below `writable`, nothing else in any file system;
    no TCP (ABI 4), no signal and no abstract socket to processes outside (ABI 6). Returns the ABI; raises OSError where there is none."""
    abi = syscall(LANDLOCK_CREATE, ctypes.c_void_p(None), 0, 1)
    handled = max(bits for since, bits in FS_ALL.items() if since <= abi)
    attributes = struct.pack("QQQ", handled, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = syscall(LANDLOCK_CREATE, ctypes.c_char_p(attributes), size, 0)
    try:
        for paths, rights in ((readable, FS_EXECUTE | FS_READ | FS_READ_DIR), (writable, handled)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall(LANDLOCK_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)
    return abi


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no permission
    try:
        if not os.path.isdir(path):
            rights &= FS_FILE
        syscall(LANDLOCK_ADD, ruleset, 1, ctypes.c_char_p(struct.pack("=Qi", rights, fd)), 0)
    finally:
        os.close(fd)
