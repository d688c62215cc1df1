"""The seccomp filter of a job, as BPF bytes: an allow-list, everything else is refused with EPERM.

What is refused by being absent: sockets of every family (AF_VSOCK reaches the hypervisor even from an empty network namespace), io_uring, ptrace,
process_vm_*, execve, fork, kill of anything, mount, unshare, setns, memfd, keyctl, bpf, perf, userfaultfd, handles. Of calls with several uses only
the harmless one is left: `clone` makes threads, `prlimit64` reads, `socketpair` makes a local stream (asyncio needs one), `ioctl` asks.
A call of another architecture (also x32) kills the process. Source: seccomp(2), linux/bpf_common.h.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Sequence

from data.errors import UserError
from filters.sandbox.syscalls import ARM64, X86_64

TABLES = {"x86_64": (0xC000003E, X86_64), "aarch64": (0xC00000B7, ARM64)}  # AUDIT_ARCH_*, numbers

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, JUMP_EQ, JUMP_GE, JUMP_SET, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
NUMBER, ARCH, ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data

CLONE_THREAD = 0x10000
HARMLESS_PRCTL = (15, 16, 0x53564D41)  # names of threads and of memory
HARMLESS_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
FILES = frozenset(
    [
        "open",
        "openat",
        "readlink",
        "readlinkat",
        "mkdir",
        "mkdirat",
        "rmdir",
        "unlink",
        "unlinkat",
        "rename",
        "renameat",
        "renameat2",
        "truncate",
        "chmod",
        "fchmod",
        "fchmodat",
        "utimensat",
        "chdir",
    ]
)
SPECIAL = frozenset(("clone", "clone3", "prctl", "ioctl", "socketpair", "prlimit64", "socket"))

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand
Body = tuple[Instruction, ...]


def supported() -> bool:
    return platform.machine() in TABLES and platform.system() == "Linux"


def job_filter(files: bool, machine: str = "") -> bytes:
    """The filter for a job; `files=False` (no Landlock to confine them) also refuses to open, make or move any file."""
    machine = machine or platform.machine()
    if machine not in TABLES:
        raise UserError(f"no seccomp filter for {machine!r}; there is one for {', '.join(TABLES)}")
    arch, numbers = TABLES[machine]
    program: list[Instruction] = [(LOAD, 0, 0, ARCH), (JUMP_EQ, 1, 0, arch), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    if machine == "x86_64":
        program += [(JUMP_GE, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]
    special = {numbers[name]: tuple(_special(name)) for name in SPECIAL & numbers.keys()}
    allowed = {number for name, number in numbers.items() if name not in SPECIAL and (files or name not in FILES)}
    refused, granted = (_refuse(errno.EPERM),), ((RETURN, 0, 0, ALLOW),)
    spans: list[tuple[int, Body]] = []  # from this number on, this is done
    for number in range(max(numbers.values()) + 2):
        body = special.get(number) or (granted if number in allowed else refused)
        if not spans or spans[-1][1] != body:
            spans.append((number, body))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in [*program, *_search(spans)])


def _search(spans: Sequence[tuple[int, Body]]) -> list[Instruction]:
    """Binary search for the span of a number. Every job loads the filter, and the kernel walks it once per system call while it does: a chain of
    comparisons would cost each job a quarter of a millisecond."""
    if len(spans) == 1:
        return list(spans[0][1])
    middle = len(spans) // 2
    below, above = _search(spans[:middle]), _search(spans[middle:])
    return [(JUMP_GE, len(below), 0, spans[middle][0]), *below, *above]


def _refuse(number: int) -> Instruction:
    return (RETURN, 0, 0, ERRNO | number)


def _load(argument: int, high: bool = False) -> Instruction:
    return (LOAD, 0, 0, ARGUMENT + 8 * argument + 4 * high)


def _one_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """Allow where the low word of the argument is one of `values`."""
    tests: list[Instruction] = [(JUMP_EQ, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_load(argument), *tests, _refuse(errno.EPERM), (RETURN, 0, 0, ALLOW)]


def _special(name: str) -> list[Instruction]:
    """What follows once the number is known; every path ends in a return."""
    if name == "clone":  # threads only: no process outlives or outnumbers a job
        return [_load(0), (JUMP_SET, 1, 0, CLONE_THREAD), _refuse(errno.EPERM), (RETURN, 0, 0, ALLOW)]
    if name == "clone3":  # its flags lie in memory, where a filter cannot look; the C library falls back to clone
        return [_refuse(errno.ENOSYS)]
    if name == "prctl":
        return _one_of(0, HARMLESS_PRCTL)
    if name == "ioctl":
        return _one_of(1, HARMLESS_IOCTL)
    if name == "prlimit64":  # of this process, reading only
        zero = [_load(0), _load(2), _load(2, high=True)]
        checks: list[Instruction] = [step for i, load in enumerate(zero) for step in (load, (JUMP_EQ, 0, 2 * (2 - i) + 1, 0))]
        return [*checks, (RETURN, 0, 0, ALLOW), _refuse(errno.EPERM)]
    if name == "socketpair":  # AF_UNIX and SOCK_STREAM: a datagram pair could send to other sockets by name
        return [_load(0), (JUMP_EQ, 0, 3, 1), _load(1), (AND, 0, 0, 0xF), (JUMP_EQ, 1, 0, 1), _refuse(errno.EPERM), (RETURN, 0, 0, ALLOW)]
    return [_refuse(errno.EACCES)]  # socket
