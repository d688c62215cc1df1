"""Keeps one zygote's jobs: has them forked, keeps their deadlines, collects what they emit, leaves nothing of them, and answers the supervisor.

A process beside its zygote, so that the zygote itself does next to nothing: every page that a zygote writes between two forks has to be copied, and
what this file does for one job would touch hundreds. Speaks `frames` with the supervisor over the socket `control`. Trusted, but it reads bytes that
a hostile job wrote, so it looks at nothing but their lengths. It ends when the control socket closes.
Deadlines count CPU time, see `deadline`.
"""

from __future__ import annotations

import _socket
import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import frames
from deadline import Deadline

if TYPE_CHECKING:
    from zygote import Line

BRIEF = 5.0  # milliseconds in which a job may come to its end without the keeper looking at what it emits
SIOCOUTQ = 0x5411


class Job:
    """One running job: its processes, its pipes and what came out of them."""

    def __init__(self, expected: int, output: int) -> None:
        self.expected, self.output = expected, output
        self.pids: list[int] = []
        self.handles: list[int] = []  # of the processes that are being watched: a number may be somebody else's by the time it is used
        self.records: list[bytes] = []
        self.buffer, self.stdout = bytearray(), bytearray()
        self.times: list[float] = []
        self.reading: dict[int, str] = {}
        self.status = ""

    def take(self, data: bytes) -> bool:
        """Bytes of the record pipe; True when a record was completed."""
        buffer = self.buffer
        buffer += data
        found = False
        while len(buffer) >= 4:
            length = int.from_bytes(buffer[:4], "big")
            if length > self.output:
                self.status = "output"
                return found
            if len(buffer) < 4 + length:
                break
            self.records.append(bytes(buffer[4 : 4 + length]))
            del buffer[: 4 + length]
            found = True
            if len(self.records) >= self.expected:
                return True
        return found

    def cpu(self) -> float:
        total = 0.0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                total += time.clock_gettime((~pid << 3) | 2)  # the CPU clock of that process
        return total

    def done(self) -> bool:
        return bool(self.status) or len(self.records) >= self.expected


