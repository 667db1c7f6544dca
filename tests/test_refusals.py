import errno
import re
from pathlib import Path

import pytest
from safetensors import SafetensorError

import resnet_space
from resnet_space.serve.refusals import plain, refusal, system_words


def test_a_refusal_has_no_token_and_no_tag() -> None:
    said = str(refusal(ValueError("There is no <img src=x onerror=run()> named hf_aTokenOfSomebody.")))
    assert "<" not in said
    assert ">" not in said
    assert "hf_***" in said
    assert "hf_aToken" not in said


def test_what_is_said_is_short_and_can_be_sent_whatever_was_asked() -> None:
    said = plain(f"There is no run {'x' * 20_000_000!r} with \ud800.")
    assert len(said) < 700
    assert plain("\ud800").encode() == b"?"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/secret/place"),
            "The disk is full: delete runs or data sets",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "The app has too many files and connections open: try again"),
        (OSError(errno.EROFS, "Read-only file system"), "The disk can only be read: choose another folder"),
        (MemoryError(), "The machine has too little memory left: try again"),
        (OSError("300 requested and 100 written"), "The disk is full: delete runs or data sets"),  # numpy's
        (SafetensorError("I/O error: No space left on device (os error 28)"), "The disk is full: delete runs or data"),
    ],
)
def test_what_the_machine_lacks_is_told_in_a_sentence_without_its_folders(error: Exception, words: str) -> None:
    told = system_words(error)
    assert told is not None
    assert told.startswith(words)
    assert "/secret" not in told


def test_every_message_to_the_page_is_made_in_one_place() -> None:
    folder = Path(resnet_space.__file__).parent
    made = re.compile(r"gr\.(Error|Warning|Info|Success)\(")
    direct = [path.name for path in folder.rglob("*.py") if made.search(path.read_text(encoding="utf-8"))]
    assert direct == ["refusals.py"]
