"""When has a job had its time? CPU time decides, so that a busy host makes no program slow; the clock stops those that sleep.

Pure arithmetic on two readings, the clock and the job's CPU time; standard library only, for it is loaded beside the zygote too.
"""

from __future__ import annotations

IDLE = 3.0  # times its CPU limit that a job may spend doing nothing
CLOCK = 12.0  # times its CPU limit that may pass on the clock while the host gives it little
GRACE = 0.5  # seconds on top of both
PROGRESS = 0.01  # a smaller share of one CPU than this is doing nothing; a starved process gets more
LOOK = 0.5  # seconds between looks at a job that is past its limit on the clock


class Deadline:
    """`limit`: CPU seconds per record, `total`: of the whole job. Readings never run backwards."""

    def __init__(self, limit: float, total: float, now: float) -> None:
        self.limit, self.total = limit, total
        self.start = self.mark = self.looked = now
        self.used = self.seen = self.idle = 0.0
        self.check = now + limit  # nothing can be late before

    def record(self, now: float, spent: float) -> float:
        """A record arrived: the next one gets a fresh limit. Returns the CPU seconds that this one took."""
        took = spent - self.used
        self.mark = self.looked = now
        self.used = self.seen = spent
        self.idle = 0.0
        self.check = now + min(self.limit, max(0.0, self.total - spent))
        return took

    def late(self, now: float, spent: float) -> bool:
        """Whether the job has had its time; if not, `check` says when to ask again."""
        if spent - self.seen < PROGRESS * (now - self.looked):
            self.idle += now - self.looked
        self.looked, self.seen = now, spent
        left = min(self.limit - (spent - self.used), self.total - spent)
        asleep = self.idle >= IDLE * min(self.limit, self.total) + GRACE
        if left <= 0 or asleep or now - self.mark >= CLOCK * self.limit + GRACE or now - self.start >= CLOCK * self.total + GRACE:
            return True
        self.check = now + min(max(0.005, left), LOOK)
        return False


def longest(total: float) -> float:
    """Seconds on the clock after which a job of this total is over in any case."""
    return CLOCK * total + GRACE + LOOK
