import errno

import pytest
from safetensors import SafetensorError

from resnet_space.common.faults import system_words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/secret/place"),
            "The disk is full: delete runs or datasets you no longer need",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "Too many files are open: try again"),
        (OSError(errno.EROFS, "Read-only file system"), "The folder is not writable: change its permissions"),
        (MemoryError(), "The machine ran out of memory: try again"),
        (
            OSError("300 requested and 100 written"),
            "The disk is full: delete runs or datasets you no longer need",
        ),  # numpy's
        (SafetensorError("I/O error: No space left on device (os error 28)"), "The disk is full: delete runs or data"),
    ],
)
def test_what_the_machine_lacks_is_told_in_a_sentence_without_its_folders(error: Exception, words: str) -> None:
    told = system_words(error)
    assert told is not None
    assert told.startswith(words)
    assert "/secret" not in told
