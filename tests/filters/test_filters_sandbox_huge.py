"""Moving the interpreter's code to huge pages changes nothing but where it lies."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2] / "filters" / "sandbox"
SCRIPT = """
import ctypes, hashlib, json, sys
sys.path.insert(0, sys.argv[1])
import huge

def maps():
    rows = [line.split() for line in open("/proc/self/maps")]
    return [(*[int(end, 16) for end in row[0].split("-")], row[1], row[5] if len(row) > 5 else "") for row in rows]

def content(spans):
    return [hashlib.blake2b(ctypes.string_at(start, end - start)).hexdigest() for start, end in spans]

spans = huge.read_only_stretches()
before, text = maps(), content(spans)
exchanged = huge.put_code_on_huge_pages()
after = maps()
print(json.dumps({
    "spans": spans, "before": before, "after": after, "same": content(spans) == text, "exchanged": exchanged,
    "aligned": list(huge.aligned(spans)), "sorted": sorted(json.loads("[3, 1, 2]")), "huge": huge.HUGE,
}))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, object]:
    if platform.system() != "Linux":
        pytest.skip("needs /proc")
    done = subprocess.run([sys.executable, "-I", "-c", SCRIPT, str(HERE)], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_the_code_is_the_same_and_goes_on_running(told: dict[str, object]) -> None:
    assert told["same"] and told["sorted"] == [1, 2, 3]
    assert told["exchanged"] in (0, len(told["aligned"]))  # type: ignore[arg-type]  # none where the host has no such pages


def test_only_what_is_mapped_read_only_is_taken(told: dict[str, object]) -> None:
    """Against the kernel's own list: every page of a stretch belongs to a mapping of a file that nobody may write."""
    for start, end in told["spans"]:  # type: ignore[attr-defined]
        inside = [m for m in told["before"] if m[0] < end and m[1] > start]  # type: ignore[attr-defined]
        assert all("w" not in m[2] and m[3] for m in inside)
        assert sum(min(m[1], end) - max(m[0], start) for m in inside) == end - start


def test_code_that_was_moved_can_be_run_and_not_written(told: dict[str, object]) -> None:
    if not told["exchanged"]:
        pytest.skip("no huge pages here")
    for at in told["aligned"]:  # type: ignore[attr-defined]
        (mapping,) = [m for m in told["after"] if m[0] <= at < m[1]]  # type: ignore[attr-defined]
        assert mapping[2] == "r-xp" and mapping[3] == "" and mapping[1] >= at + told["huge"]
    names = {m[3] for m in told["before"]} - {""}  # type: ignore[attr-defined]
    spare = [m for m in told["after"] if not m[3] and m[2] == "rw-p" and m[1] - m[0] >= told["huge"]]  # type: ignore[attr-defined]
    assert names and len(spare) <= len([m for m in told["before"] if not m[3] and m[2] == "rw-p" and m[1] - m[0] >= told["huge"]])  # type: ignore[attr-defined]
