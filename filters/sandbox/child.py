"""What runs a model's program: the ONLY file of this project that executes foreign code, and it does so only inside a job.

A job is a process forked from a zygote (`zygote.py`), confined by `lock` before the first foreign instruction. It emits records, one JSON text each,
behind a 4-byte length, on a private pipe: `["loaded"]`, then one per test, `["v", value]` (see `wire`) or `["x", type, message]`, or for a script
`["pass"]`. Records are claims about outputs; what is right is decided elsewhere, by somebody who never shares a process with the program.
Nothing in process imports this file (a test keeps it so).
"""

# No future statement here: it would hold for the programs too, which are run from their text (`compile` would set up its tree types in each job).
import builtins
import io
import json
import os
import sys
import types
from collections.abc import Callable
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]
from typing import Any

import wire

Emit = Callable[[Any], None]
Lock = Callable[[dict[str, Any]], None]  # confines this process for the given request
MODULE = types.ModuleType
SAMPLE = {  # what the zygote runs before it forks
    "code": "from typing import List\nimport math\ndef f(x: List[int]) -> List[int]:\n    return [i * 2 for i in x if i != 3]\n",
    "setup": "",
    "entry": "f",
    "calls": ("candidate([1, 2, 3])", "(f([2]), {'a': 'b'}, 1.5, True, None)", "f(None)"),
}


def emitter(fd: int) -> Emit:
    write, size, join = os.write, int.to_bytes, "".join
    parts = c_make_encoder(None, str, encode_basestring_ascii, None, ":", ",", False, False, True)  # json.dumps makes one for every record

    def emit(record: Any) -> None:
        body = join(parts(record, 0)).encode("ascii")
        data = size(len(body), 4, "big") + body
        while len(data) > (written := write(fd, data)):
            data = data[written:]

    return emit


