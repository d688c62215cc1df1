"""The seccomp filters of a zygote and of its jobs, as BPF bytes. Together they are a job's allow-list; everything else is refused with EPERM.

A call must pass both. The zygote's is the long list, and lets through what the zygote itself needs; it is loaded once. A job's only takes that back,
and is short, because every job loads it: a filter is translated to machine code when it is loaded.

What is refused by being absent: sockets of every family (AF_VSOCK reaches the hypervisor even from an empty network namespace), io_uring, ptrace,
process_vm_*, execve, fork, kill of anything, mount, unshare, setns, memfd, keyctl, bpf, perf, userfaultfd, handles. Of calls with several uses only
the harmless one is left: `clone` makes threads, `prlimit64` reads, `socketpair` makes a local stream (asyncio needs one), `ioctl` asks.
A call of another architecture (also x32) kills the process. Source: seccomp(2), linux/bpf_common.h.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping, Sequence

from data.errors import UserError
from filters.sandbox.syscalls import ARM64, ARM64_ZYGOTE, X86_64, X86_64_ZYGOTE

ZYGOTE = {"x86_64": X86_64_ZYGOTE, "aarch64": ARM64_ZYGOTE}
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
FREER = ("clone", "prctl", "prlimit64")  # calls of which a zygote needs other uses than its jobs
SPECIAL = frozenset(("clone", "clone3", "prctl", "ioctl", "socketpair", "prlimit64", "socket"))

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand
Body = tuple[Instruction, ...]
GRANTED: Body = ((RETURN, 0, 0, ALLOW),)
REFUSED: Body = ((RETURN, 0, 0, ERRNO | errno.EPERM),)


def supported() -> bool:
    return platform.machine() in TABLES and platform.system() == "Linux"


def zygote_filter(machine: str = "") -> bytes:
    """What a job may call at most, and what its zygote needs."""
    arch, numbers, more = _tables(machine)
    program: list[Instruction] = [(LOAD, 0, 0, ARCH), (JUMP_EQ, 1, 0, arch), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    if arch == TABLES["x86_64"][0]:
        program += [(JUMP_GE, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]
    decided = dict.fromkeys((*numbers.values(), *more.values()), GRANTED)
    decided |= {numbers[name]: tuple(_special(name)) for name in SPECIAL & numbers.keys() if name not in FREER}
    return _packed([*program, *_search(_spans(decided, REFUSED))])


def job_filter(files: bool, machine: str = "") -> bytes:
    """What of that is taken back for a job; `files=False` (no Landlock to confine them) also refuses to open, make or move any file."""
    _, numbers, more = _tables(machine)
    decided = dict.fromkeys(more.values(), REFUSED) | {numbers[name]: tuple(_special(name)) for name in FREER}
    if not files:
        decided |= dict.fromkeys((numbers[name] for name in FILES & numbers.keys()), REFUSED)
    return _packed([(LOAD, 0, 0, NUMBER), *_search(_spans(decided, GRANTED))])


def _tables(machine: str) -> tuple[int, dict[str, int], dict[str, int]]:
    """(architecture, numbers of a job's calls, numbers of the zygote's own)."""
    machine = machine or platform.machine()
    if machine not in TABLES:
        raise UserError(f"no seccomp filter for {machine!r}; there is one for {', '.join(TABLES)}")
    return *TABLES[machine], ZYGOTE[machine]


def _packed(program: Sequence[Instruction]) -> bytes:
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _spans(decided: Mapping[int, Body], otherwise: Body) -> list[tuple[int, Body]]:
    """(number, body): from this number on, up to the next, this is done."""
    spans: list[tuple[int, Body]] = []
    for number in range(max(decided) + 2):
        body = decided.get(number, otherwise)
        if not spans or spans[-1][1] != body:
            spans.append((number, body))
    return spans


def _search(spans: Sequence[tuple[int, Body]]) -> list[Instruction]:
    """Binary search for the span of a number: while it loads a filter, the kernel walks it once per system call there is."""
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
