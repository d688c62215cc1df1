"""Second stage: a small preloaded interpreter that forks one job at a time, keeps its deadlines and hands back what it emitted.

Speaks length-prefixed JSON with its supervisor over the socket `control`; the answer's header is followed by the raw records.
Trusted, but it reads bytes that a hostile job wrote, so it looks at nothing but their lengths. It ends when the control socket closes.
Deadlines count CPU time, see `deadline`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import sys
import time
from importlib import import_module
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import child
import kernel
from deadline import Deadline

# What most programs import. Every page that is here is copied on a fork, so the list is short: the rest is imported by the job that needs it.
PRELOADED = (
    "typing",
    "re",
    "math",
    "collections",
    "itertools",
    "functools",
    "heapq",
    "bisect",
    "string",
    "copy",
    "operator",
    "random",
    "datetime",
    "json",
)
NOT_FOR_JOBS = frozenset(
    ["antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "ensurepip", "test", "lib2to3", "webbrowser", "_pyrepl"]
)


class Job:
    """One running job: its processes, its pipes and what came out of them."""

    def __init__(self, request: dict[str, Any], settings: dict[str, Any]) -> None:
        self.request, self.settings = request, settings
        self.pids: list[int] = []
        self.records: list[bytes] = []
        self.buffer, self.stdout = bytearray(), bytearray()
        self.times: list[float] = []
        self.expected = {"calls": len(request.get("calls", ())) + 1, "stdin": 1}.get(request["kind"], 2)
        self.reading: dict[int, str] = {}
        self.status = ""

    def take(self, data: bytes) -> bool:
        """Bytes of the record pipe; True when a record was completed."""
        self.buffer += data
        found = False
        while len(self.buffer) >= 4:
            length = int.from_bytes(self.buffer[:4], "big")
            if length > self.request["output"]:
                self.status = "output"
                return found
            if len(self.buffer) < 4 + length:
                break
            self.records.append(bytes(self.buffer[4 : 4 + length]))
            del self.buffer[: 4 + length]
            found = True
        if sum(map(len, self.records[-1:])) + len(self.buffer) > 2 * self.request["output"]:
            self.status = "output"
        return found

    def cpu(self) -> float:
        total = 0.0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                total += time.clock_gettime((~pid << 3) | 2)  # the CPU clock of that process
        return total

    def kill(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Zygote:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.control: int = settings["control"]
        self.load_seccomp = kernel.seccomp_loader(bytes.fromhex(settings["seccomp"])) if settings["seccomp"] else None
        self.null = os.open("/dev/null", os.O_RDWR)
        self.jobs = 0
        self.cpu_limit = 1

    def serve(self) -> None:
        while (request := self.receive()) is not None:
            header, body = self.judge(request)
            text = json.dumps(header, separators=(",", ":")).encode()
            self.send(text, body)
            if header.get("dirty"):
                return

    def send(self, text: bytes, body: bytes = b"") -> None:
        data = memoryview(len(text).to_bytes(4, "big") + text + body)
        while data:
            data = data[os.write(self.control, data) :]

    def receive(self) -> dict[str, Any] | None:
        try:
            length = int.from_bytes(self.exactly(4), "big")
            return json.loads(self.exactly(length))  # type: ignore[no-any-return]
        except (EOFError, ConnectionError):
            return None

    def exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            got = os.read(self.control, min(count - len(parts), 1 << 20))
            if not got:
                raise EOFError
            parts += got
        return bytes(parts)

    def judge(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        job = Job(request, self.settings)
        began = time.monotonic()
        self.jobs += 1
        self.start(job)
        usage = self.watch(job)
        dirty = bool(self.settings["box"]) and not clean(self.settings["box"])
        header = {
            "status": job.status or "ended",
            "signal": usage["signal"],
            "sizes": [len(r) for r in job.records],
            "times": job.times,
            "stdout": len(job.stdout),
            "cpu": usage["cpu"],
            "wall": time.monotonic() - began,
            "dirty": dirty,
        }
        return header, b"".join(job.records) + bytes(job.stdout)

    def start(self, job: Job) -> None:
        request = job.request
        records_out, records_in = os.pipe()
        job.reading[records_out] = "records"
        if request["kind"] == "judge":
            asked, ask = os.pipe()
            answered, answer = os.pipe()
            self.fork(job, {"records": answer, "asked": asked}, request | {"kind": "serve"})
            self.fork(job, {"records": records_in, "answered": answered, "ask": ask}, request)
            ours = [records_in, asked, ask, answered, answer]
        elif request["kind"] == "stdin":
            stdout_out, stdout_in = os.pipe()
            job.reading[stdout_out] = "stdout"
            self.fork(job, {"records": records_in, "stdout": stdout_in}, request)
            ours = [records_in, stdout_in]
        else:
            self.fork(job, {"records": records_in}, request)
            ours = [records_in]
        for fd in ours:
            os.close(fd)

    def fork(self, job: Job, fds: dict[str, int], request: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                self.become_job(fds, request)
            finally:
                os._exit(0)
        job.pids.append(pid)

    def become_job(self, fds: dict[str, int], request: dict[str, Any]) -> None:
        """In the forked process: only the given pipes stay open, then the program runs."""
        if not self.settings["namespaces"]:  # there the zygote's end is everybody's
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        self.cpu_limit = int(request["total"]) + 2
        os.dup2(standard_input(request["stdin"]) if request["kind"] == "stdin" else self.null, 0)
        os.dup2(fds.pop("stdout", self.null), 1)
        os.dup2(self.null, 2)
        moved = {}
        for i, (name, fd) in enumerate(fds.items()):
            moved[name] = os.dup2(fd, 200 + i, inheritable=False)
        os.closerange(3, 200)
        os.closerange(200 + len(moved), 1024)
        for name in request.get("imports", ()):
            if name not in sys.modules and name.split(".")[0] not in NOT_FOR_JOBS:
                with contextlib.suppress(Exception):
                    import_module(name)
        if request["seed"]:
            sys.modules["random"].seed(request["seed"])
        sys.setrecursionlimit(1000 + depth() + 1)  # the program gets what it has anywhere: 1000 frames of its own
        emit = child.emitter(moved["records"])
        runs = {"calls": child.run_calls, "stdin": child.run_stdin, "beside": child.run_beside}
        if request["kind"] == "serve":
            child.serve_calls(request, emit, child.receiver(moved["asked"]), self.lock)
        elif request["kind"] == "judge":
            child.run_judge(request, emit, child.receiver(moved["answered"]), child.emitter(moved["ask"]), self.lock)
        else:
            runs[request["kind"]](request, emit, self.lock)

    def lock(self) -> None:
        """The last trusted act of a job: limits, an own uid (which also ends its being dumpable), no capability, the seccomp filter.

        Raises where one cannot be had.
        """
        settings = self.settings
        resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_limit, self.cpu_limit + 1))
        if settings["drop"]:
            uid = settings["first_uid"] + self.jobs % settings["uids"]
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            if not settings["namespaces"]:
                kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of uid forgets it
        elif settings["capable"]:
            kernel.drop_capabilities()
        if settings["threads"]:
            resource.setrlimit(resource.RLIMIT_NPROC, (settings["threads"], settings["threads"]))
        if self.load_seccomp is not None:
            self.load_seccomp()

    def watch(self, job: Job) -> dict[str, Any]:
        """Until the job has emitted everything, ended, or passed a limit; then nothing of it is left."""
        request = job.request
        poll = select.poll()
        for fd in job.reading:
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        poll.register(self.control, select.POLLRDHUP)
        deadline = Deadline(request["limit"], request["total"], time.monotonic())
        while not job.status and any(kind == "records" for kind in job.reading.values()):
            now = time.monotonic()
            if now >= deadline.check and deadline.late(now, job.cpu()):
                job.status = "timeout"
                break
            for fd, event in poll.poll(max(0.0, deadline.check - now) * 1000 + 1):
                if fd == self.control:
                    job.kill()
                    os._exit(0)
                if self.read(job, fd, event, poll) and len(job.records) < job.expected:
                    job.times.append(deadline.record(time.monotonic(), job.cpu()))
            if len(job.records) >= job.expected:
                break
        final = job.cpu()
        job.times.append(max(0.0, final - deadline.used))
        job.kill()
        killed_by = 0
        for pid in job.pids:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code < 0 and code != -signal.SIGKILL:
                killed_by = -code
        for fd in list(job.reading):
            while job.reading.get(fd) == "stdout" and not job.status and self.read(job, fd, select.POLLIN, poll):
                pass
            if fd in job.reading:
                del job.reading[fd]
                os.close(fd)
        return {"cpu": final, "signal": killed_by}

    def read(self, job: Job, fd: int, event: int, poll: select.poll) -> bool:
        """Take what one pipe holds. For records: True when one was completed; for stdout: True when there was something."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            poll.unregister(fd)
            os.close(fd)
            del job.reading[fd]
            return False
        if job.reading[fd] == "records":
            return job.take(data)
        job.stdout += data
        if len(job.stdout) > job.request["output"]:
            job.status = "output"
        return job.reading[fd] == "stdout"


