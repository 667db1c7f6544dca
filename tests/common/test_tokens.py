import pytest

from resnet_space.common.tokens import masked

# Of the form that a sign-in gives: a JSON Web Token with its dots.
SIGNED_IN = "hf_oauth_eyJhbGciOiJFZERTQSJ9.eyJzY29wZSI6WyJvcGVuaWQiXX0.sig-natu_re0123456789"


@pytest.mark.parametrize("token", ["hf_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789", "hf_with_parts_0123456789", SIGNED_IN])
@pytest.mark.parametrize("around", ["{}", "It says {} here.", "Authorization: Bearer {}\n", "'{}'"])
def test_no_part_of_a_token_is_left(token: str, around: str) -> None:
    text = masked(around.format(token))
    assert text == around.format("hf_***")
    assert not any(part in text for part in token.split("."))


@pytest.mark.parametrize("text", ["", "hf_short", "half_of_everything", "The HF_TOKEN is not set."])
def test_what_is_no_token_stays(text: str) -> None:
    assert masked(text) == text
