"""System errors, such as a full disk: their messages, and whether they may pass by themselves."""

import errno
import re

_FULL = "The disk is full: delete runs or datasets you no longer need, then continue."
_FILES = "Too many files are open: try again in a moment."
_NOT_WRITABLE = "The folder is not writable: change its permissions, or store the app's runs elsewhere."
_WORDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _FILES),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _NOT_WRITABLE),
    errno.ENOMEM: "The machine ran out of memory: try again when it is less busy.",
    errno.EAGAIN: "The machine is running too many processes: try again when it is less busy.",
    errno.EISDIR: "A folder is in the way of a file: remove it.",
    errno.ENOTDIR: "A file is in the way of a folder: remove it.",
}
# Some libraries (safetensors, numpy) report system errors only as text.
_IN_WORDS = {
    errno.ENOSPC: re.compile(r"No space left on device|Disk quota exceeded|\d+ requested and \d+ written"),
    errno.EROFS: re.compile(r"Read-only file system"),
}
# These say nothing about the file that was read.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ENOSPC, errno.EDQUOT}


def is_passing(error: BaseException) -> bool:
    """Whether the error may pass by itself, or when there is space again."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in _PASSING


def system_words(error: BaseException) -> str | None:
    """One sentence on what the machine lacks and what helps, without any path; None for other errors."""
    if isinstance(error, MemoryError):
        return _WORDS[errno.ENOMEM]
    if isinstance(error, OSError) and error.errno:
        return _WORDS.get(error.errno)
    for number, said in _IN_WORDS.items():
        if said.search(str(error)):
            return _WORDS[number]
    return None if error.__cause__ is None else system_words(error.__cause__)


def words_of(error: BaseException) -> str:
    """As `system_words`, or else the operating system's own message."""
    return (
        system_words(error)
        or f"The operating system reports: {getattr(error, 'strerror', None) or type(error).__name__}."
    )
