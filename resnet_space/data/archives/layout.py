"""From the folders that images lie in to splits and classes, and which images a training may use in good faith.

A split is called as in the imagefolder of the `datasets` library (its `data_files.py`): by one of the words in
`SPLIT_NAMES`, in any case, which begins the folder's name or follows one of "-", ".", "_", a space or a digit there,
and ends it or is followed by one of them: "seg_train", "test1", "validation data".
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from resnet_space.common.errors import UserError
from resnet_space.data.archives.members import Limits
from resnet_space.data.archives.report import Decision, SkippedFiles, images, left_out, named
from resnet_space.data.sources import SPLIT_NAMES, SPLITS

if TYPE_CHECKING:
    from resnet_space.data.archives.tables import Labels, Table

EXPECTED = (
    "put the images of each class into a folder named after the class (cats/1.jpg, dogs/2.jpg), and those folders, if "
    "you have splits, into folders named train, validation and test (train/cats/1.jpg)"
)
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
class Wishes:
    """What is to be decided otherwise than it would be: see `import_archive`."""

    label_column: str | None = None
    image_column: str | None = None
    folders: Literal["merge", "keep"] | None = None


@dataclass(frozen=True)
class Placed:
    """Where an image's folders put it: the split whose folder it is in, or None, and the folders from its class on."""

    split: str | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """The data set to be written: images by split and class, in the order of both and of their names."""

    classes: tuple[str, ...]
    images: dict[str, dict[str, list[SpooledImage]]]
    warnings: tuple[str, ...]
    decisions: list[Decision] = field(default_factory=list)
    choices: dict[str, list[str]] = field(default_factory=dict)


def select(
    found: Sequence[SpooledImage],
    skipped: SkippedFiles,
    limits: Limits,
    tables: "Sequence[Table]" = (),
    wishes: Wishes = Wishes(),
) -> Selection:
    """Sort images into splits and classes, and leave out those that would make a test worthless.

    Without split folders all images are for training. A class is one that can be learned, so that it is in the training
    split. Of exact copies in several splits the training's stays, and the test's rather than the validation's: a model
    must not be judged by what it has seen.

    Raises:
        UserError: where the folders do not make a data set.
    """
    from resnet_space.data.archives.tables import labels_from_names, labels_from_tables

    placed, decisions = locate([image.folders for image in found])
    choices: dict[str, list[str]] = {}
    labelled = labels_from_tables(found, placed, tables, wishes.label_column, wishes.image_column)
    if labelled is None and len({names[1] for names in _classes(placed) if names}) < 2:
        labelled = labels_from_names(found, placed)
    if labelled is not None:
        choices |= labelled.choices
    if labelled is not None and labelled.wanted:
        decisions += labelled.decisions
        where = _labelled(labelled, placed)
    else:
        if labelled is not None:
            columns = labelled.choices.get("label_column", [])
            said = f"The folders are the classes, and not the table {named(table.name for table in labelled.tables)}"
            choices["label_column"] = columns or [labelled.label]
            decisions.append(Decision("table", f"{said}, whose column {labelled.label!r} could be taken instead."))
        placed, merged = _merged(placed, wishes.folders)
        if merged is not None:
            decisions.append(merged)
            choices["folders"] = ["merge", "keep"]
        where = _classes(placed)
    for table in tables:
        if labelled is None or not labelled.wanted or table not in labelled.tables:
            skipped.add("/".join((*table.folders, table.name)), table.problem)
    sets: dict[str, dict[str, list[SpooledImage]]] = {split: defaultdict(list) for split in SPLITS}
    aside: Counter[str] = Counter()
    for image, place_of in zip(found, where, strict=True):
        if place_of is None:
            reason = "It is in no class folder, or beside the folders of the splits."
            if labelled is not None and labelled.wanted:
                reason = "It has no label."
            skipped.add("/".join((*image.folders, image.name)), reason)
            aside["/".join(image.folders)] += 1
        else:
            sets[place_of[0]][place_of[1]].append(image)
    if aside and any(sets.values()):
        folders = named(folder or "the outermost folder" for folder in aside)
        were = "was" if sum(aside.values()) == 1 else "were"
        decisions.append(
            Decision("set aside", f"{images(sum(aside.values()))} without a class {were} set aside: in {folders}.")
        )
    if not any(sets.values()):
        raise UserError(f"The images are not in class folders: {EXPECTED}.")
    if not sets["train"]:
        raise UserError(f"There are only images to test with, none to learn from: {EXPECTED}.")
    decisions += _match_case(sets)
    classes = tuple(sorted(sets["train"], key=natural_order))
    if len(classes) < 2:
        raise UserError(f"There is only one class to learn, {classes[0]!r}, but at least two are needed: {EXPECTED}.")
    if len(classes) > limits.classes:
        raise UserError(f"There are {len(classes):,} classes, but at most {limits.classes:,} are allowed.")

    warnings = _drop_unlearned(sets, classes, skipped)
    for split in SPLITS:
        sets[split] = {name: sorted(sets[split][name], key=_by_name) for name in classes if sets[split].get(name)}
    warnings += _drop_copies(sets)
    sets = {split: members for split, members in sets.items() if members}
    return Selection(classes, sets, (*warnings, *_class_warnings(sets, classes)), decisions, choices)