class Keeper:
    """`line` leads to the zygote, whose processes wait there in turn; their numbers come at once and how each ended when it has."""

    def __init__(self, control: int, line: Line, box: str) -> None:
        self.control, self.line, self.box = control, line, box
        self.inbox = bytearray()
        self.turn = 0
        self.quiet = select.poll()
        self.quiet.register(line.ended, select.POLLIN)
        self.quiet.register(control, select.POLLRDHUP)

    def serve(self) -> None:
        while (frame := self.receive()) is not None:
            self.send(self.judge(*frames.read_request(frame)))
            if self.box and not clean(self.box):
                return

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.control, rest) :]

    def receive(self) -> bytes | None:
        while (frame := frames.unframed(self.inbox)) is None:
            try:
                data = os.read(self.control, 1 << 16)
            except ConnectionError:
                return None
            if not data:
                return None
            self.inbox += data
        return frame

    def judge(self, kind: str, expected: int, limit: float, total: float, output: int, body: bytes, stdin: bytes) -> bytes:
        job = Job(expected, output)
        began = time.monotonic()
        processes = self.start(job, kind, body, stdin)
        if kind == "judge" or not self.brief(min(BRIEF, limit * 1000)):
            self.watch(job, processes, Deadline(limit, total, began))
        signalled, cpu = self.end(job, processes)
        return frames.answer(job.status or "ended", signalled, cpu, time.monotonic() - began, job.records, job.times, bytes(job.stdout))

    def start(self, job: Job, kind: str, body: bytes, stdin: bytes) -> int:
        """Gives the job's processes what each of them needs; how many they are."""
        if self.quiet.poll(0):
            os._exit(1)  # one that stood ready has died (or the supervisor has): its end would be taken for that of this job
        records_out, records_in = os.pipe()
        job.reading[records_out] = "records"
        if kind == "judge":
            asked, ask = os.pipe()
            answered, answer = os.pipe()
            needs = [("serve", [answer, asked]), (kind, [records_in, answered, ask])]
        elif kind == "stdin":
            stdout_out, stdout_in = os.pipe()
            job.reading[stdout_out] = "stdout"
            needs = [(kind, [records_in, standard_input(stdin), stdout_in])]
        else:
            needs = [(kind, [records_in])]
        for name, given in needs:
            text = frames.to_job(name, body)
            passed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in given)
            role = self.line.ready[self.turn]
            self.turn = (self.turn + 1) % len(self.line.ready)
            sent = role.sendmsg([text], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)])
            if sent < len(text):
                role.sendall(memoryview(text)[sent:])
            for fd in given:
                os.close(fd)
        return len(needs)

    def brief(self, milliseconds: float) -> bool:
        """Whether the job ends at once, as most do: nobody is woken for what it emits until it has."""
        for fd, _ in self.quiet.poll(milliseconds):
            if fd == self.control:
                os._exit(0)
            return True
        return False

    def watch(self, job: Job, processes: int, deadline: Deadline) -> None:
        """Until the job has emitted everything, ended, or passed a limit."""
        self.know(job, processes)
        for pid in job.pids:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                job.handles.append(os.pidfd_open(pid))
        poll = select.poll()
        for fd in job.reading:
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        poll.register(self.control, select.POLLRDHUP)
        while not job.done() and "records" in job.reading.values():
            now = time.monotonic()
            if now >= deadline.check and deadline.late(now, job.cpu()):
                job.status = "timeout"
                return
            for fd, _ in poll.poll(max(0.0, deadline.check - now) * 1000 + 1):
                if fd == self.control:
                    self.kill(job)
                    os._exit(0)
                if self.read(job, fd) and not job.done():
                    job.times.append(deadline.record(time.monotonic(), job.cpu()))
                if fd not in job.reading:
                    poll.unregister(fd)

    def end(self, job: Job, processes: int) -> tuple[int, float]:
        """Nothing of the job is left and all that it emitted is here; (the signal that ended it, its CPU seconds)."""
        self.kill(job)
        for handle in job.handles:
            os.close(handle)
        self.know(job, processes)
        signalled, cpu = 0, 0.0
        for status, spent in frames.END.iter_unpack(self.exactly(self.line.ended, frames.END.size * processes)):
            code = os.waitstatus_to_exitcode(status)
            if code < 0 and code != -signal.SIGKILL:
                signalled = -code
            cpu += spent
        job.times.append(max(0.0, cpu - sum(job.times)))
        for fd, kind in list(job.reading.items()):
            while fd in job.reading and (not job.done() if kind == "records" else not job.status) and self.read(job, fd) is not None:
                pass
            if fd in job.reading:
                os.close(fd)
        if not job.records and not job.status and any(map(unread, self.line.ready)):
            os._exit(1)  # it died before it had its job: another process would take that for its own
        return signalled, cpu

    def know(self, job: Job, processes: int) -> None:
        if not job.pids:
            job.pids = [pid for (pid,) in frames.PID.iter_unpack(self.exactly(self.line.started, frames.PID.size * processes))]

    def kill(self, job: Job) -> None:
        for handle in job.handles:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)

    def exactly(self, fd: int, count: int) -> bytes:
        parts = b""
        while len(parts) < count:
            got = os.read(fd, count - len(parts))
            if not got:
                os._exit(1)  # the zygote is gone
            parts += got
        return parts

    def read(self, job: Job, fd: int) -> bool | None:
        """Take what one pipe holds and close it at its end; for records: True when one was completed. None: it holds nothing now."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return None
        if not data:
            os.close(fd)
            del job.reading[fd]
            return False
        if job.reading[fd] == "records":
            return job.take(data)
        job.stdout += data
        if len(job.stdout) > job.output:
            job.status = "output"
        return False


def unread(role: _socket.socket) -> bool:
    """Whether something that was sent has not been taken."""
    import fcntl

    return fcntl.ioctl(role.fileno(), SIOCOUTQ, bytes(4)) != bytes(4)


def standard_input(data: bytes) -> int:
    """A file descriptor that reads as `data`, a real one: programs read it by number too."""
    fd, rest = os.memfd_create("stdin"), memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.lseek(fd, 0, 0)
    return fd


def clean(box: str) -> bool:
    """Empty the writable folder between jobs; False where something resists (then this zygote is given up)."""
    try:
        for entry in os.scandir(box):
            if entry.is_dir(follow_symlinks=False):
                import shutil

                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
    except (OSError, RecursionError):
        return False
    return True


def identity() -> dict[str, Any]:
    """What only the keeper can see of its namespaces (a job has no /proc and no socket): the canary reads it."""
    try:
        interfaces = [name for _, name in _socket.if_nameindex()]
    except OSError:
        interfaces = []
    return {"pid": os.getpid(), "uid": os.getuid(), "box": os.getcwd(), "interfaces": interfaces}


def keep(settings: dict[str, Any], line: Line, abi: int) -> None:
    """Says that the zygote is ready, then serves until the supervisor has no more to ask."""
    keeper = Keeper(settings["control"], line, settings["box"])
    keeper.send(frames.framed(json.dumps(identity() | {"landlock": abi}).encode()))
    keeper.serve()
