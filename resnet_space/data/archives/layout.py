"""From the folders that images lie in to splits and classes, and which images a training may use in good faith."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from resnet_space.data.archives.members import Limits
from resnet_space.data.archives.report import SkippedFiles, images, left_out, named
from resnet_space.data.sources import SPLIT_NAMES, SPLITS, DataError

EXPECTED = (
    "put the images of each class into a folder named after the class (cats/1.jpg, dogs/2.jpg), and those folders, if "
    "you have splits, into folders named train, validation and test (train/cats/1.jpg)"
)


@dataclass(frozen=True, slots=True)
class SpooledImage:
    """A usable image that waits in the spool file: where it was found, and its bytes there."""

    folders: tuple[str, ...]
    name: str  # of its file, without folders
    digest: bytes  # SHA-256 of the file as it came
    offset: int
    size: int


@dataclass(frozen=True)
class Selection:
    """The data set to be written: images by split and class, in the order of both and of their names."""

    classes: tuple[str, ...]
    images: dict[str, dict[str, list[SpooledImage]]]
    warnings: tuple[str, ...]


def select(found: Sequence[SpooledImage], skipped: SkippedFiles, limits: Limits) -> Selection:
    """Sort images into splits and classes, and leave out those that would make a test worthless.

    Without split folders all images are for training. A class is one that can be learned, so that it is in the training
    split. Of exact copies in several splits the training's stays, and the test's rather than the validation's: a model
    must not be judged by what it has seen.

    Raises:
        DataError: where the folders do not make a data set.
    """
    placed = place([image.folders for image in found])
    sets: dict[str, dict[str, list[SpooledImage]]] = {split: defaultdict(list) for split in SPLITS}
    for image, where in zip(found, placed, strict=True):
        if where is None:
            skipped.add(
                "/".join((*image.folders, image.name)), "It is in no class folder, or beside the folders of the splits."
            )
        else:
            sets[where[0]][where[1]].append(image)
    if not any(sets.values()):
        raise DataError(f"The images are not in class folders: {EXPECTED}.")
    if not sets["train"]:
        raise DataError(f"There are only images to test with, none to learn from: {EXPECTED}.")
    classes = tuple(sorted(sets["train"], key=natural_order))
    if len(classes) < 2:
        raise DataError(f"There is only one class to learn, {classes[0]!r}, but at least two are needed: {EXPECTED}.")
    if len(classes) > limits.classes:
        raise DataError(f"There are {len(classes):,} classes, but at most {limits.classes:,} are allowed.")

    warnings = _drop_unlearned(sets, classes, skipped)
    for split in SPLITS:
        sets[split] = {name: sorted(sets[split][name], key=_by_name) for name in classes if sets[split].get(name)}
    warnings += _drop_copies(sets)
    sets = {split: members for split, members in sets.items() if members}
    return Selection(classes, sets, (*warnings, *_class_warnings(sets, classes)))


def place(folders: Sequence[tuple[str, ...]]) -> list[tuple[str, str] | None]:
    """(split, class) of each image, or None, from the folders that it is in.

    Layouts are class, split/class and class/split, within any number of folders that wrap it all. Folders deeper down
    count to the class that they are in. Images in no split's folder are for training, unless there is a folder for
    that. A folder "train" with images, beside others and with no split anywhere, is a class: that of trains.
    """
    paths = _unwrapped(folders)
    at = [next((i for i, folder in enumerate(path) if _split(folder)), None) for path in paths]
    in_splits = [(path, i) for path, i in zip(paths, at, strict=True) if i is not None]
    elsewhere = any(path and i is None for path, i in zip(paths, at, strict=True))
    if elsewhere and all(len(path) == 1 and _split(path[0]) == "train" for path, _ in in_splits):
        at, in_splits = [None] * len(paths), []
    below_splits = sum(i + 1 < len(path) for path, i in in_splits)
    above_splits = sum(0 < i == len(path) - 1 for path, i in in_splits)
    has_train = any(_split(path[i]) == "train" for path, i in in_splits)

    def place_one(path: tuple[str, ...], i: int | None) -> tuple[str, str] | None:
        if i is None:
            return ("train", path[0]) if path and not has_train else None
        split = SPLIT_NAMES[path[i].lower()]
        if i > 0 and above_splits > below_splits:
            return split, path[0]
        return (split, path[i + 1]) if i + 1 < len(path) else None

    return [place_one(path, i) for path, i in zip(paths, at, strict=True)]


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


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A key that puts "class 2" before "class 10"."""
    pieces = re.split(r"(\d+)", name.casefold())
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def _by_name(image: SpooledImage) -> tuple[str, tuple[str, ...], int]:
    return image.name, image.folders, image.offset


def _drop_unlearned(
    sets: dict[str, dict[str, list[SpooledImage]]], classes: tuple[str, ...], skipped: SkippedFiles
) -> list[str]:
    warnings = []
    for split in SPLITS[1:]:
        unlearned = sorted(sets[split].keys() - set(classes), key=natural_order)
        if unlearned:
            dropped = [image for name in unlearned for image in sets[split].pop(name)]
            for image in dropped:
                skipped.add("/".join((*image.folders, image.name)), "Its class has no training images.")
            warnings.append(f"{left_out(len(dropped), split)}, as there are no training images of {named(unlearned)}.")
    return warnings


def _drop_copies(sets: dict[str, dict[str, list[SpooledImage]]]) -> list[str]:
    """Drop exact copies, in place. Returns the warnings."""
    warnings = []
    elsewhere: set[bytes] = set()
    for split in ("train", "test", "validation"):
        classes_of: dict[bytes, list[str]] = defaultdict(list)
        leaked = repeated = 0
        for name, members in sets[split].items():
            kept = []
            for image in members:
                if image.digest in elsewhere:
                    leaked += 1
                elif name in classes_of[image.digest]:
                    repeated += 1
                else:
                    classes_of[image.digest].append(name)
                    kept.append(image)
            sets[split][name] = kept
        sets[split] = {name: members for name, members in sets[split].items() if members}
        elsewhere |= {digest for digest, names in classes_of.items() if names}
        contradicting = sum(len(names) > 1 for names in classes_of.values())
        if leaked:
            warnings.append(
                f"{left_out(leaked, split)}, as exact copies are in another split: a model "
                "must not be judged by what it has learned."
            )
        if repeated:
            warnings.append(f"{left_out(repeated, split)}, as exact copies are in the same class.")
        if contradicting:
            warnings.append(
                f"Several classes of the {split} split share {images(contradicting)}, whose labels contradict each "
                "other."
            )
    return warnings


def _class_warnings(sets: dict[str, dict[str, list[SpooledImage]]], classes: tuple[str, ...]) -> list[str]:
    warnings = []
    single = [name for name in classes if sum(len(members.get(name, ())) for members in sets.values()) == 1]
    if single:
        warnings.append(
            f"There is only one image of {named(single)}: a class cannot be both learned and tested with one image."
        )
    for split in SPLITS[1:]:
        missing = [name for name in classes if name not in sets.get(split, ())]
        if split in sets and missing:
            warnings.append(f"The {split} split has no images of {named(missing)}.")
    folded = Counter(name.casefold() for name in classes)
    colliding = [name for name in classes if folded[name.casefold()] > 1]
    if colliding:
        warnings.append(f"Some class names differ in upper and lower case only: {named(colliding)}.")
    return warnings
