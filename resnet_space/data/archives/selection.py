"""Select the images that can be used for training and testing, with their splits and classes."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from resnet_space.common.errors import UserError
from resnet_space.data.archives.layout import Placed, SpooledImage, locate, merge_repeated, split_and_class
from resnet_space.data.archives.members import ImportLimits
from resnet_space.data.archives.report import Decision, SkippedFiles
from resnet_space.data.archives.tables import Labels, Table, labels_from_names, labels_from_tables
from resnet_space.data.reference import SPLITS
from resnet_space.data.words import images, left_out, named, natural_order

EXPECTED = (
    "put the images of each class into a folder named after the class (cats/1.jpg, dogs/2.jpg), and those folders, if "
    "you have splits, into folders named train, validation and test (train/cats/1.jpg)"
)


@dataclass(frozen=True)
class ImportChoices:
    """Overrides of automatic decisions: see `import_archive`."""

    label_column: str | None = None
    image_column: str | None = None
    folders: Literal["merge", "keep"] | None = None


@dataclass(frozen=True)
class Selection:
    """The dataset to be written: images by split and class, in the order of both and of their names."""

    classes: tuple[str, ...]
    images: dict[str, dict[str, list[SpooledImage]]]
    warnings: tuple[str, ...]
    decisions: list[Decision] = field(default_factory=list)
    choices: dict[str, list[str]] = field(default_factory=dict)


def select(
    found: Sequence[SpooledImage],
    skipped: SkippedFiles,
    limits: ImportLimits,
    tables: Sequence[Table] = (),
    choices_made: ImportChoices = ImportChoices(),
) -> Selection:
    """Sort images into splits and classes, and leave out those that would invalidate a test.

    Without split folders, all images are for training. A class must occur in the training split. Of exact copies in
    several splits, the training copy stays, then the test copy before the validation copy: a model must not be tested
    on images it has seen.

    Raises:
        UserError: if the folders do not form a dataset.
    """
    placed, decisions = locate([image.folders for image in found])
    choices: dict[str, list[str]] = {}
    labelled = labels_from_tables(found, placed, tables, choices_made.label_column, choices_made.image_column)
    if labelled is None and len({names[1] for names in split_and_class(placed) if names}) < 2:
        labelled = labels_from_names(found, placed)
    if labelled is not None:
        choices |= labelled.choices
    if labelled is not None and labelled.wanted:
        decisions += labelled.decisions
        where = _labelled(labelled, placed)
    else:
        if labelled is not None:
            columns = labelled.choices.get("label_column", [])
            said = (
                "The classes come from the folders, not from the table "
                f"{named(table.name for table in labelled.tables)}"
            )
            choices["label_column"] = columns or [labelled.label]
            decisions.append(Decision("table", f"{said}, whose column {labelled.label!r} could be used instead."))
        placed, merge = merge_repeated(placed, choices_made.folders)
        if merge is not None:
            decisions.append(merge)
            choices["folders"] = ["merge", "keep"]
        where = split_and_class(placed)
    for table in tables:
        if labelled is None or not labelled.wanted or table not in labelled.tables:
            skipped.add("/".join((*table.folders, table.name)), table.problem)
    sets: dict[str, dict[str, list[SpooledImage]]] = {split: defaultdict(list) for split in SPLITS}
    aside: Counter[str] = Counter()
    for image, place_of in zip(found, where, strict=True):
        if place_of is None:
            reason = "It is not in a class folder, or lies next to the split folders."
            if labelled is not None and labelled.wanted:
                reason = "It has no label."
            skipped.add("/".join((*image.folders, image.name)), reason)
            aside["/".join(image.folders)] += 1
        else:
            sets[place_of[0]][place_of[1]].append(image)
    if aside and any(sets.values()):
        folders = named(folder or "the top-level folder" for folder in aside)
        were = "was" if sum(aside.values()) == 1 else "were"
        decisions.append(
            Decision("set aside", f"{images(sum(aside.values()))} without a class {were} set aside: in {folders}.")
        )
    if not any(sets.values()):
        raise UserError(f"The images are not in class folders: {EXPECTED}.")
    if not sets["train"]:
        raise UserError(f"There are only test images and no training images: {EXPECTED}.")
    decisions += _match_case(sets)
    classes = tuple(sorted(sets["train"], key=natural_order))
    if len(classes) < 2:
        raise UserError(f"There is only one class, {classes[0]!r}, but at least two are needed: {EXPECTED}.")
    if len(classes) > limits.classes:
        raise UserError(f"There are {len(classes):,} classes, more than the maximum of {limits.classes:,}.")

    warnings = _drop_unlearned(sets, classes, skipped)
    for split in SPLITS:
        sets[split] = {name: sorted(sets[split][name], key=_by_name) for name in classes if sets[split].get(name)}
    warnings += _drop_copies(sets)
    sets = {split: members for split, members in sets.items() if members}
    return Selection(classes, sets, (*warnings, *_class_warnings(sets, classes)), decisions, choices)


def _labelled(labelled: Labels, placed: Sequence[Placed]) -> list[tuple[str, str] | None]:
    """As `split_and_class`, with labels from a table."""
    splits = [said or where.split for said, where in zip(labelled.splits, placed, strict=True)]
    return [
        None if label is None else (split or "train", label)
        for split, label in zip(splits, labelled.labels, strict=True)
    ]


def _match_case(sets: dict[str, dict[str, list[SpooledImage]]]) -> list[Decision]:
    """Match classes of other splits to training classes that differ only in case, in place."""
    learned: dict[str, list[str]] = defaultdict(list)
    for name in sets["train"]:
        learned[name.casefold()].append(name)
    decisions = []
    for split in SPLITS[1:]:
        for name in [name for name in sets[split] if name not in sets["train"]]:
            alike = learned.get(name.casefold(), [])
            if len(alike) == 1:
                sets[split][alike[0]] = [*sets[split].get(alike[0], ()), *sets[split].pop(name)]
                said = f"The class {name!r} of the {split} split was matched to {alike[0]!r}."
                decisions.append(Decision("class names", said))
    return decisions


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
            warnings.append(
                f"{left_out(len(dropped), split)} because there are no training images of {named(unlearned)}."
            )
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
                f"{left_out(leaked, split)} because another split contains exact copies: a model "
                "must not be tested on its training images."
            )
        if repeated:
            warnings.append(f"{left_out(repeated, split)} because the same class contains exact copies.")
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
            f"There is only one image of {named(single)}: a single image cannot serve both to train and to test "
            "a class."
        )
    for split in SPLITS[1:]:
        missing = [name for name in classes if name not in sets.get(split, ())]
        if split in sets and missing:
            warnings.append(f"The {split} split has no images of {named(missing)}.")
    folded = Counter(name.casefold() for name in classes)
    colliding = [name for name in classes if folded[name.casefold()] > 1]
    if colliding:
        warnings.append(f"Some class names differ only in case: {named(colliding)}.")
    return warnings
