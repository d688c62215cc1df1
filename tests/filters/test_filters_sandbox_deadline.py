"""CPU time decides, whatever the clock says; sleepers end all the same."""

from __future__ import annotations

import pytest

from filters.sandbox.deadline import CLOCK, GRACE, IDLE, Deadline, longest


def stopped_at(limit: float, total: float, share: float, records: tuple[float, ...] = ()) -> tuple[float, float]:
    """(clock, CPU time) when a job is stopped that gets `share` of a CPU and emits records at these CPU times."""
    now, deadline, due = 0.0, Deadline(limit, total, 0.0), list(records)
    for _ in range(100_000):
        now = max(deadline.check, now + 0.001)
        while due and share and due[0] / share <= now:
            at = due.pop(0)
            deadline.record(at / share, at)
        if now >= deadline.check and deadline.late(now, now * share):
            return now, now * share
    raise AssertionError("never")


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_a_busy_job_gets_its_cpu_time_on_any_host(share: float) -> None:
    clock, cpu = stopped_at(2.0, 100.0, share)
    assert cpu == pytest.approx(2.0, abs=0.1) and clock == pytest.approx(2.0 / share, rel=0.1)


def test_a_sleeper_and_a_starved_job_end_on_the_clock() -> None:
    assert stopped_at(1.0, 100.0, 0.0)[0] == pytest.approx(IDLE + GRACE, abs=0.6)
    assert stopped_at(1.0, 100.0, 0.02)[0] == pytest.approx(CLOCK + GRACE, abs=0.6)
    assert stopped_at(5.0, 1.0, 0.02)[0] < longest(1.0) + 5.0


def test_each_record_gets_a_fresh_limit_within_the_total() -> None:
    assert stopped_at(1.0, 100.0, 1.0, (0.9, 1.8, 2.7))[1] == pytest.approx(3.7, abs=0.05)
    assert stopped_at(1.0, 3.0, 1.0, tuple(0.9 * k for k in range(1, 50)))[1] == pytest.approx(3.0, abs=0.05)
    assert Deadline(1.0, 9.0, 0.0).record(5.0, 0.4) == pytest.approx(0.4)
