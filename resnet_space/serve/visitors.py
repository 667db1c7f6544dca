"""Ownership of runs and datasets: on a public app, visitors see, stop, rename and delete only their own.

A visitor is identified by a key: a random one stored in their browser or, for the owner of the machine, the one that
`RESNET_SPACE_OWNER_KEY` sets. An owners file beside each item contains only the key's hash and stays on this machine. A
pulled Hub model can have several owners: each has a line in it.
"""

import hashlib
import hmac
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from resnet_space.common.errors import UserError

OWNER_KEY_VARIABLE = "RESNET_SPACE_OWNER_KEY"
LONGEST_KEY = 200
KEYS_A_MINUTE = 20  # that are tried from one address; a browser has one
OWNER_KEY_LENGTH = 16  # characters, with fewer of which a key could be guessed
# The browser makes the key itself, before the server has answered anything: who presses a button at once is known, too.
KEY_IN_BROWSER = """(kept) => {
  const random = () => Array.from(crypto.getRandomValues(new Uint8Array(24)), (b) => b.toString(16).padStart(2, "0"));
  return new URLSearchParams(window.location.search).get("key") || kept || random().join("");
}"""


# The address that the call under way comes from; empty where no visitor asks.
_address: ContextVar[str] = ContextVar("address", default="")
_tried: "OrderedDict[str, tuple[float, set[str]]]" = OrderedDict()  # by address: since when, and hashes of which keys
_trying = threading.Lock()


@contextmanager
def asked_by(address: str) -> Generator[None]:
    """Calls in this block are made for this address."""
    token = _address.set(address)
    try:
        yield
    finally:
        _address.reset(token)


def asking() -> str:
    """The address of the current call; empty outside a visitor's call."""
    return _address.get()


def new_key() -> str:
    """A new unguessable key."""
    return secrets.token_urlsafe(24)


def is_key(key: object) -> bool:
    """Whether it is a valid key."""
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY:
        return False
    # Halves of letters, which no file can have, and what the guard puts in their place.
    return not any("\ud800" <= letter <= "\udfff" or letter == "\ufffd" for letter in key)


def require_key(key: object, *, public: bool) -> str | None:
    """The key of a visitor who is about to create something. Raises UserError for an invalid key."""
    if not key and isinstance(key, str | None):
        if public:
            raise UserError("The page has not identified you yet: try again in a moment.")
        return None
    if not is_key(key):
        raise UserError(f"The key must be a text of 1 to {LONGEST_KEY} characters: leave it out to have one created.")
    return str(key)


def weak_owner_key() -> str | None:
    """One sentence on a guessable owner key; None if the key is good or not set."""
    length = len(os.environ.get(OWNER_KEY_VARIABLE, ""))
    if not 0 < length < OWNER_KEY_LENGTH:
        return None
    return (
        f"{OWNER_KEY_VARIABLE} has only {length} characters and could be guessed: use at least {OWNER_KEY_LENGTH}, "
        f"such as {new_key()}"
    )


def is_owner_of_all(key: object) -> bool:
    """Whether it is the key of the machine's owner. For an address that tries many keys, always False."""
    owner = os.environ.get(OWNER_KEY_VARIABLE)
    if not owner or not is_key(key) or _guesses(str(key)):
        return False
    return hmac.compare_digest(str(key).encode(), owner.encode())


def _guesses(key: str) -> bool:
    """Whether the current address has sent so many keys that it seems to be guessing."""
    address, now = asking(), time.monotonic()
    if not address:
        return False
    with _trying:
        since, keys = _tried.pop(address, (now, set()))
        if now - since > 60:
            since, keys = now, set()
        if len(keys) <= KEYS_A_MINUTE:
            keys.add(_hash(key))
        _tried[address] = since, keys
        while len(_tried) > 10_000:
            _tried.popitem(last=False)
    return len(keys) > KEYS_A_MINUTE


def claim(file: Path, key: str) -> None:
    """Add the visitor to the owners in this file."""
    if not any(hmac.compare_digest(_hash(key), owner) for owner in _owners(file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as owners:
            owners.write(_hash(key) + "\n")


def owns(file: Path, key: object) -> bool:
    """Whether the visitor is one of the owners in this file, or owns the machine."""
    if not is_key(key):
        return False
    assert isinstance(key, str)
    return is_owner_of_all(key) or any(hmac.compare_digest(_hash(key), owner) for owner in _owners(file))


def release(file: Path, key: str) -> bool:
    """Remove the visitor from the owners in this file. Returns whether others remain."""
    others = [owner for owner in _owners(file) if not hmac.compare_digest(_hash(key), owner)]
    if is_owner_of_all(key) or not others:
        return False
    file.write_text("".join(f"{owner}\n" for owner in others), encoding="utf-8")
    return True


def _owners(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