def place(folders: Sequence[tuple[str, ...]]) -> list[tuple[str, str] | None]:
    """(split, class) of each image, or None, from the folders that it is in.

    Layouts are class, split/class and class/split, within any number of folders that wrap it all, or all of a split.
    Folders deeper down count to the class that they are in. Images in no split's folder are for training, unless there
    is a folder for that. A folder "train" with images, beside others and with no split anywhere, is a class: that of
    trains.
    """
    return _classes(locate(folders)[0])


def locate(folders: Sequence[tuple[str, ...]]) -> tuple[list[Placed], list[Decision]]:
    """Which split and class each image is in, and what is to be said of how the splits were found."""
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
        at, in_splits = [None] * len(paths), []
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


def _classes(placed: Sequence[Placed]) -> list[tuple[str, str] | None]:
    has_train = any(where.split == "train" for where in placed)

    def class_of(where: Placed) -> tuple[str, str] | None:
        split = where.split or (None if has_train else "train")
        return (split, where.names[0]) if split and where.names else None

    return [class_of(where) for where in placed]


def _labelled(labelled: "Labels", placed: Sequence[Placed]) -> list[tuple[str, str] | None]:
    """As `_classes`, with labels from a table."""
    splits = [said or where.split for said, where in zip(labelled.splits, placed, strict=True)]
    return [
        None if label is None else (split or "train", label)
        for split, label in zip(splits, labelled.labels, strict=True)
    ]


def keyword_split(name: str) -> str | None:
    """The split that a folder's or file's name has a word for, where it has one for one only."""
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


def _merged(placed: list[Placed], wish: str | None) -> tuple[list[Placed], Decision | None]:
    """Cameras, folds or patients with the same classes in each are no classes: theirs are merged, unless kept."""
    outer: list[str] = []
    result = placed
    while shared := _same_inside(result):
        outer.append(named(shared))
        if wish == "keep":
            said = f"The folders {outer[0]} are the classes, although all of them hold the same folders."
            return placed, Decision("merged", said)
        result = [Placed(where.split, where.names[1:]) for where in result]
    if not outer:
        return placed, None
    said = f"The folders {' and '.join(outer)} all hold the same folders, which are the classes: they were merged."
    return result, Decision("merged", said)


def _same_inside(placed: Sequence[Placed]) -> list[str]:
    """The classes' names where all of them hold the same two or more folders, and no image beside these; else none."""
    has_train = any(where.split == "train" for where in placed)
    inside: dict[str, set[str]] = defaultdict(set)
    for where in placed:
        if where.names and where.split == ("train" if has_train else None):
            if len(where.names) == 1:
                return []
            inside[where.names[0]].add(where.names[1].casefold())
    shared = set.intersection(*inside.values()) if inside else set()
    return sorted(inside, key=natural_order) if len(inside) > 1 and len(shared) > 1 else []


def _match_case(sets: dict[str, dict[str, list[SpooledImage]]]) -> list[Decision]:
    """Take a class of another split for the training's that differs in case only, in place, where there is one."""
    learned: dict[str, list[str]] = defaultdict(list)
    for name in sets["train"]:
        learned[name.casefold()].append(name)
    decisions = []
    for split in SPLITS[1:]:
        for name in [name for name in sets[split] if name not in sets["train"]]:
            alike = learned.get(name.casefold(), [])
            if len(alike) == 1:
                sets[split][alike[0]] = [*sets[split].get(alike[0], ()), *sets[split].pop(name)]
                said = f"The class {name!r} of the {split} split was taken for {alike[0]!r}."
                decisions.append(Decision("class names", said))
    return decisions


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
