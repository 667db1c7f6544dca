"""The app's command line, and the lines it prints when it is running."""

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import NO_SAVED_TOKEN
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.runs import CONFIG, SHIPPED
from resnet_space.serve.limits import VARIABLES, Limits

AUTH_VARIABLE = "RESNET_SPACE_AUTH"
STORAGE_VARIABLE = "RESNET_SPACE_STORAGE"
HOSTS = "RESNET_SPACE_HOSTS"
TRUSTED_PROXIES = "FORWARDED_ALLOW_IPS"  # of uvicorn
LOCAL_HOSTS = (None, "127.0.0.1", "localhost", "::1")
MANY = 65_536  # files and connections
REPOSITORY = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Options:
    """The options for serving the app.

    Attributes:
        host: address to listen on; None is gradio's default: this machine only, or all addresses on a Space.
        port: of it.
        share: whether a public link is wanted.
        accounts: (user, password) pairs that may sign in; empty: no password is needed. Excluded from the
            representation, so that no log shows it.
        readonly: whether visitors may only look.
        checkpoints: the folder of runs.
        data: the folder of imported datasets.
        limits: for visitors.
    """

    host: str | None
    port: int
    share: bool
    accounts: tuple[tuple[str, str], ...] = field(repr=False)
    readonly: bool
    checkpoints: Path
    data: Path
    limits: Limits

    @property
    def public(self) -> bool:
        """Whether anyone except the machine's owner can reach the app."""
        return self.share or self.host not in LOCAL_HOSTS or self.on_space

    @property
    def on_space(self) -> bool:
        return "SPACE_ID" in os.environ

    @property
    def proxied(self) -> bool:
        """Whether the app is behind a proxy that reports the addresses of requests."""
        return self.share or self.on_space or bool(os.environ.get(TRUSTED_PROXIES))

    @property
    def hosts(self) -> frozenset[str]:
        """The allowed host names; empty for a public app: any."""
        if self.public:
            return frozenset()
        others = os.environ.get(HOSTS, "").lower().replace(",", " ").split()
        return frozenset(("localhost", "127.0.0.1", "[::1]", *others))


def parsed_options(arguments: Sequence[str] | None = None) -> Options:
    """The options of a command line (sys.argv's by default) and of the environment.

    An invalid value ends the program with one sentence, which never contains a password.
    """
    parser = argparse.ArgumentParser(prog="app.py", description="Fine-tune a ResNet in the browser.")
    parser.add_argument("--host", default=None, help="address to listen on (default: 127.0.0.1; on a Space, all)")
    parser.add_argument("--port", type=int, default=None, help="port (default: 7860)")
    parser.add_argument(
        "--share",
        action="store_true",
        help="create a public link, valid for a week, and print it last. Without --auth or --readonly, anyone with the "
        "link can train here",
    )
    parser.add_argument(
        "--auth",
        action="append",
        metavar="USER:PASSWORD",
        help="ask visitors for a user name and a password; repeat it for more users. Other users "
        f"of this machine can read it in the process list: set {AUTH_VARIABLE} instead, one USER:PASSWORD per "
        "line. Programs sign in with gradio_client's auth=(USER, PASSWORD). Disables the MCP server",
    )
    parser.add_argument(
        "--readonly",
        action="store_true",
        help="for reviewers: visitors see every run and can use Predict, Explore, results and exports, but cannot "
        "train, upload datasets, push, rename or delete",
    )
    parser.add_argument("--checkpoints", type=Path, default=None, help="folder of the runs (default: checkpoints)")
    parser.add_argument("--data", type=Path, default=None, help="folder of imported datasets (default: data)")
    given = parser.parse_args(arguments)
    # Not handed on: the trainer, a process of its own, has no use for it.
    from_environment = os.environ.pop(AUTH_VARIABLE, "")
    try:
        options = Options(
            host=given.host or os.environ.get("GRADIO_SERVER_NAME") or None,
            port=given.port or _port(os.environ.get("GRADIO_SERVER_PORT", "7860")),
            share=given.share,
            accounts=accounts(given.auth, "--auth") or accounts(from_environment.splitlines(), AUTH_VARIABLE),
            readonly=given.readonly,
            checkpoints=given.checkpoints or _storage_folder() / "checkpoints",
            data=given.data or Path(os.environ.get(DATA_FOLDER_VARIABLE) or _storage_folder() / "data"),
            limits=Limits(),
        )
        limits = Limits.from_environment(public=options.public)
    except UserError as error:
        parser.error(str(error))
    return Options(**vars(options) | {"limits": limits})


