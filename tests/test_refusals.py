import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError

import resnet_space.ui
from resnet_space.serve.refusals import DISK_FULL, DISK_READ_ONLY, disk_words, refusal


def test_a_refusal_has_no_token_and_no_tag() -> None:
    said = str(refusal(ValueError("There is no <img src=x onerror=run()> named hf_aTokenOfSomebody.")))
    assert "<" not in said
    assert ">" not in said
    assert "hf_***" in said
    assert "hf_aToken" not in said


def test_every_refusal_of_the_page_is_made_in_one_place() -> None:
    folder = Path(resnet_space.ui.__file__).parent
    direct = [path.name for path in folder.rglob("*.py") if "gr.Error(" in path.read_text(encoding="utf-8")]
    assert direct == ["refusals.py"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DISK_FULL),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), DISK_FULL),
        (OSError("300 requested and 100 written"), DISK_FULL),  # numpy's
        (SafetensorError("I/O error: No space left on device (os error 28)"), DISK_FULL),
        (OSError(errno.EROFS, "Read-only file system"), DISK_READ_ONLY),
        (OSError(errno.ENOENT, "No such file or directory"), None),
        (ValueError("something else"), None),
    ],
)
def test_a_disk_that_takes_no_more_has_a_sentence_whoever_tells_of_it(error: Exception, words: str | None) -> None:
    assert disk_words(error) == words
    further = RuntimeError("it failed")
    further.__cause__ = error
    assert disk_words(further) == words
