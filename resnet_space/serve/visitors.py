"""Whose runs and data sets they are: on a public app a visitor sees, stops, renames and deletes only their own.

A visitor is whoever knows a key: a random one that their browser keeps, or, for the owner of the machine, the one that
`RESNET_SPACE_OWNER_KEY` sets. A file beside what is theirs has the key only as a hash, and stays on this machine. A
model of the Hub may be several visitors': each has a line in it.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

OWNER_KEY_VARIABLE = "RESNET_SPACE_OWNER_KEY"
OWNER_KEY_LENGTH = 16  # characters, with fewer of which a key could be guessed
# The browser makes the key itself, before the server has answered anything: who presses a button at once is known, too.
KEY_IN_BROWSER = """(kept) => {
  const random = () => Array.from(crypto.getRandomValues(new Uint8Array(24)), (b) => b.toString(16).padStart(2, "0"));
  return new URLSearchParams(window.location.search).get("key") || kept || random().join("");
}"""


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(24)


def weak_owner_key() -> str | None:
    """A sentence on an owner's key that strangers could guess; None for a good one, and where there is none."""
    length = len(os.environ.get(OWNER_KEY_VARIABLE, ""))
    if not 0 < length < OWNER_KEY_LENGTH:
        return None
    return (
        f"{OWNER_KEY_VARIABLE} has {length} characters, so strangers could guess it: use at least {OWNER_KEY_LENGTH}, "
        f"such as {new_key()}"
    )


def is_owner_of_all(key: object) -> bool:
    """Whether it is the key of the machine's owner."""
    owner = os.environ.get(OWNER_KEY_VARIABLE)
    return bool(owner) and isinstance(key, str) and hmac.compare_digest(key.encode(), str(owner).encode())


def claim(file: Path, key: str) -> None:
    """Make the visitor one of the owners that this file names."""
    if not any(hmac.compare_digest(_hash(key), owner) for owner in _owners(file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as owners:
            owners.write(_hash(key) + "\n")


def owns(file: Path, key: object) -> bool:
    """Whether the visitor is one of the owners that this file names, or owns the machine."""
    if not isinstance(key, str) or not key:
        return False
    return is_owner_of_all(key) or any(hmac.compare_digest(_hash(key), owner) for owner in _owners(file))


def release(file: Path, key: str) -> bool:
    """Give up what this file says is the visitor's. Returns whether it is still another's."""
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
