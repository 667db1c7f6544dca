"""How often one address may ask for something, and how much it has under way."""

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

REMEMBERED = 10_000  # addresses; a new one more forgets the one that was silent longest


class RateLimit:
    """A token bucket for every address: so many requests at once, and again as many in the minute after.

    Args:
        per_minute: None is no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        self.per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # (tokens left, when), by time
        self._lock = threading.Lock()

    def seconds_to_wait(self, address: str, cost: float = 1.0) -> int:
        """0 where the request may go on, which is then counted for so many; else when to come again."""
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
def held(counter: Counter[str], address: str, amount: int = 1) -> Iterator[None]:
    """Count so much for an address while it lasts; who has nothing is not remembered."""
    counter[address] += amount
    try:
        yield
    finally:
        counter[address] -= amount
        if not counter[address]:
            del counter[address]
