"""How many requests to keep in flight: found by asking, not guessed."""

from __future__ import annotations

_GAIN = 1 / 4  # of the running share of marked answers
_CALM = 0.01  # a share of marks below this is noise, and does not end the doubling
_BASE_TOKENS = 32  # of latency: what reading the prompt costs, in sampled tokens


class Congestion:
    """Additive increase, multiplicative decrease by the *share* of answers that say "too much": refusals (429, 503) and slow ones.

    A window is as many answers as may be in flight. After each, the limit falls by share/2 of itself if any answer was marked and else rises:
    doubling until the first cut, by `step` after it. One refusal in fifty costs one percent, not half the speed, which is what loss-halving
    TCP would pay under an endpoint that refuses at random; an endpoint that refuses everything above c requests settles near c.
    Source: Alizadeh et al., "Data Center TCP (DCTCP)", SIGCOMM 2010, eq. 1-2; there switches mark packets, here latency and refusals do.

    An answer is slow at more than `slow` times the usual seconds per token (0 = latency is not looked at). The usual follows a quicker
    endpoint at once and a slower one within some windows: what is slow for good is the new usual.
    """

    def __init__(self, most: int, *, start: int = 0, slow: float = 4.0) -> None:
        self.most = most
        self.limit = float(min(most, start or most))
        self.step = max(1.0, most / 32)
        self.slow = slow
        self.share = 0.0  # running share of marked answers
        self._usual = 0.0
        self._doubling = True
        self._begun = 0.0  # answers to what was sent before tell of the limit before
        self._open()

    def _open(self) -> None:
        self._answers = 0
        self._marks = 0
        self._paces: list[float] = []

    def answered(self, sent_at: float, now: float, tokens: int = 0) -> None:
        """An answer of `tokens` sampled tokens (0 = unknown) arrived."""
        pace = (now - sent_at) / (tokens + _BASE_TOKENS)
        self._paces.append(pace)
        self._count(sent_at, now, bool(self.slow and self._usual and pace > self.slow * self._usual))

    def refused(self, sent_at: float, now: float) -> None:
        """The endpoint said that it has too much to do."""
        self._count(sent_at, now, True)

    def _count(self, sent_at: float, now: float, marked: bool) -> None:
        if sent_at < self._begun:
            return
        self._answers += 1
        self._marks += marked
        if self._answers >= self.limit:
            self._close(now)

    def _close(self, now: float) -> None:
        share = self._marks / self._answers
        self.share += _GAIN * (share - self.share)
        if share > _CALM:
            # The share of this window where it is the larger: a storm is answered at once, not after the average has learned of it.
            self.limit = max(1.0, self.limit * (1 - max(self.share, share if share > 0.25 else 0.0) / 2))
            self._doubling = False
            self._begun = now
        else:
            self.limit = min(self.most, self.limit * 2 if self._doubling else self.limit + self.step)
        if self._paces:
            pace = sorted(self._paces)[len(self._paces) // 2]
            self._usual += (pace - self._usual) * (1.0 if not self._usual or pace < self._usual else 0.1)
        self._open()
