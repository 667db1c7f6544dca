"""Deploy the app: create or update a Gradio Space from this repository, in one commit.

    python -m resnet_space.hub.space user/name [--private]

The files that git tracks are deployed as they are in the working tree, except those only for developers. Files deleted
here are deleted there too; manual changes there are overwritten.
"""

import argparse
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import SpaceInfo

from resnet_space.common.hub_client import HubError, HubRequest, endpoint, require_owned_id, translated_errors

REPOSITORY = Path(__file__).parents[2]
SETTINGS = "docs/hosting.md"
FOR_DEVELOPERS = ("tests/", "benchmarks/", ".ci/", ".gitignore", "requirements-test.txt")
THE_HUBS_OWN = ".gitattributes"
SECRETS = ("RESNET_SPACE_AUTH", "RESNET_SPACE_OWNER_KEY")
MAX_TEXT = 5_000_000  # bytes of a file that is looked through for tokens
_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{30,}")  # as long as real ones: the README's front matter has hf_oauth_scopes
_ROW = re.compile(r"^\| `(RESNET_SPACE_\w+)` \| ([^|]*?) \|", re.M)


@dataclass(frozen=True)
class Deployed:
    """The result of a deployment.

    Attributes:
        address: of the Space.
        commit: its last one, new or not.
        files: number of files.
        variables, secrets: the names of those set in its settings.
    """

    address: str
    commit: str
    files: int
    variables: tuple[str, ...]
    secrets: tuple[str, ...]


def deploy(repo_id: str, folder: Path = REPOSITORY, *, token: str | None = None, private: bool = False) -> Deployed:
    """Create or update the Space.

    Args:
        repo_id: "owner/name".
        folder: of the repository.
        token: None uses the login saved on this machine.
        private: whether a new Space is private; an existing one keeps its visibility.

    Raises:
        HubError: one sentence on what is not possible or what the Hub refuses.
    """
    require_owned_id(repo_id, "Space", "ann/resnet_space")
    token = token or get_token()
    if not token:
        raise HubError("Nobody is signed in on this machine: run `hf auth login` first.")
    files = space_files(folder)
    api = HfApi(endpoint=endpoint(), token=token)
    request = HubRequest(
        f"The Space {repo_id}",
        f"spaces/{repo_id}",
        instead="run the app on this machine",
        done="deployed",
        refusals={
            402: "the Hub requires a paid plan for it",
            403: "this account or its token has no write access there: use a token with write access",
            412: "it has changed in the meantime: try again",
        },
    )
    with translated_errors(request):
        head = str(space_head(api, repo_id, private).sha)
        there = set(api.list_repo_files(repo_id, repo_type="space", revision=head))
        gone = sorted(there - set(files) - {THE_HUBS_OWN})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*commit a data file")  # the bundled images are meant to go
            commit = api.create_commit(
                repo_id,
                [
                    *(CommitOperationDelete(path) for path in gone),
                    *(CommitOperationAdd(path, file) for path, file in files.items()),
                ],
                commit_message="Deploy resnet_space",
                repo_type="space",
                parent_commit=head,
            )
        variables = tuple(sorted(api.get_space_variables(repo_id)))
        secrets = tuple(sorted(api.get_space_secrets(repo_id)))
    return Deployed(f"{endpoint()}/spaces/{repo_id}", commit.oid, len(files), variables, secrets)


def space_files(folder: Path) -> dict[str, Path]:
    """The files of the Space: path there -> file here.

    Raises:
        HubError: if the folder is not a git repository, or a file contains a token.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, text=True)
    if listed.returncode:
        raise HubError(f"{folder} is not a git repository, so the files of the Space cannot be determined.")
    files = {}
    for path in filter(None, listed.stdout.split("\0")):
        file = folder / path
        if path.startswith(FOR_DEVELOPERS) or not file.is_file():
            continue
        if file.is_symlink():
            raise HubError(f"{path} is a link: a Space can contain only regular files.")
        if file.stat().st_size <= MAX_TEXT and _TOKEN.search(file.read_bytes()):
            raise HubError(f"{path} contains a Hugging Face token: remove it before uploading.")
        files[path] = file
    return files


def documented_settings(page: str) -> dict[str, str]:
    """The variables in the table of the hosting page: name -> description."""
    return dict(_ROW.findall(page))


def space_head(api: HfApi, repo_id: str, private: bool, sdk: str = "gradio", tag: str | None = None) -> SpaceInfo:
    """The Space's last commit; the Space is created if it does not exist.

    Args:
        api: of whoever may write there.
        repo_id: "owner/name".
        private: whether a new one is.
        sdk: "gradio" or "static".
        tag: that an existing one must have.

    Raises:
        HubError: if there is another Space of this name.
    """
    try:
        found = api.space_info(repo_id)
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:  # the token: it is not asked for again
            raise
        api.create_repo(repo_id, repo_type="space", space_sdk=sdk, private=private)
        return api.space_info(repo_id)
    if found.sdk not in (None, sdk):
        raise HubError(f"{repo_id} is not a {sdk.capitalize()} Space ({found.sdk}): choose another name.")
    if tag and tag not in (found.tags or ()):
        raise HubError(f"{repo_id} already contains something else: choose another name.")
    return found


def report(deployed: Deployed, settings: dict[str, str], page: str) -> list[str]:
    """The lines to print: the address, then each possible setting and whether it is set."""
    lines = [f"{deployed.address} has {deployed.files} files, commit {deployed.commit[:7]}."]
    lines.append(f"Set its variables and secrets at {page}; a new Space needs none:")
    width = max(map(len, settings), default=0)
    for name, what in settings.items():
        kind = "secret" if name in SECRETS else "variable"
        is_set = name in (deployed.secrets if kind == "secret" else deployed.variables)
        lines.append(f"  {name:{width}}  {kind:8}  {'set    ' if is_set else 'not set'}  {what}")
    others = sorted({*deployed.variables, *deployed.secrets} - set(settings))
    if others:
        lines.append(f"Others that are set: {', '.join(others)}.")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m resnet_space.hub.space", description="Create or update a Gradio Space from this repository."
    )
    parser.add_argument("space", metavar="user/name", help="name of the Space; it is created if it does not exist")
    parser.add_argument("--private", action="store_true", help="make a new Space visible only to its owner")
    given = parser.parse_args(arguments)
    try:
        deployed = deploy(given.space, private=given.private)
    except HubError as error:
        sys.exit(str(error))
    settings = documented_settings((REPOSITORY / SETTINGS).read_text(encoding="utf-8"))
    print(*report(deployed, settings, f"{deployed.address}/settings"), sep="\n")


if __name__ == "__main__":
    main()
