"""What the workers of test_filters_pool.py run: work that hangs, dies, breaks or eats memory where an item says so."""

import os
import time
from collections.abc import Callable


def make(sleep: float = 0.0) -> Callable[[list[bytes]], list[bytes]]:
    def work(items: list[bytes]) -> list[bytes]:
        return [answer(item) for item in items]

    def answer(item: bytes) -> bytes:
        time.sleep(sleep)
        if b"hang" in item:
            sum(range(10**13))  # one C call that no signal interrupts
        if b"die" in item:
            os.abort()
        if b"eat" in item:
            try:
                return b"%d" % len(bytearray(64 << 30))
            except MemoryError:
                return b"no memory"
        return item.upper()

    return work


def cannot_start() -> Callable[[list[bytes]], list[bytes]]:
    os._exit(7)