def receiver(fd: int) -> Callable[[], Any]:
    """Reads such records; None at the end of the stream."""
    read, loads = os.read, json.loads

    def exactly(count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            got = read(fd, min(count - len(parts), 1 << 16))
            if not got:
                raise EOFError
            parts += got
        return bytes(parts)

    def receive() -> Any:
        try:
            return loads(exactly(int.from_bytes(exactly(4), "big")))
        except EOFError:
            return None

    return receive


def failure(error: BaseException) -> list[str]:
    try:
        return ["x", type(error).__name__[:80], str(error)[:300]]
    except BaseException:  # noqa: BLE001 - an exception that cannot even be printed
        return ["x", "Exception", "unprintable"]


def module(name: str) -> dict[str, Any]:
    """A fresh namespace that is also importable under its name, as dataclasses and pickling in the program expect."""
    made = MODULE(name)
    sys.modules[name] = made
    return made.__dict__


def run_calls(job: dict[str, Any], emit: Emit, lock: Lock) -> None:
    """Program, then setup, then every call in the program's own namespace; the value of each is emitted."""
    space = module("solution")
    encode = wire.encode
    if not load(job, space, emit, lock):
        return
    for call in job["calls"]:
        try:
            record = ["v", encode(eval(call, space))]
        except BaseException as error:  # noqa: BLE001 - also SystemExit and KeyboardInterrupt are only a failed test
            record = failure(error)
        emit(record)


def load(job: dict[str, Any], space: dict[str, Any], emit: Emit, lock: Lock) -> bool:
    """Confine this process, run the program's top level and say how that went."""
    lock(job)
    try:
        exec(job["code"], space)
        if job["setup"]:
            exec(job["setup"], space)
        if job["entry"] and "candidate" not in space and job["entry"] in space:
            space["candidate"] = space[job["entry"]]
    except BaseException as error:  # noqa: BLE001
        emit(failure(error))
        return False
    emit(["loaded"])
    return True


def run_stdin(job: dict[str, Any], emit: Emit, lock: Lock) -> None:
    """The program as __main__ with the given standard input; what it printed is read from its standard output."""
    space = module("__main__")
    space["__builtins__"] = builtins
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8", errors="replace")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="utf-8", errors="backslashreplace")
    sys.argv = ["solution.py"]
    lock(job)
    record: Any = ["done"]
    try:
        exec(job["code"], space)
    except SystemExit as stop:
        if stop.code not in (None, 0):
            record = ["x", "SystemExit", str(stop.code)[:300]]
    except BaseException as raised:  # noqa: BLE001
        record = failure(raised)
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        sys.stdout.flush()
    except BaseException as raised:  # noqa: BLE001
        record = failure(raised)
    emit(record)


def run_beside(job: dict[str, Any], emit: Emit, lock: Lock) -> None:
    """A test script in the program's own process. Its verdict is weaker: the program could reach the judge."""
    space = module("solution")
    if not load(job, space, emit, lock):
        return
    try:
        exec(job["script"], space)
        record = ["pass"]
    except BaseException as raised:  # noqa: BLE001
        record = failure(raised)
    emit(record)


# --- a script judged in a process of its own: the program answers calls over a pipe ---------------------------------------------------------


def serve_calls(job: dict[str, Any], emit: Emit, receive: Callable[[], Any], lock: Lock) -> None:
    """The program's side. Answers `[name, args, kwargs]` with `["v", value, args after the call]` or `["x", type, message]`."""
    space = module("solution")
    if not load(job, space, emit, lock):
        return
    encode, decode = wire.encode, wire.decode
    kept: list[Any] = []  # objects that have no plain form stay here; the script holds their number
    while (request := receive()) is not None:
        try:
            arguments = [kept[a[1]] if isinstance(a, list) and a[0] == "h" else decode(a) for a in request[1]]
            keywords = {k: kept[a[1]] if isinstance(a, list) and a[0] == "h" else decode(a) for k, a in request[2].items()}
            value = space[request[0]](*arguments, **keywords)
            sent = encode(value)
            if isinstance(sent, list) and sent[0] == "o":
                kept.append(value)
                sent = ["h", len(kept) - 1]
            record = ["v", sent, [encode(a) for a in arguments]]
        except BaseException as error:  # noqa: BLE001
            record = failure(error)
        emit(record)


class Handle(wire.Opaque):
    """An object of the program that the script holds: it can be handed back to the program, and equals nothing."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__("object of the program")
        self.number = number


def run_judge(job: dict[str, Any], emit: Emit, answer: Callable[[], Any], ask: Emit, lock: Lock) -> None:
    """The script's side: names of the program are stand-ins that call it over the pipe; values that come back are plain."""
    space = module("test")
    for name in job["names"]:
        space[name] = stand_in(name, answer, ask)
    if job["entry"]:
        space.setdefault("candidate", space.get(job["entry"]) or stand_in(job["entry"], answer, ask))
    lock(job)
    first = answer()
    if first != ["loaded"]:
        emit(first if isinstance(first, list) else ["x", "Exception", "the program ended while it was loaded"])
        return
    emit(["loaded"])
    try:
        exec(job["script"], space)
        record = ["pass"]
    except BaseException as raised:  # noqa: BLE001
        record = failure(raised)
    emit(record)


def stand_in(name: str, answer: Callable[[], Any], ask: Emit) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        sent = [portable(a) for a in arguments]
        ask([name, sent, {k: portable(a) for k, a in keywords.items()}])
        record = answer()
        if not isinstance(record, list) or not record:
            raise RuntimeError("the program ended")
        if record[0] != "v":
            kind = getattr(builtins, str(record[1]), None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                try:
                    raised = kind(record[2])
                except TypeError:  # UnicodeError takes five arguments
                    raised = RuntimeError(record[2])
                raise raised
            raise RuntimeError(f"{record[1]}: {record[2]}")
        write_back(arguments, sent, record[2])
        return Handle(int(record[1][1])) if isinstance(record[1], list) and record[1][0] == "h" else wire.decode(record[1])

    call.__name__ = name
    return call


def portable(value: Any) -> Any:
    if isinstance(value, Handle):
        return ["h", value.number]
    if isinstance(value, wire.Opaque) or callable(value):
        raise TypeError("only plain values can be handed to the program from a script in another process")
    return wire.encode(value)


def write_back(arguments: tuple[Any, ...], sent: list[Any], returned: Any) -> None:
    """Changes that the program made to its arguments show in the script's own lists, dicts and sets."""
    for old, before, after in zip(arguments, sent, returned):
        if before == after or not isinstance(old, list | dict | set):
            continue
        new = wire.decode(after)
        if type(old) is not type(new):
            continue
        if isinstance(old, list):
            old[:] = new
        else:
            old.clear()
            old.update(new)
