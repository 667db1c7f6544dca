"""Publish a run's page: its folder becomes a static Space, which costs its owner nothing."""

import zipfile
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitOperationAdd

from resnet_space.common.hub_client import endpoint, hub_api
from resnet_space.hub.page import TAG, readme
from resnet_space.hub.push import push_errors, push_request
from resnet_space.hub.space import space_head
from resnet_space.runs import CARD, Run


def push_page(
    run: Run, page: Path, repo_id: str, *, token: str | None = None, private: bool = False, licence: str = ""
) -> str:
    """Commit a page to a static Space, which is created if it does not exist. An earlier page there is replaced.

    Args:
        run: whose page it is.
        page: the zip that `export` makes of it.
        repo_id: the Space, "owner/name".
        token: of the user; None uses the login saved on this machine, and none on a Space.
        private: whether a new Space is private; an existing one keeps its visibility.
        licence: as of `push_run`.

    Returns:
        The Space's address.

    Raises:
        HubError: as `push_run`, or if there is another Space of this name.
    """
    request = push_request(run, repo_id, token, licence=licence, page=f"spaces/{repo_id}")
    api = hub_api(token)
    with zipfile.ZipFile(page) as archive:
        files = {PurePosixPath(name).name: archive.read(name) for name in archive.namelist()}
    files[CARD] = readme(run, licence).encode()
    with push_errors(request):
        head = space_head(api, repo_id, private, "static", TAG)
        api.create_commit(
            repo_id,
            [CommitOperationAdd(path, content) for path, content in files.items()],
            commit_message=f"Publish {run.name}",
            repo_type="space",
            parent_commit=head.sha,
        )
    return f"{endpoint()}/spaces/{repo_id}"
