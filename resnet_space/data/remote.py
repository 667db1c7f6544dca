"""Inspect a dataset repository on the Hub without downloading its files."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import get_session, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers  # pyrefly: ignore[implicit-reexport]  # documented, but not in its __all__

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import TIMEOUT, endpoint, sent_token
from resnet_space.data.columns import Features
from resnet_space.data.reference import SPLIT_NAMES, SPLITS

_SPLIT_FILE = re.compile(rf"({'|'.join(SPLIT_NAMES)})([-_.]\d+([-_.].*)?)?\.parquet")
_SPLIT_FOLDER = re.compile(rf"(partial-)?({'|'.join(SPLIT_NAMES)})")

_ANY_FILE = re.compile(r"(.+?)([-_.]\d+-of-\d+([-_.].*)?)?\.parquet")


def parquet_files(
    paths: Sequence[str] | Mapping[str, int],
) -> tuple[dict[str, dict[str, tuple[str, ...]]], dict[str, str]]:
    """Config -> split -> files, of those configs that have training images; and the part that stands for them.

    The layouts are `data/train-00000-of-00001.parquet`, the same in a folder named after the config, and
    `config/train/0000.parquet`. Where no config has training images, those that have one part only are taken, whatever
    it is called: it is split later.
    """
    found: dict[str, dict[str, list[str]]] = {}
    parts: dict[str, dict[str, list[str]]] = {}
    for path in sorted(paths):
        *folders, file = path.split("/")
        if not (named := _ANY_FILE.fullmatch(file)):
            continue
        part, split = named[1], None
        if match := _SPLIT_FILE.fullmatch(file):
            part = split = match[1]
        elif folders and (match := _SPLIT_FOLDER.fullmatch(folders[-1])):
            part = split = match[2]
            folders.pop()
        elif part.isdigit() and folders:  # config/full/0000.parquet
            part = folders.pop()
        if folders and folders[0] == "data":
            folders.pop(0)
        config = "/".join(folders) or "default"
        parts.setdefault(config, {}).setdefault(part, []).append(path)
        if split is not None:
            found.setdefault(config, {}).setdefault(SPLIT_NAMES[split], []).append(path)
    usable = {
        config: {split: tuple(splits[split]) for split in SPLITS if split in splits}
        for config, splits in found.items()
        if "train" in splits
    }
    if usable:
        return usable, {}
    single = {config: next(iter(named.items())) for config, named in parts.items() if len(named) == 1}
    return (
        {config: {"train": tuple(files)} for config, (_, files) in single.items()},
        {config: part for config, (part, _) in single.items()},
    )


def readme_features(readme: bytes, config: str) -> Features:
    """The columns' types that a dataset's README has for a configuration, in the form that parquet files have them."""
    import yaml

    found = re.match(r"---\s*\n(.*?)\n---", readme.decode(errors="replace"), re.S)
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, in a tenth of the time
        about = yaml.load(found[1], loader)["dataset_info"] if found else []
        infos = [info for info in (about if isinstance(about, list) else [about]) if isinstance(info, dict)]
        own = [info for info in infos if info.get("config_name", "default") == config]
        return {
            feature["name"]: _feature(feature)
            for info in own or (infos if len(infos) == 1 else ())
            for feature in info.get("features") or ()
            if isinstance(feature["name"], str)
        }
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return {}


def _feature(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = entry.get("dtype")
    if kind == "image":
        return {"_type": "Image"}
    if isinstance(kind, dict) and isinstance(kind.get("class_label"), dict):
        names = kind["class_label"].get("names")
        if isinstance(names, dict):  # the README's way: '0': cat
            names = [names[key] for key in sorted(names, key=lambda key: int(key))]
        return {"_type": "ClassLabel", "names": names}
    return {"_type": "Value"}


class RemoteFile(io.RawIOBase):
    """A file on the Hub that is read by range requests."""

    def __init__(self, url: str, size: int, token: str | None) -> None:
        self._url, self._size, self._token = url, size, token
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._position + size, self._size)
        data = read_range(self._url, self._position, stop, self._token) if stop > self._position else b""
        self._position += len(data)
        return data


def read_range(url: str, start: int, stop: int, token: str | None, *, whole: bool = False) -> bytes:
    """Some bytes of a file; `whole` where it is all of it, so that a server may answer without knowing ranges."""
    headers = build_hf_headers(
        token=sent_token(token), headers={"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    )
    # The whole file would come from a server that knows no ranges: it is streamed, so that it can be declined.
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
        hf_raise_for_status(response)
        if response.status_code != 206 and not whole:
            raise UserError(f"The server {endpoint()} does not support range requests: check your network's proxy.")
        return bytes(response.read())
