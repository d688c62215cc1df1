"""The pool keeps order, feeds lazily, replaces what dies and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.errors import SynthError, UserError
from filters.sandbox import levels, seccomp
from filters.sandbox.checks import read_checks
from filters.sandbox.jobs import Job, Limits, standard_imports
from filters.sandbox.matrix import run_matrix, stream_matrix
from filters.sandbox.pool import WINDOW, Sandbox
from filters.sandbox.supervisor import Layers

pytestmark = pytest.mark.skipif(levels.best().level == "L0", reason="this host has no sandbox at all")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(levels.best().layers, levels.best().level, workers=2) as made:
        yield made


def value(result: object) -> object:
    return json.loads(result.records[1])[1]  # type: ignore[attr-defined]


def slow(i: int) -> Job:
    """Takes longer the earlier it comes, so that results arrive out of order."""
    return Job("calls", f"sum(range({(40 - i) * 4000}))\ndef f():\n    return {i}", calls=("f()",))


def test_results_come_in_the_order_of_the_jobs(sandbox: Sandbox) -> None:
    assert [value(r) for r in sandbox.run(slow(i) for i in range(40))] == list(range(40))


def test_jobs_are_taken_only_as_fast_as_they_finish(sandbox: Sandbox) -> None:
    taken = 0

    def endless() -> Iterator[Job]:
        nonlocal taken
        while True:
            taken += 1
            yield Job("calls", "", calls=("1",))

    stream = sandbox.stream(endless())
    assert [value(next(stream)) for _ in range(20)] == [1] * 20
    assert taken <= 20 + WINDOW + 8
    stream.close()  # type: ignore[attr-defined]  # and nothing goes on running for it
    assert all(not z.waiting for z in sandbox._zygotes)
    assert value(sandbox.run([Job("calls", "", calls=("2",))])[0]) == 2


def test_a_killed_zygote_is_replaced_and_its_jobs_run_again(sandbox: Sandbox) -> None:
    results = []
    for i, result in enumerate(sandbox.stream(slow(i) for i in range(40))):
        if i in (3, 20):
            os.kill(sandbox._zygotes[i % 2].process.pid, signal.SIGKILL)
        results.append(result)
    assert [value(r) for r in results] == list(range(40))


def test_a_process_that_dies_while_it_stands_ready_is_not_taken_for_the_next_job() -> None:
    """Its end would be taken for that of the next job, which then had no deadline."""

    def below(pid: int) -> list[int]:
        children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return [*children, *(grandchild for child in children for grandchild in below(child))]

    hang = Job("calls", "while True: pass", calls=("1",), limits=Limits(0.05, 0.1))
    with Sandbox(levels.best().layers, workers=1) as sandbox:
        for _ in range(2):
            results = sandbox.run([hang, *(Job("calls", f"def f():\n    return {i}", calls=("f()",)) for i in range(4))])
            assert results[0].status == "timeout" and results[0].wall < 10
            assert [value(r) for r in results[1:]] == list(range(4))
            first = sandbox._zygotes[0]
            for pid in sorted(below(first.process.pid))[-2:]:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        sandbox.run([hang])
        assert sandbox._zygotes[0] is not first


def test_a_job_that_kills_its_zygote_twice_is_lost_and_said_to_be() -> None:
    """Nothing is known about such a program: neither pass nor fail."""
    with Sandbox(levels.best().layers, workers=1) as sandbox:
        killers = []

        def jobs() -> Iterator[Job]:
            yield Job("calls", "", calls=("0",))
            yield Job("calls", "while True: pass", calls=("1",), limits=Limits(20, 20))

        def kill_twice() -> None:
            for _ in range(2):
                zygote = sandbox._zygotes[0]
                while not zygote.ready or not zygote.waiting:
                    pass
                os.kill(zygote.process.pid, signal.SIGKILL)
                while sandbox._zygotes[0] is zygote:
                    pass
                killers.append(zygote.process.pid)

        stream = sandbox.stream(jobs())
        assert value(next(stream)) == 0
        thread = threading.Thread(target=kill_twice)
        thread.start()
        assert next(stream).status == "broken"
        thread.join()
    assert len(set(killers)) == 2


def test_nothing_grows_over_many_jobs(sandbox: Sandbox) -> None:
    kinds = [
        Job("calls", "import os\nopen('left', 'w').write('x') if os.getcwd() != '/' else 0", calls=("1",) * 3),
        Job("stdin", "print(input())", stdin="x\n"),
        Job("judge", "def f(x):\n    return x", script="assert f([1]) == [1]", names=("f",)),
        Job("calls", "import os\nos._exit(1)", calls=("1",)),
        Job("calls", "while True: pass", calls=("1",), limits=Limits(0.01, 0.05)),
    ]

    def held() -> tuple[int, list[int]]:
        pids = [z.process.pid for z in sandbox._zygotes]
        pids += [int(c) for p in pids for c in Path(f"/proc/{p}/task/{p}/children").read_text().split()]
        return len(pids), [len(os.listdir(f"/proc/{p}/fd")) for p in (os.getpid(), *pids)]

    sandbox.run(kinds * 4)
    before = held()
    results = sandbox.run(kinds * 40)
    assert held() == before
    assert [r.status for r in results[:5]] == ["ended", "ended", "ended", "ended", "timeout"]


def test_a_worker_per_core_stays_on_its_core_and_fewer_go_where_they_like() -> None:
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("one core")
    where = Job("calls", "import os", calls=("sorted(os.sched_getaffinity(0))",))
    with Sandbox(levels.best().layers, workers=len(cores)) as full, Sandbox(levels.best().layers, workers=1) as single:
        seen = {tuple(value(r)[1:]) for r in full.run([where] * 8 * len(cores))}  # type: ignore[index]
        assert seen <= {(core,) for core in cores} and len(full._zygotes) == len(cores)
        assert [os.sched_getaffinity(z.process.pid) for z in full._zygotes] == [{core} for core in sorted(cores)]
        assert value(single.run([where])[0])[1:] == sorted(cores)  # type: ignore[index]


def test_a_sandbox_belongs_to_its_process(sandbox: Sandbox) -> None:
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            sandbox.run([Job("calls", "", calls=("1",))])
        except SynthError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    assert b"forked process" in os.read(read, 1000)
    os.close(read)
    os.waitpid(pid, 0)


def test_equal_programs_give_equal_results_wherever_they_run() -> None:
    """Hashes, random numbers and the environment repeat, across zygotes and sandboxes."""
    code = "import os, random\ndef f():\n    return [hash('x'), random.random(), [*{'a', 'b', 'c', 'd'}], sorted(os.environ.items()), os.getcwd()]"
    seen = set()
    for _ in range(2):
        with Sandbox(levels.best().layers, workers=2) as sandbox:
            seen |= {r.records for r in sandbox.run([Job("calls", code, calls=("f()",))] * 6)}
    assert len(seen) == 1


def test_no_job_of_a_zygote_can_be_told_from_another_by_an_address() -> None:
    """The first ones included: what a program says of its objects would differ with its place in the queue."""
    code = "class A: pass\ndef f():\n    return repr(A()), repr(f), id(object()), repr({A(), A()})"
    with Sandbox(levels.best().layers, workers=1) as sandbox:
        assert len({r.records for r in sandbox.run([Job("calls", code, calls=("f()",))] * 12)}) == 1


def test_a_matrix_has_a_cell_for_every_pair_also_behind_a_hang(sandbox: Sandbox) -> None:
    groups = read_checks([{"call": f"f({n})", "expected": n * n} for n in range(5)])
    programs = [
        "def f(n):\n    return n * n",
        "def f(n):\n    return n * n if n != 2 else 0",
        "def f(n):\n    while n == 1: pass\n    return n * n",
        "import os\ndef f(n):\n    os._exit(0) if n == 3 else 0\n    return 1 // (n - 4) * 0 + n * n",
        "def f(:",
        "def f(n):\n    return n * n",
    ]
    rows = run_matrix(sandbox, programs, groups, limits=Limits(0.1, 1))
    assert [[c.outcome[0] for c in row] for row in rows] == [list(r) for r in ("ppppp", "ppfpp", "ptppp", "pppee", "eeeee", "ppppp")]
    assert [[c.outcome for c in row] for row in stream_matrix(sandbox, programs, groups, limits=Limits(0.1, 1))] == [
        [c.outcome for c in row] for row in rows
    ]


def test_a_matrix_takes_integers_of_any_size(sandbox: Sandbox) -> None:
    from filters.sandbox.checks import Check

    groups = [[Check("call", "f()", "==", 7**9000)], [Check("call", "f()", "==", 7**9000 + 1)]]
    assert [c.outcome for c in run_matrix(sandbox, ["def f():\n    return 7 ** 9000"], groups)[0]] == ["pass", "fail"]


def test_the_level_is_what_the_canary_failed_to_do() -> None:
    for layers in levels.candidates():
        seen = levels.surveyed(layers)
        assert levels.LEVELS.index(seen.level) <= levels.LEVELS.index(levels.meant(layers))
        breaches = [f for f in seen.findings if not f.stopped and f.attempt.level <= seen.level]
        assert breaches == [] and (seen.error or len(seen.findings) > 25)


def test_without_walls_the_canary_gets_through_and_programs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "candidates", lambda level="": [Layers(seccomp=True)])
    monkeypatch.setattr(levels, "_opened", {})
    monkeypatch.setattr(levels, "_minimum", "L3")
    with pytest.raises(SynthError, match=r"gives L1, below the minimum L3 .*synth doctor"):
        levels.open_sandbox()
    with pytest.raises(UserError, match="one of L1, L2, L3"):
        levels.require("L9")
    monkeypatch.setattr(levels, "_minimum", "")
    monkeypatch.setenv("SYNTH_SANDBOX_MINIMUM", "none")
    with pytest.raises(UserError, match="SYNTH_SANDBOX_MINIMUM"):
        levels.minimum()


def test_a_sandbox_that_cannot_start_says_why() -> None:
    with Sandbox(Layers(address_space=1 << 20), "L1", workers=1) as sandbox, pytest.raises(SynthError, match="does not start"):
        sandbox.run([Job("calls", "", calls=("1",))])


def test_imports_are_read_from_the_text() -> None:
    assert standard_imports("import os, sys as s\nfrom a.b import c\nif 1:\n    import xml.dom; import json\n# import re") == (
        "os",
        "sys",
        "xml.dom",
        "json",
    )


def verdict_of(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """A small interpreter of classic BPF as seccomp runs it: the oracle that also knows the other architecture."""
    import struct

    data = struct.pack("iIQ6Q", number, arch, 0, *[a & (1 << 64) - 1 for a in (*arguments, *[0] * (6 - len(arguments)))])
    steps = [struct.unpack_from("HBBI", program, i) for i in range(0, len(program), 8)]
    at, word = 0, 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        if code == 0x20:
            word = int.from_bytes(data[operand : operand + 4], "little")
        elif code == 0x54:
            word &= operand
        elif code in (0x15, 0x35, 0x45):
            at += yes if {0x15: word == operand, 0x35: word >= operand, 0x45: bool(word & operand)}[code] else no
        else:
            assert code == 0x06
            return operand


ALLOWED, EPERM, EACCES, ENOSYS, KILLED = 0x7FFF0000, 0x50001, 0x5000D, 0x50026, 0x80000000


def strictest(programs: list[bytes], arch: int, *call: int) -> int:
    """What the kernel does with a call that several filters see."""
    said = [verdict_of(program, arch, *call) for program in programs]
    return next((v for v in said if v == KILLED), next((v for v in said if v != ALLOWED), ALLOWED))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filters_decide_as_written(machine: str) -> None:
    arch, n = seccomp.TABLES[machine]
    whole = seccomp.zygote_filter(machine)
    both = [whole, seccomp.job_filter(files=True, machine=machine)]
    cases = [
        ((n["read"], 0), ALLOWED), ((n["openat"], -100), ALLOWED), ((n["exit_group"], 0), ALLOWED), ((n["futex"],), ALLOWED),
        ((n["socket"], 40, 1, 0), EACCES), ((n["socketpair"], 1, 1), ALLOWED), ((n["socketpair"], 1, 1 | 0o2000000), ALLOWED),
        ((n["socketpair"], 1, 2), EPERM), ((n["socketpair"], 16, 1), EPERM),
        ((n["clone"], 0x3D0F00), ALLOWED), ((n["clone"], 17), EPERM), ((n["clone"], 0x10000000 | 17), EPERM), ((n["clone3"],), ENOSYS),
        ((n["prctl"], 15), ALLOWED), ((n["prctl"], 38), EPERM), ((n["prctl"], 4), EPERM),
        ((n["ioctl"], 0, 0x5401), ALLOWED), ((n["ioctl"], 0, 0x5412), EPERM),
        ((n["prlimit64"], 0, 7, 0), ALLOWED), ((n["prlimit64"], 1, 7, 0), EPERM), ((n["prlimit64"], 0, 7, 1 << 40), EPERM),
        ((n["prlimit64"], 0, 7, 8), EPERM), ((425, 1), EPERM), ((434,), EPERM), ((5000,), EPERM),
    ]  # fmt: skip
    assert [strictest(both, arch, *call) for call, _ in cases] == [said for _, said in cases]
    assert strictest(both, 0x40000003, n["read"]) == KILLED  # 32-bit numbers mean other calls
    if machine == "x86_64":
        assert strictest(both, arch, 0x40000000 + n["read"]) == KILLED  # x32
    with pytest.raises(UserError, match="no seccomp filter"):
        seccomp.job_filter(files=True, machine="riscv64")


@pytest.mark.parametrize("files", [True, False])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_job_may_call_what_the_table_names_and_nothing_of_its_zygotes(machine: str, files: bool) -> None:
    """Every number there is: the short filter of a job takes all back that the zygote's long one lets through for the zygote."""
    arch, numbers = seccomp.TABLES[machine]
    names = {number: name for name, number in numbers.items()}
    both = [seccomp.zygote_filter(machine), seccomp.job_filter(files=files, machine=machine)]
    for number in range(600):
        name = names.get(number, "")
        if name in seccomp.SPECIAL:
            continue  # by their arguments: above
        allowed = name and (files or name not in seccomp.FILES)
        assert strictest(both, arch, number, 1, 1, 1) == (ALLOWED if allowed else EPERM), (number, name)
    for name, number in seccomp.ZYGOTE[machine].items():
        assert verdict_of(both[0], arch, number) == ALLOWED and name not in numbers
    assert verdict_of(both[0], arch, numbers["clone"], 17) == ALLOWED  # a zygote forks