def allow_many_connections() -> None:
    """Raise the number of files and connections that may be open to what the system allows: each page has some."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MANY if hard == resource.RLIM_INFINITY else min(MANY, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _storage_folder() -> Path:
    """Where runs and data are kept: on a Space whatever is not on a mounted storage is lost at a restart."""
    return Path(os.environ.get(STORAGE_VARIABLE) or REPOSITORY)


def bring_shipped(checkpoints: Path) -> None:
    """Copy the runs that come with the app to where runs are kept, if that is elsewhere: into a folder without any run,
    and, of a Space's storage, those that an earlier version did not bring.
    """
    if os.environ.get(STORAGE_VARIABLE) or not any(checkpoints.glob(f"*/{CONFIG}")):
        for name in SHIPPED:
            source = REPOSITORY / "checkpoints" / name
            if source.is_dir() and not (checkpoints / name).exists():
                checkpoints.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=checkpoints, prefix=".shipped-") as beside:
                    shutil.copytree(source, Path(beside) / name)
                    (Path(beside) / name).rename(checkpoints / name)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise UserError(f"GRADIO_SERVER_PORT must be a port from 1 to 65535, not {text!r}.")
    return int(text)


def accounts(texts: Sequence[str] | None, what: str) -> tuple[tuple[str, str], ...]:
    """(user, password) of each "user:password"; empty lines are left out.

    Raises:
        UserError: for another form. The message does not repeat the value because it may contain a password.
    """
    passwords: dict[str, str] = {}
    for text in filter(None, map(str.strip, texts or ())):
        user, colon, password = text.partition(":")
        if not (colon and user.strip() and password):
            raise UserError(f"{what} has a value that is not of the form user:password, with both parts non-empty.")
        if user in passwords:
            raise UserError(f"{what} contains the user {user} twice: use unique user names.")
        passwords[user] = password
    return tuple(passwords.items())


def prepare(options: Options) -> None:
    """Set the environment variables for the server and for trainer processes."""
    os.environ[DATA_FOLDER_VARIABLE] = str(options.data)
    if not options.proxied:  # or uvicorn believes whoever asks from this machine where they ask from
        os.environ[TRUSTED_PROXIES] = ""
    if options.public:  # nor may it, or the app itself, ask the Hub in the name of whoever runs it
        os.environ[NO_SAVED_TOKEN] = "1"
    if options.limits.minutes is not None:
        os.environ[VARIABLES["minutes"]] = str(options.limits.minutes)


def addresses(options: Options, local: str, shared: str | None, printed: str, *, mcp: bool) -> list[str]:
    """The lines to print when the app is running; the last one is the address to share.

    Args:
        options: how it is served.
        local: its address on this machine.
        shared: the public link; None if there is none.
        printed: gradio's output during start, which says why there is no link.
        mcp: whether it also runs an MCP server.
    """
    address = (shared or local).rstrip("/")
    lines = []
    if mcp:
        lines.append(f"For MCP clients: {address}/gradio_api/mcp/")
    if options.share and not shared:
        lines.append(
            f"There is no public link because {_why_no_link(printed)}: the app is available on this machine only."
        )
    if shared:
        lines.append(f"On this machine: {local}")
        if not options.accounts and not options.readonly:
            lines.append(
                "Anyone with the link can train here: use --auth to ask for a password, or --readonly to "
                "forbid changes."
            )
    return [*lines, f"Open {address}"]


def _why_no_link(printed: str) -> str:
    if "Missing file" in printed:
        match = re.search(r"Download this file: https?://([^/\s]+)", printed)
        return f"the tunnel program could not be downloaded from {match[1] if match else 'its server'}"
    if "Checksum mismatch" in printed:
        return "the checksum of the downloaded tunnel program is wrong"
    if "not supported on Hugging Face Spaces" in printed or "SPACE_ID" in os.environ:
        return "a Space already has a public address"
    return "gradio's tunnel server could not be reached"


def refuse(error: OSError) -> NoReturn:
    """End the program with one sentence if the app cannot listen on the address."""
    sys.exit(
        f"The app cannot listen on this address: {str(error).splitlines()[0].rstrip('.')}; choose another "
        "--host or --port."
    )
