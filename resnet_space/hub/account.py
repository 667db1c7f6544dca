"""What the Hub says of the account that a token belongs to."""

from huggingface_hub import get_session, get_token, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers  # pyrefly: ignore[implicit-reexport]  # documented, but not in its __all__

from resnet_space.common.hub_client import (
    TIMEOUT,
    HubError,
    HubRequest,
    endpoint,
    hub_api,
    sent_token,
    translated_errors,
)


def has_token(token: str | None) -> bool:
    """Whether there is an account: somebody's token, or the login of this machine where that may be used."""
    given = sent_token(token)
    return isinstance(given, str) or (given is None and get_token() is not None)


def who_am_i(token: str | None) -> str | None:
    """The user's name on the Hub, None if nobody is signed in.

    The Hub allows few such requests per minute: cache the answer.

    Args:
        token: None is whoever is signed in on this machine, and nobody on a Space.

    Raises:
        HubError: if the Hub rejects the token or is unreachable.
    """
    if not has_token(token):
        return None
    request = HubRequest("Your name", instead="work without signing in")
    with translated_errors(request):
        name: str = hub_api(token).whoami()["name"]
        return name


def free_gpu_seconds(token: str | None) -> float | None:
    """The seconds that are left of the account's ZeroGPU quota.

    None if nobody is signed in or the Hub does not say: a sign-in from before the app asked for the scope
    `read-billing` has no right to know.

    `HfApi.get_zero_gpu_quota` asks the same, but waits for an answer without an end.
    """
    if not has_token(token):
        return None
    try:
        with translated_errors(HubRequest("Your GPU quota")):
            response = get_session().get(
                f"{endpoint()}/api/spaces/zero-gpu/quota",
                headers=build_hf_headers(token=sent_token(token)),
                timeout=TIMEOUT,
            )
            hf_raise_for_status(response)
            return float(response.json()["current"])
    except (HubError, KeyError, TypeError, ValueError):  # refused, or an answer of another form
        return None