def depth() -> int:
    """Frames of ours, those of the caller included."""
    frame, count = sys._getframe(1), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1  # type: ignore[assignment]
    return count


def standard_input(text: str) -> int:
    """A file descriptor that reads as `text`, a real one: programs read it by number too."""
    fd, data = os.memfd_create("stdin"), memoryview(text.encode("utf-8", "surrogateescape"))
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, 0)
    return fd


def clean(box: str) -> bool:
    """Empty the writable folder between jobs; False where something resists (then this zygote is given up)."""
    import shutil

    try:
        for entry in os.scandir(box):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
    except (OSError, RecursionError):
        return False
    return True


def identity() -> dict[str, Any]:
    """What only the zygote can see of its namespaces (a job has no /proc and no socket): the canary reads it."""
    try:
        interfaces = [name for _, name in import_module("_socket").if_nameindex()]
    except OSError:
        interfaces = []
    return {"pid": os.getpid(), "uid": os.getuid(), "box": os.getcwd(), "interfaces": interfaces}


def preload() -> None:
    """Import for all jobs, without the hooks that some modules run after every fork: a job seeds its own random numbers and has one thread."""
    register, os.register_at_fork = os.register_at_fork, lambda **hooks: None
    try:
        for name in PRELOADED:
            import_module(name)
    finally:
        os.register_at_fork = register


def main() -> None:
    settings = json.loads(sys.argv[1])
    preload()
    sys.modules["_thread"].stack_size(16 << 20)
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
    sys.modules["random"].seed(0)
    gc.collect()
    gc.freeze()
    zygote = Zygote(settings)
    zygote.send(json.dumps(identity() | {"landlock": abi}).encode())
    zygote.serve()


if __name__ == "__main__":
    main()
