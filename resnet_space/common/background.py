"""Background threads that survive errors: each error is printed once, and the work is retried."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

MOST_REMEMBERED = 1_000  # printed lines

_told: OrderedDict[str, None] = OrderedDict()


def tell_once(words: str) -> None:
    """Print a line for the operator of the app, unless it was printed before. Never fails, even if nothing can be
    printed.
    """
    if words not in _told:
        with suppress(Exception):
            print(words, flush=True)
            _told[words] = None
            while len(_told) > MOST_REMEMBERED:
                _told.popitem(last=False)


def keep_doing(what: str, work: Callable[[], bool | None], seconds: float) -> None:
    """Repeat some work until it returns True: the target of a thread.

    Any error in it (no memory, no free file handle, anything) is printed when it first occurs, not every time.

    Args:
        what: name of the work, for these lines.
        work: called repeatedly.
        seconds: between two calls.
    """
    trouble: object = None
    while True:
        try:
            if work():
                return
            trouble = None
        except Exception as error:
            kind = type(error), getattr(error, "errno", None)  # the message may name another file each time
            if kind != trouble:
                trouble = kind
                with suppress(Exception):
                    words = " ".join(f"{type(error).__name__}: {error}".split())
                    print(f"{what} failed and will be retried: {words}", flush=True)
        time.sleep(seconds)


def in_background(what: str, work: Callable[[], bool | None], seconds: float) -> None:
    """`keep_doing` in a thread of its own, which ends with the process."""
    threading.Thread(target=keep_doing, args=(what, work, seconds), name=what, daemon=True).start()
