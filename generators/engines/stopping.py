"""Stop strings on decoded text: a row ends with the token that completes one; the text is cut before it, the tokens stay as sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Decode = Callable[[Sequence[int]], str]


def cut_at_stop(text: str, stops: Iterable[str]) -> str | None:
    """`text` before the earliest stop string, None where there is none."""
    found = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(found)] if found else None


class StopStrings:
    """Finds completed stop strings while decoding, without decoding every row at every step.

    A token can complete a stop string only if its own text holds one of their last characters (or is no whole
    character by itself); only then are the row's last tokens decoded.
    """

    def __init__(self, stops: Iterable[str], pieces: Sequence[str], special: Iterable[int], decode: Decode) -> None:
        self.stops = tuple(s for s in stops if s)
        self.decode = decode
        self.special = frozenset(special)
        last = {s[-1] for s in self.stops}
        unclear = ("", "\ufffd")  # part of a character, or a piece whose text depends on its neighbours
        self.completes: NDArray[np.bool_] = np.array(
            [i not in self.special and (p == "" or unclear[1] in p or not last.isdisjoint(p)) for i, p in enumerate(pieces)], dtype=bool)
        # A plain token carries at least one byte, so a string of n bytes ends within the last n tokens; 4 more for a cut character.
        self.window = max((len(s.encode("utf-8", "surrogatepass")) for s in self.stops), default=0) + 4

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether the sampled tokens so far contain a stop string that reaches into their last token's neighbourhood."""
        if not self.stops or not self.completes[tokens[-1]]:
            return False
        tail = [t for t in tokens[-4 * self.window :] if t not in self.special][-self.window :]
        return cut_at_stop(self.decode(tail), self.stops) is not None
