"""What goes between a sandbox's supervisor and the keeper of a zygote: one frame per job there, one per result back, each behind its length.

A request is a head of numbers that the keeper reads, a body that only the job's process opens (JSON) and the
standard input. An answer is a head of numbers and the raw records. Stands alone (standard library only): it is
loaded in the zygote too.
"""

from __future__ import annotations

import json
import struct
from typing import Any

KINDS = ("calls", "stdin", "beside", "judge")
ROLES = (*KINDS, "serve")  # of a job's processes: a script and the program that it calls are two
STATUSES = ("ended", "timeout", "output")

PID = struct.Struct("!I")  # what a zygote says of a process that it forked
END = struct.Struct("!Id")  # and when it has ended: status, CPU seconds

_LENGTH = struct.Struct("!I")
_REQUEST = struct.Struct("!BIddQI")  # kind, records expected, CPU seconds per record, CPU seconds, bytes of output, length of the body
_ANSWER = struct.Struct("!BBddIII")  # status, signal, CPU seconds, seconds, counts of records and times, length of standard output


def request(kind: str, body: dict[str, Any], *, expected: int, limit: float, total: float, output: int, stdin: str = "") -> bytes:
    packed, given = json.dumps(body, separators=(",", ":")).encode("ascii"), stdin.encode("utf-8", "surrogatepass") if stdin else b""
    head = _REQUEST.pack(KINDS.index(kind), expected, limit, total, output, len(packed))
    return b"".join((_LENGTH.pack(len(head) + len(packed) + len(given)), head, packed, given))


def read_request(frame: bytes) -> tuple[str, int, float, float, int, bytes, bytes]:
    """(kind, expected, limit, total, output, body, stdin)."""
    kind, expected, limit, total, output, size = _REQUEST.unpack_from(frame)
    middle = _REQUEST.size + size
    return KINDS[kind], expected, limit, total, output, frame[_REQUEST.size : middle], frame[middle:]


def to_job(role: str, body: bytes) -> bytes:
    """A request as a process of the job reads it: one line, the role's digit before the body (JSON writes no line break)."""
    return b"%d%b\n" % (ROLES.index(role), body)


def answer(status: str, signal: int, cpu: float, wall: float, records: list[bytes], times: list[float], stdout: bytes) -> bytes:
    head = _ANSWER.pack(STATUSES.index(status), signal, cpu, wall, len(records), len(times), len(stdout))
    numbers = struct.pack(f"!{len(records)}I{len(times)}d", *map(len, records), *times)
    return framed(b"".join((head, numbers, *records, stdout)))


def read_answer(frame: bytes) -> tuple[str, int, float, float, tuple[bytes, ...], tuple[float, ...], bytes]:
    """(status, signal, cpu, wall, records, times, stdout). Raises ValueError or struct.error for anything that `answer` does not write."""
    status, signal, cpu, wall, count, timed, printed = _ANSWER.unpack_from(frame)
    if status >= len(STATUSES):
        raise ValueError("an answer of no known status")
    numbers = struct.unpack_from(f"!{count}I{timed}d", frame, _ANSWER.size)
    records, at = [], _ANSWER.size + 4 * count + 8 * timed
    for size in numbers[:count]:
        records.append(frame[at : at + size])
        at += size
    if at + printed != len(frame):
        raise ValueError("an answer of another length than it says")
    return STATUSES[status], signal, cpu, wall, tuple(records), numbers[count:], frame[at:]


def framed(text: bytes) -> bytes:
    return _LENGTH.pack(len(text)) + text


def unframed(buffer: bytearray) -> bytes | None:
    """The first whole frame, taken out of `buffer`."""
    if len(buffer) < 4:
        return None
    end = 4 + _LENGTH.unpack_from(buffer)[0]
    if len(buffer) < end:
        return None
    frame = bytes(memoryview(buffer)[4:end])
    del buffer[:end]
    return frame
