"""Who is held out: near-duplicates together, and for good, whatever is added."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binom
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.config import TrainConfig
from resnet_space.data import splits as splits_module
from resnet_space.data.checks.copies import first_copies, thumbnail
from resnet_space.data.held_out import drawn_together, stratified_indices, to_test_on
from resnet_space.data.mistakes import add_mistake
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import ImageSet, Splits, load_learnable, load_splits
from resnet_space.data.taught import NewPicture, TaughtSet, write_set
from tests.conftest import WriteSplit

CLASSES = ("left", "right")


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def photograph(seed: int) -> Image.Image:
    """Blobs, as different from those of another seed as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 95) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def copies_of(image: Image.Image) -> list[bytes]:
    """Recompressed, smaller, mirrored."""
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return [jpeg(image, 50), jpeg(image.resize((32, 32), Image.Resampling.BICUBIC)), jpeg(mirrored, 70)]


def sides(splits: Splits) -> dict[int, str]:
    """Of each picture, by the digest of its file."""
    of = {"learned": (splits.train, splits.validation), "test": (splits.test,)}
    return {
        content: side
        for side, sets in of.items()
        for data in sets
        if data.contents is not None
        for content in data.contents.tolist()
    }


# Who is tested on


def random_pictures(generator: np.random.Generator, count: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Digests, labels, and of each the first of its near-duplicates: a fifth are one of an earlier picture."""
    contents = torch.from_numpy(generator.integers(-(2**63), 2**63, count, dtype=np.int64))
    labels = torch.from_numpy(generator.integers(classes, size=count))
    first = torch.arange(count)
    for row in range(1, count):
        if generator.random() < 0.2:
            first[row] = first[generator.integers(row)]
    return contents, labels, first


def test_no_picture_changes_sides_in_a_dataset_that_grows() -> None:
    for seed in range(8):
        contents, labels, first = random_pictures(np.random.default_rng(seed), 80, 1 + seed % 6)
        before = np.zeros(0, dtype=bool)
        for count in range(1, 81):
            now = to_test_on(contents[:count], labels[:count], first[:count], 0.2, grows=True)
            assert now[: len(before)].tolist() == before.tolist()
            assert now.tolist() == now[first[:count].numpy()].tolist()
            before = now
            own = first[:count] == torch.arange(count)
            for label in labels[:count][own].unique():
                of_class = now[(own & (labels[:count] == label)).numpy()]
                assert len(of_class) < 2 or 0 < of_class.sum() < len(of_class)
            assert own.sum() < 2 or 0 < now[own.numpy()].sum() < own.sum()


def test_nothing_that_was_learned_is_tested_on_whatever_is_added_or_dropped_in_any_order() -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        contents, labels, _ = random_pictures(generator, 300, 3)
        some = torch.from_numpy(np.sort(generator.choice(300, 200, replace=False)))
        few, all_of_them = (
            dict(zip(contents[rows].tolist(), to_test_on(contents[rows], labels[rows], alone, 0.2), strict=True))
            for rows, alone in ((some, torch.arange(200)), (torch.randperm(300), torch.arange(300)))
        )
        assert {content: all_of_them[content] for content in few} == few


def test_a_stand_in_may_be_learned_from_later_but_none_is_made_of_what_was_learned() -> None:
    generator = np.random.default_rng(0)
    replaced = 0
    for _ in range(300):
        contents, labels, _ = random_pictures(generator, 12, 2)
        alone = torch.arange(12)
        few = to_test_on(contents[:6], labels[:6], alone[:6], 0.2)
        grown = to_test_on(contents, labels, alone, 0.2)[:6]
        below = (contents[:6].numpy().view(np.uint64) / 2.0**64) < 0.2
        for label in (0, 1):
            own = (labels[:6] == label).numpy()
            if own.sum() < 2:
                continue
            assert 0 < few[own].sum() < own.sum()
            if not below[own].all():
                assert not (grown & ~few)[own].any()
            replaced += int((few & ~grown)[own].any())
    assert replaced


@pytest.mark.parametrize("grows", [True, False])
def test_the_share_is_near_what_is_asked_for(grows: bool) -> None:
    contents, labels, _ = random_pictures(np.random.default_rng(1), 5_000, 10)
    tests = to_test_on(contents, labels, torch.arange(5_000), 0.2, grows=grows)
    low, high = binom.ppf([0.001, 0.999], 5_000, 0.2)
    assert low <= tests.sum() <= high + 10  # a stand-in of each class


def test_kept_mistakes_keep_who_is_tested_on(data_folder: Path) -> None:
    folder = data_folder / "mistakes-of-a-run"
    before: dict[int, str] = {}
    for i in range(25):
        add_mistake(folder, CLASSES, jpeg(photograph(i)), f"{i}.jpg", CLASSES[i % 3 == 0])
        if i < 5 or i % 3:
            continue
        now = sides(load_splits(TrainConfig(folder.name, seed=i), 16))  # the seed plays no part
        assert before.items() <= now.items()
        before = now
    assert {"learned", "test"} == set(before.values())
    learnable = load_learnable(DatasetRef(folder.name), 8, 100, seed=3).contents
    assert learnable is not None
    assert sorted(learnable.tolist()) == sorted(content for content, side in before.items() if side == "learned")


def test_a_taught_set_keeps_who_is_tested_on_and_a_copy_goes_with_its_original(data_folder: Path) -> None:
    empty = TaughtSet(data_folder / "things").with_class("left").with_class("right")
    pictures = [NewPicture(jpeg(photograph(i)), f"{i}.jpg") for i in range(20)]
    taught = empty.with_pictures(pictures[:10], 1).with_pictures(pictures[10:], 2)
    write_set(taught, None, pictures)
    before = load_splits(TrainConfig("things"), 16)
    extra = [NewPicture(copy, "copy.jpg") for i in range(20) for copy in copies_of(photograph(i))[:1]]
    grown = taught.with_pictures(extra[:10], 1).with_pictures(extra[10:], 2)
    write_set(grown, taught, extra)
    after = load_splits(TrainConfig("things"), 16)
    assert sides(before).items() <= sides(after).items()
    assert len(after.test) == 2 * len(before.test)
    assert after.notes == ("20 near-duplicates were kept on one side of the split.",)


# Near-duplicates


def divided(folder: Path, write_split: WriteSplit, encoded: Sequence[bytes], **settings: object) -> Splits:
    write_split(folder / "photos", "train", encoded, [i % 2 for i in range(len(encoded))], CLASSES)
    return load_splits(TrainConfig("photos", **settings), 16)


def test_near_duplicates_are_never_in_two_parts(data_folder: Path, write_split: WriteSplit) -> None:
    encoded = [jpeg(photograph(i)) for i in range(60)]
    for i in range(0, 60, 4):
        encoded += copies_of(photograph(i))
    group = [*range(60), *(i for i in range(0, 60, 4) for _ in range(3))]
    splits = divided(data_folder, write_split, encoded, validation_fraction=0.2)
    assert splits.notes == ("45 near-duplicates were kept on one side of the split.",)
    parts = [{group[row] for row in part.source.tolist()} for part in parts_of(splits) if part.source is not None]
    assert len(parts[0] | parts[1] | parts[2]) == sum(map(len, parts)) == 60
    drawn = divided(data_folder, write_split, encoded, validation_fraction=0.2, grouped_split=False)
    parts = [{group[row] for row in part.source.tolist()} for part in parts_of(drawn) if part.source is not None]
    assert sum(map(len, parts)) > 60
    assert drawn.notes == ()


def parts_of(splits: Splits) -> tuple[ImageSet, ImageSet, ImageSet]:
    return splits.train, splits.validation, splits.test


def test_of_too_many_pictures_the_same_files_are_kept_together(
    data_folder: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits_module, "MOST_COMPARED", 30)
    encoded = [jpeg(photograph(i % 20)) for i in range(40)]
    assert divided(data_folder, write_split, encoded).notes == (
        "20 near-duplicates were kept on one side of the split.",
    )


def test_one_picture_many_times_cannot_be_divided(data_folder: Path, write_split: WriteSplit) -> None:
    with pytest.raises(UserError, match="too few different images"):
        divided(data_folder, write_split, [jpeg(photograph(0))] * 20)
    assert len(divided(data_folder, write_split, [jpeg(photograph(0))] * 20, grouped_split=False).test) == 4


def test_the_bundled_test_pictures_that_are_copies_are_told_and_stay() -> None:
    """There are seven, which a check finds that takes longer."""
    found = load_splits(TrainConfig("cifar10-mini"), 8)
    drawn = load_splits(TrainConfig("cifar10-mini", grouped_split=False), 8)
    assert torch.equal(found.test.images, drawn.test.images)
    assert found.test.copies is not None
    copies = (found.test.copies < 2_000).nonzero().flatten().tolist()
    assert len(copies) >= 5
    assert set(copies) <= {191, 410, 486, 533, 819, 922, 988}
    told = f"At least {len(copies)} of the 1,000 test images have a near-duplicate among the training images"
    assert any(sentence.startswith(told) for sentence in found.notes)
    assert drawn.notes == ()


def test_later_pictures_do_not_change_whose_copy_a_picture_is() -> None:
    generator = np.random.default_rng(0)
    pictures = []
    for i in range(40):
        pictures += [photograph(i), *(Image.open(io.BytesIO(copy)) for copy in copies_of(photograph(i)))]
    thumbnails = torch.stack([thumbnail(pictures[row]) for row in generator.permutation(len(pictures))])
    whole = first_copies(thumbnails)
    assert len(whole.unique()) == 40
    for count in (1, 2, 3, 10, 77, 120):
        assert first_copies(thumbnails[:count]).tolist() == whole[:count].tolist()


@pytest.mark.parametrize("seed", range(3))
def test_without_copies_pictures_are_drawn_as_before(seed: int) -> None:
    labels = torch.randint(5, (200,), generator=torch.Generator().manual_seed(seed))
    for own, other in zip(
        drawn_together(labels, torch.arange(200), 30, seed), stratified_indices(labels, 30, seed), strict=True
    ):
        assert own.tolist() == other.tolist()


def test_what_is_drawn_together_is_of_the_size_that_is_asked_for() -> None:
    labels = torch.arange(200) % 5
    copies = torch.arange(200)
    copies[100:160] = 40  # a film
    copies[160:] = torch.arange(120, 160) % 20
    taken, rest = drawn_together(labels, copies, 30, 0)
    assert len(taken) == 30
    assert not set(copies[taken].tolist()) & set(copies[rest].tolist())
    assert sorted([*taken.tolist(), *rest.tolist()]) == list(range(200))
