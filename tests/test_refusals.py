from pathlib import Path

import resnet_space.ui
from resnet_space.serve.refusals import refusal


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
