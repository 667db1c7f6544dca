"""Rate limits per address, and counts of its work in progress."""

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Generator
from contextlib import contextmanager

REMEMBERED = 10_000  # addresses; a new one more forgets the one that was silent longest


class RateLimit:
    """A token bucket per address: `per_minute` requests at once, and as many again in the following minute.

    Args:
        per_minute: None is no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        self.per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # (tokens left, when), by time
        self._lock = threading.Lock()

    def seconds_to_wait(self, address: str, cost: float = 1.0) -> int:
        """0 if the request is allowed, which is then counted with its cost; otherwise the seconds to wait."""
        if self.per_minute is None:
            return 0
        a_second = self.per_minute / 60
        now = time.monotonic()
        with self._lock:
            left, then = self._buckets.pop(address, (float(self.per_minute), now))
            left = min(left + (now - then) * a_second, float(self.per_minute))
            allowed = left >= cost
            self._buckets[address] = (left - cost * allowed, now)
            while len(self._buckets) > REMEMBERED:
                self._buckets.popitem(last=False)
        return 0 if allowed else math.ceil((cost - left) / a_second)


@contextmanager
def held(counter: Counter[str], address: str, amount: int = 1) -> Generator[None]:
    """Add an amount to an address's count within the block; addresses without any are forgotten."""
    counter[address] += amount
    try:
        yield
    finally:
        counter[address] -= amount
        if not counter[address]:
            del counter[address]
