"""What the canary tries: each attempt is a call that returns something other than None only where it got through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """`level`: where it must fail from; `wall`: what is meant to stop it."""

    name: str
    level: str
    call: str
    wall: str
    by_deadline: bool = False


ATTEMPTS: tuple[Attempt, ...] = (
    Attempt("TCP socket", "L1", "make_socket(2, 1)", "seccomp"),
    Attempt("UDP socket", "L1", "make_socket(2, 2)", "seccomp"),
    Attempt("Unix socket", "L1", "make_socket(1, 1)", "seccomp"),
    Attempt("vsock socket", "L1", "make_socket(40, 1)", "seccomp"),
    Attempt("netlink socket", "L1", "make_socket(16, 3)", "seccomp"),
    Attempt("io_uring", "L1", "raw(425, 8, 0)", "seccomp"),
    Attempt("memfd", "L1", "os.memfd_create('x')", "seccomp"),
    Attempt("fork", "L1", "fork()", "seccomp"),
    Attempt("100 processes", "L1", "[fork() for _ in range(100)]", "seccomp"),
    Attempt("execute a program", "L1", "execute()", "seccomp"),
    Attempt("user namespace", "L1", "call('unshare', 0x10000000)", "seccomp"),
    Attempt("trace the parent", "L1", "call('ptrace', 16, os.getppid(), 0, 0)", "seccomp"),
    Attempt("signal the parent", "L1", "signal_parent()", "seccomp"),
    Attempt("raise its own limits", "L1", "raise_limits()", "seccomp"),
    Attempt("4 GB of memory", "L1", "len(bytearray(4 << 30))", "rlimits"),
    Attempt("environment", "L1", "dict(os.environ) if 'SYNTH_CANARY' in os.environ else None", "empty environment"),
    Attempt("endless loop", "L1", "spin()", "deadline", by_deadline=True),
    Attempt("read a file outside", "L2", "open(SECRET).read()", "Landlock"),
    Attempt("read the parent's memory map", "L2", "open(f'/proc/{SUPERVISOR}/maps').read(10)", "Landlock"),
    Attempt("write a file outside", "L2", "open(OUTSIDE + '/escaped', 'w').write('x')", "Landlock"),
    Attempt("write beside the interpreter", "L2", "open(os.path.dirname(os.__file__) + '/escaped', 'w')", "Landlock"),
    Attempt("/dev/shm", "L2", "open('/dev/shm/synth-canary', 'w').write('x')", "Landlock"),
    Attempt("be root", "L2", "0 in (os.getuid(), os.geteuid()) or None", "uid of its own"),
    Attempt("become root", "L2", "os.setuid(0) or True", "uid of its own"),
    Attempt("see files outside", "L3", "os.path.exists(SECRET) or None", "namespaces"),
    Attempt("see processes outside", "L3", "os.path.exists(f'/proc/{SUPERVISOR}') or None", "namespaces"),
)

PROGRAM = """
import ctypes, os, resource, signal, socket

def make_socket(family, kind):
    return str(socket.socket(family, kind))

def call(name, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    result = getattr(libc, name)(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def raw(number, *args):
    return call("syscall", number, *args)

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    return child

def execute():
    os.execv("/bin/true", ["true"])

def signal_parent():
    os.kill(os.getppid(), 0)
    return "signalled"

def raise_limits():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return "set"

def spin():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
"""


def attempts_text(secret: str, outside: str, supervisor: int) -> str:
    """The names that the attempts use, as source."""
    return f"SECRET, OUTSIDE, SUPERVISOR = {secret!r}, {outside!r}, {supervisor}\n"
