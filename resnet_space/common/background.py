"""Work in the background: it outlives whatever goes wrong for a while, which is told once, and is tried again."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

MOST_REMEMBERED = 1_000  # of what was told

_told: OrderedDict[str, None] = OrderedDict()


def tell_once(words: str) -> None:
    """Print a line for whoever runs the app, unless it was printed before. Never fails, also where nothing can be
    printed.
    """
    if words not in _told:
        with suppress(Exception):
            print(words, flush=True)
            _told[words] = None
            while len(_told) > MOST_REMEMBERED:
                _told.popitem(last=False)


def keep_doing(what: str, work: Callable[[], bool | None], seconds: float) -> None:
    """Do some work again and again, until it returns True: a thread's work.

    Whatever goes wrong in it (no memory, no file to be opened, anything) is printed when it begins, and not each time.

    Args:
        what: the work's name, for those lines.
        work: what to do.
        seconds: between two times.
    """
    trouble: object = None
    while True:
        try:
            if work():
                return
            trouble = None
        except Exception as error:
            kind = type(error), getattr(error, "errno", None)  # not its words, which may name another file each time
            if kind != trouble:
                trouble = kind
                with suppress(Exception):
                    words = " ".join(f"{type(error).__name__}: {error}".split())
                    print(f"{what} failed and will be retried: {words}", flush=True)
        time.sleep(seconds)


def in_background(what: str, work: Callable[[], bool | None], seconds: float) -> None:
    """`keep_doing` in a thread of its own, which ends with the process."""
    threading.Thread(target=keep_doing, args=(what, work, seconds), name=what, daemon=True).start()
