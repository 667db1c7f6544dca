import re
from pathlib import Path

import resnet_space
from resnet_space.serve.refusals import plain, refusal


def test_a_refusal_has_no_token_and_no_tag() -> None:
    said = str(refusal(ValueError("There is no <img src=x onerror=run()> named hf_aTokenOfSomebody.")))
    assert "<" not in said
    assert ">" not in said
    assert "hf_***" in said
    assert "hf_aToken" not in said


def test_a_refusal_stays_until_it_is_closed() -> None:
    assert refusal("Choose a run first.").duration is None


def test_what_is_said_is_short_and_can_be_sent_whatever_was_asked() -> None:
    said = plain(f"There is no run {'x' * 20_000_000!r} with \ud800.")
    assert len(said) < 700
    assert plain("\ud800").encode() == b"?"


def test_every_message_to_the_page_is_made_in_one_place() -> None:
    folder = Path(resnet_space.__file__).parent
    made = re.compile(r"gr\.(Error|Warning|Info|Success)\(")
    direct = [path.name for path in folder.rglob("*.py") if made.search(path.read_text(encoding="utf-8"))]
    assert direct == ["refusals.py"]
