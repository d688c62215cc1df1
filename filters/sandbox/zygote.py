"""Second stage: a small preloaded interpreter, locked in, that forks a process for every job and does nothing else.

It is two processes: the zygote, and its keeper (`keeper`), which hands out the jobs and deals with all that a job says. Two forked processes stand
ready, each waiting for one job, so that forking the next goes on beside the job that runs. What a fork costs is the zygote's pages: each one is
entered in the child, and each one that either of them writes while both live is copied. So the zygote imports little, has run everything once that
a job runs (caches are filled, byte code is specialised: a job writes less), collects no garbage and between two forks only waits.
"""

from __future__ import annotations

import _socket
import contextlib
import gc
import json
import json.scanner
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

import child
import frames
import kernel

# What most programs import. Every page that is here is entered at a fork, so the list is short: the rest is imported by the job that needs it.
PRELOADED = ("typing", "re", "math", "collections", "itertools", "functools", "heapq", "bisect", "string", "copy", "operator", "random", "json")
NOT_FOR_JOBS = frozenset(
    ["antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "ensurepip", "test", "lib2to3", "webbrowser", "_pyrepl"]
)
SCAN = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # what json.loads comes to, without what it looks at first: each is a page
ROLES = frames.ROLES
REHEARSALS = 4
READY = 2  # processes that wait for a job; a script and the program that it calls are two
FIRST_BYTES = 8000  # most requests are shorter
RECORDS = 200  # a job's own descriptors lie here and above, out of the way of those that its program opens
LOW_BYTE = 0 if sys.byteorder == "little" else 3  # of a descriptor's number: they are small here
BELOW = 5  # frames between `Zygote.serve` and what runs the program


class Line(NamedTuple):
    """The keeper's ends of what leads to the zygote: the numbers of its processes as they are forked, how each ended, in the same order, and the
    sockets over which they get a request and its descriptors, in turn."""

    started: int
    ended: int
    ready: tuple[_socket.socket, ...]


class Zygote:
    """Whatever a job touches for the first time costs it a page (a copy of it, if only to count a reference): so what can be made ready here is, and
    the way from the fork to the program is closures that hold what they use: to look a name up touches more than to use what it names."""

    def __init__(self, settings: dict[str, Any], started: int, ended: int, ready: tuple[_socket.socket, ...]) -> None:
        self.started, self.ended, self.ready = started, ended, ready
        self.first_uid, self.uids, self.jobs = settings["first_uid"], settings["uids"], 0
        self.uid = [0]  # of the next job
        self.run = runner()
        filters = [kernel.seccomp_loader(bytes.fromhex(text)) for text in settings["seccomp"]]
        self.confine = filters[0] if filters else nothing
        self.become_job = self.starter(locker(settings, self.uid, filters[1] if filters else nothing))

    def serve(self) -> None:
        """Until the keeper has gone."""
        sys.setrecursionlimit(1000 + depth() + BELOW)  # the program gets what it has anywhere: 1000 frames of its own
        # The first forks leave the heap otherwise than all later ones do, and a program could tell by an address: they go to nobody.
        nobody, gone = _socket.socketpair()
        gone.close()
        null = os.open("/dev/null", os.O_WRONLY)
        self.take_turns((nobody,) * len(self.ready), null, null, REHEARSALS)
        nobody.close()
        os.close(null)
        self.take_turns(self.ready, self.started, self.ended, 1 << 62)

    def take_turns(self, roles: tuple[_socket.socket, ...], started: int, ended: int, turns: int) -> None:
        """Whoever waits at a socket has it alone: the next one there is forked when he has ended."""
        look, wait, clock, write, describe, name = os.waitid, os.waitpid, time.clock_gettime, os.write, frames.END.pack, frames.PID.pack
        pids, one, kept = [0] * len(roles), os.P_PID, os.WEXITED | os.WNOWAIT
        for turn in range(turns):
            for place, role in enumerate(roles):
                pid = pids[place]
                if pid:
                    look(one, pid, kept)
                    spent = clock((~pid << 3) | 2)  # the CPU clock of that process; wait4 would import a module and make sixteen numbers
                    write(ended, describe(wait(pid, 0)[1], spent))
                pids[place] = pid = self.fork(role) if turn + 1 < turns else 0
                write(started, name(pid))

    def fork(self, role: _socket.socket) -> int:
        """A process that stands ready for a job."""
        self.jobs += 1
        self.uid[0] = self.first_uid + self.jobs % self.uids
        pid = os.fork()
        if pid == 0:
            self.become_job(role)
        return pid

    def starter(self, lock: child.Lock) -> Callable[[_socket.socket], NoReturn]:
        leave, close, settle, run = os._exit, os.close, settler(), self.run
        zygotes_own = self.started, self.ended

        def become_job(role: _socket.socket) -> NoReturn:
            """In the forked process: only the pipes that came with the request stay open, then the program runs."""
            try:
                for fd in zygotes_own:  # held by nobody but the zygote: the keeper sees its end
                    close(fd)
                kind, request, fds = receive(role)
                settle(kind, fds)
                run(kind, request, lock)
            finally:
                leave(0)

        return become_job

    def warm(self) -> None:
        """Do what every job does, on a request of our own, until the interpreter has specialised its byte code and filled its caches: what is
        written here is not written in a job, and so not copied."""
        ours, theirs = _socket.socketpair()
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, RECORDS)
        text = frames.to_job("calls", json.dumps(child.SAMPLE | {"imports": ["typing", "math"], "seed": 1, "cpu": 9}).encode())
        for _ in range(20):
            ours.sendmsg([text], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, null.to_bytes(4, sys.byteorder))])
            kind, request, fds = receive(theirs)
            self.run(kind, request, unlocked)
            os.close(fds[0])
        for fd in (null, RECORDS):
            os.close(fd)
        ours.close()
        theirs.close()
        del sys.modules["solution"]


