"""Derive splits and classes from the folders of the images.

A split is called as in the imagefolder of the `datasets` library (its `data_files.py`): by one of the words in
`SPLIT_NAMES`, in any case, which begins the folder's name or follows one of "-", ".", "_", a space or a digit there,
and ends it or is followed by one of them: "seg_train", "test1", "validation data".
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from resnet_space.data.archives.report import Decision
from resnet_space.data.reference import SPLIT_NAMES, SPLITS
from resnet_space.data.words import named, natural_order

KEYWORD = re.compile(rf"(?:^|[-._ 0-9])({'|'.join(SPLIT_NAMES)})(?=$|[-._ 0-9])", re.I)


@dataclass(frozen=True, slots=True)
class SpooledImage:
    """A usable image that waits in the spool file: where it was found, and its bytes there."""

    folders: tuple[str, ...]
    name: str  # of its file, without folders
    digest: bytes  # SHA-256 of the file as it came
    offset: int
    size: int


@dataclass(frozen=True)
class Placed:
    """Where an image's folders put it: the split whose folder it is in, or None, and the folders from its class on."""

    split: str | None
    names: tuple[str, ...]


def locate(folders: Sequence[tuple[str, ...]]) -> tuple[list[Placed], list[Decision]]:
    """Locate each image by its folders, and report the decisions about the splits.

    Layouts are class, split/class and class/split, within any number of folders that wrap it all, or all of a split.
    Folders deeper down count to the class that they are in. A folder "train" with images, beside others and with no
    split anywhere, is a class: that of trains.
    """
    paths = _unwrapped(folders)
    at: list[int | None] = [next((i for i, folder in enumerate(path) if _split(folder)), None) for path in paths]
    in_splits = [(path, i) for path, i in zip(paths, at, strict=True) if i is not None]
    elsewhere = any(path and i is None for path, i in zip(paths, at, strict=True))
    splits: dict[str, str] = {folder: split for path, _ in in_splits for folder in path if (split := _split(folder))}
    loose = _loose_splits(paths)
    decisions = []
    if loose:
        splits |= loose
        at = [0 if path and path[0] in loose else i for path, i in zip(paths, at, strict=True)]
        in_splits = [(path, i) for path, i in zip(paths, at, strict=True) if i is not None]
        words = "; ".join(
            f"{split}: {named(sorted(name for name in loose if loose[name] == split))}"
            for split in SPLITS
            if split in loose.values()
        )
        decisions.append(Decision("splits", f"These folders are the splits ({words})."))
    elif elsewhere and all(len(path) == 1 and _split(path[0]) == "train" for path, _ in in_splits):
        at = [None] * len(paths)
        in_splits.clear()
    below_splits = sum(i + 1 < len(path) for path, i in in_splits)
    above_splits = sum(0 < i == len(path) - 1 for path, i in in_splits)

    def place_one(path: tuple[str, ...], i: int | None) -> Placed:
        if i is None:
            return Placed(None, path)
        if i > 0 and above_splits > below_splits:
            return Placed(splits[path[i]], (path[0],))
        return Placed(splits[path[i]], path[i + 1 :])

    placed = [place_one(path, i) for path, i in zip(paths, at, strict=True)]
    return _unwrapped_inside(placed), decisions


def split_and_class(placed: Sequence[Placed]) -> list[tuple[str, str] | None]:
    """Split and class of each image, or None. Images outside split folders train, unless there is a training folder."""
    has_train = any(where.split == "train" for where in placed)

    def class_of(where: Placed) -> tuple[str, str] | None:
        split = where.split or (None if has_train else "train")
        return (split, where.names[0]) if split and where.names else None

    return [class_of(where) for where in placed]


def keyword_split(name: str) -> str | None:
    """The split that a folder or file name contains a word for, if there is exactly one."""
    found = {SPLIT_NAMES[word.lower()] for word in KEYWORD.findall(name)}
    return found.pop() if len(found) == 1 else None


def _loose_splits(paths: Sequence[tuple[str, ...]]) -> dict[str, str]:
    """The outermost folders that are splits by a word in their names; none where they may as well be classes.

    They are splits where one has a word for training and another one for a test or validation, and the rest, if there
    is any, has no two folders inside: unlabelled images beside the splits.
    """
    inside: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for path in paths:
        if path:
            inside[path[0]].add(path[1:])
    deep = {name: len(there - {()}) > 1 for name, there in inside.items()}
    found = {name: split for name in deep if (split := keyword_split(name))}
    if all(_split(name) for name in found) or "train" not in found.values() or len(set(found.values())) < 2:
        return {}
    others = [name for name in deep if name not in found]
    labelled = all(deep[name] for name in found if found[name] == "train")
    if others and (not labelled or any(deep[name] for name in others)):
        return {}
    return found


def _unwrapped_inside(placed: Sequence[Placed]) -> list[Placed]:
    """Without the folders that all images of a split share, as in train/train/cat and train/images/cat."""
    result = list(placed)
    for split in SPLITS:
        where = [i for i, place_of in enumerate(result) if place_of.split == split]
        learned = {place_of.names[0] for place_of in result if place_of.split == "train" and place_of.names}
        while True:
            inside = [result[i].names for i in where if result[i].names]
            below = [names[1] for names in inside if len(names) > 1]
            if len({names[0] for names in inside}) != 1 or 2 * len(below) <= len(inside):
                break
            wraps = len(set(below)) > 1 if split == "train" else bool(set(below) & learned)
            if not wraps or (split != "train" and inside[0][0] in learned):
                break
            for i in where:
                result[i] = Placed(split, result[i].names[1:])
    return result


def merge_repeated(placed: list[Placed], wish: str | None) -> tuple[list[Placed], Decision | None]:
    """Merge folders (cameras, folds, patients) that all contain the same class folders, unless they are to be kept."""
    outer: list[str] = []
    result = placed
    while shared := _same_inside(result):
        outer.append(named(shared))
        if wish == "keep":
            said = f"The folders {outer[0]} are the classes, although they all contain the same folders."
            return placed, Decision("merged", said)
        result = [Placed(where.split, where.names[1:]) for where in result]
    if not outer:
        return placed, None
    said = f"The folders {' and '.join(outer)} all contain the same folders, which are the classes: they were merged."
    return result, Decision("merged", said)


def _same_inside(placed: Sequence[Placed]) -> list[str]:
    """The names of the inner folders if all folders contain the same two or more and no other images; else none."""
    has_train = any(where.split == "train" for where in placed)
    inside: dict[str, set[str]] = defaultdict(set)
    for where in placed:
        if where.names and where.split == ("train" if has_train else None):
            if len(where.names) == 1:
                return []
            inside[where.names[0]].add(where.names[1].casefold())
    shared = set.intersection(*inside.values()) if inside else set()
    return sorted(inside, key=natural_order) if len(inside) > 1 and len(shared) > 1 else []


def _unwrapped(folders: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without the outer folders that all images share; the few that lie directly in one of them are left with none."""
    paths = list(folders)
    while len({path[0] for path in paths if path}) == 1:
        inside = [path for path in paths if path]
        below = [path[1:] for path in inside if len(path) > 1]
        if (
            2 * len(below) <= len(inside)  # a class
            or all(len(path) == 1 and _split(path[0]) for path in below)  # a class with its splits
            or (_split(inside[0][0]) and not any(len(path) > 1 and _split(path[0]) for path in below))  # a split
        ):
            break
        paths = [path[1:] for path in paths]
    return paths


def _split(folder: str) -> str | None:
    return SPLIT_NAMES.get(folder.lower())
