"""Whose runs they are: on a public app a visitor stops, renames and deletes only their own.

A visitor is whoever knows a key: a random one that their browser keeps, or, for the owner of the machine, the one that
`RESNET_SPACE_OWNER_KEY` sets. A run's folder has its starter's key only as a hash, and that part of the folder stays on
this machine.
"""

import hashlib
import hmac
import os
import secrets

from resnet_space.runs import OWNER, Run

OWNER_KEY_VARIABLE = "RESNET_SPACE_OWNER_KEY"


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(24)


def claim(run: Run, key: str) -> None:
    """Make a run the visitor's."""
    (run.path / OWNER).write_text(_hash(key), encoding="utf-8")


def owns(run: Run, key: str | None) -> bool:
    """Whether the visitor started the run, or owns the machine."""
    if not isinstance(key, str) or not key:
        return False
    owner = os.environ.get(OWNER_KEY_VARIABLE)
    if owner and hmac.compare_digest(key.encode(), owner.encode()):
        return True
    try:
        return hmac.compare_digest(_hash(key), (run.path / OWNER).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