def nothing() -> None:
    """Where there is nothing to do."""


def unlocked(request: dict[str, Any]) -> None:
    """For the zygote itself, which runs nobody's program."""


def receive(role: _socket.socket) -> tuple[str, dict[str, Any], bytes]:
    """What the keeper sent to this process: how to run, the request, the numbers of its descriptors. Raises IndexError where the keeper has gone."""
    text, passed, _, _ = role.recvmsg(FIRST_BYTES, 64)
    while text[-1] != 10:  # a request ends with its line
        text += role.recv(1 << 20)
    return ROLES[text[0] - 48], SCAN(text.decode("ascii"), 1)[0], passed[0][2][LOW_BYTE::4]


def settler() -> Callable[[str, bytes], None]:
    dup, close_all, first = os.dup2, os.closerange, RECORDS

    def settle(kind: str, fds: bytes) -> None:
        """Standard descriptors and those of the job; everything else is closed."""
        if kind == "stdin":
            dup(fds[1], 0)
            dup(fds[2], 1)
            fds = fds[:1]
        place = first
        for fd in fds:
            dup(fd, place)
            place += 1
        close_all(3, first)

    return settle


def runner() -> Callable[[str, dict[str, Any], child.Lock], None]:
    modules, emit, run_calls, other = sys.modules, child.emitter(RECORDS), child.run_calls, run_other

    def run(kind: str, request: dict[str, Any], lock: child.Lock) -> None:
        for name in request["imports"]:
            if name not in modules and name.split(".")[0] not in NOT_FOR_JOBS:
                with contextlib.suppress(Exception):  # the program will meet it itself
                    import_module(name)
        if request["seed"]:
            modules["random"].seed(request["seed"])
        if kind == "calls":
            run_calls(request, emit, lock)
        else:
            other(kind, request, emit, lock)

    return run


def run_other(kind: str, request: dict[str, Any], emit: child.Emit, lock: child.Lock) -> None:
    if kind == "stdin":
        child.run_stdin(request, emit, lock)
    elif kind == "beside":
        child.run_beside(request, emit, lock)
    elif kind == "serve":
        child.serve_calls(request, emit, child.receiver(RECORDS + 1), lock)
    else:
        child.run_judge(request, emit, child.receiver(RECORDS + 1), child.emitter(RECORDS + 2), lock)


def locker(settings: dict[str, Any], uid: list[int], load_seccomp: Callable[[], None]) -> child.Lock:
    set_limit, cpu, processes, threads = resource.setrlimit, resource.RLIMIT_CPU, resource.RLIMIT_NPROC, settings["threads"]
    set_uid, set_gid, own_uid, capable = os.setresuid, os.setresgid, settings["drop"], settings["capable"]
    die_with_zygote = None if settings["namespaces"] else kernel.prepared(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)

    def lock(request: dict[str, Any]) -> None:
        """The last trusted act of a job: limits, an own uid (which also ends its being dumpable), no capability, the seccomp filter.

        Raises where one cannot be had.
        """
        seconds = request["cpu"]
        set_limit(cpu, (seconds, seconds + 1))
        if own_uid:
            own = uid[0]
            set_gid(own, own, own)
            set_uid(own, own, own)
        elif capable:
            kernel.drop_capabilities()
        if die_with_zygote:  # in namespaces, the end of process 1 is everybody's
            die_with_zygote()  # now: a change of uid forgets it; before, a job waits for its request, whose end it would see
        if threads:
            set_limit(processes, (threads, threads))
        load_seccomp()

    return lock


def depth() -> int:
    """Frames of ours, those of the caller included."""
    frame, count = sys._getframe(1), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1  # type: ignore[assignment]
    return count


def preload() -> None:
    """Import for all jobs, without the hooks that some modules run after every fork: a job seeds its own random numbers and has one thread."""
    register, os.register_at_fork = os.register_at_fork, lambda **hooks: None
    try:
        for name in PRELOADED:
            import_module(name)
    finally:
        os.register_at_fork = register


def lock_in(settings: dict[str, Any]) -> int:
    """What holds for the zygote and all its jobs. Returns the ABI of Landlock, 0 without."""
    space = settings["address_space"]
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    for limit, value in ((resource.RLIMIT_FSIZE, settings["file_size"]), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 1024)):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    abi = kernel.landlock(settings["readable"], settings["writable"]) if settings["landlock"] else 0
    if not settings["drop"]:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        if settings["capable"]:
            kernel.drop_capabilities()
    return abi


def main(text: str) -> None:
    """Becomes the zygote and, in the process that was started, its keeper; `text`: the settings."""
    settings = json.loads(text)
    import_module("huge").put_code_on_huge_pages()
    del sys.modules["huge"]  # nobody needs it again
    preload()
    sys.modules["_thread"].stack_size(16 << 20)
    abi = lock_in(settings)
    started, started_in = os.pipe()
    ended, ended_in = os.pipe()
    ready = [_socket.socketpair() for _ in range(READY)]
    keeper = os.getpid()
    if os.fork() == 0:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)
        for fd in (started, ended):
            os.close(fd)
        for ours, _ in ready:
            ours.close()
        if settings["drop"]:
            os.setgroups([])
        zygote = Zygote(settings, started_in, ended_in, tuple(theirs for _, theirs in ready))
        zygote.warm()
        kernel.trim()
        sys.modules["random"].seed(0)
        gc.collect()
        gc.freeze()
        zygote.confine()
        with open("/dev/null", "wb") as null:  # what goes wrong from here on concerns one job
            os.dup2(null.fileno(), 2)
        zygote.serve()
    for fd in (started_in, ended_in):
        os.close(fd)
    for _, theirs in ready:
        theirs.close()
    import_module("keeper").keep(settings, Line(started, ended, tuple(ours for ours, _ in ready)), abi)
