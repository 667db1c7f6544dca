"""A head before and after a review: solved on a dataset and on its new version, judged on the same test pictures.

Both are linear probes on the same frozen features, as the strategy `linear-probe` trains them: the same pictures, but
for those that were dropped, to learn from, and the same ones to choose the penalty by.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.common.steps import Steps
from resnet_space.config import TrainConfig
from resnet_space.data.decisions import Manifest, read_manifest
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import dataset_folder, open_dataset
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.data.summary import image_settings, summarise
from resnet_space.data.versions import file_digests
from resnet_space.runs import Run
from resnet_space.training.comparing import loaded
from resnet_space.training.device import choose_device
from resnet_space.training.feature_store import FeatureStore
from resnet_space.training.probe import Probe
from resnet_space.training.review import BeforeAfter
from resnet_space.training.solver import PENALTIES
from resnet_space.training.work import Underway

DECODED, FEATURES = 0.2, 0.6  # how much of the whole is done after each phase


class Judging(Underway[BeforeAfter]):
    """Solve and judge both heads; see `checking.Check` for the arguments.

    It raises UserError where `asked.dataset` is no version, or its source is gone or has changed.
    """

    def __init__(self, asked: BeforeAfter, run: Run, store: FeatureStore, folder: Path | None = None) -> None:
        super().__init__(replace(asked, backbone=run.name))
        self.run, self.store, self.folder = run, store, folder

    def work(self) -> None:
        manifest = _manifest(self.now.dataset)
        ref = DatasetRef.parse(manifest.source)
        training = TrainConfig(**ref.settings)
        config, _ = image_settings(summarise(ref).side, self.run.config.model)
        decoding = self.teller("decoding", 0, DECODED)
        before = load_splits(training, config.stored_size, progress=decoding, folder=self.folder)
        config = replace(config, classes=before.train.classes)
        train, validation, test = (
            _changed(data, split, manifest)
            for data, split in (
                (before.train, "train"),
                (before.validation, before.validation_name),
                (before.test, before.test_name),
            )
        )
        labels = (
            test.labels if manifest.test_cleaned else before.test.labels[_kept(before.test, before.test_name, manifest)]
        )
        # Both are judged on the same pictures with the same labels, and have the same ones to choose the penalty by.
        after = replace(before, train=train, validation=validation, test=replace(test, labels=labels))
        before = replace(before, test=after.test)
        model = loaded(self.run, config).to(choose_device())
        right: list[Tensor] = []
        for i, splits in enumerate((before, after)):
            probe = Probe(model, config, splits, self.store)
            compute = self.teller("features", FEATURES if i else DECODED, FEATURES)
            for done in probe.compute():
                compute(done, probe.images)
            low, high = (FEATURES + (1 - FEATURES) * (i + step) / 2 for step in (0, 1))
            solving = self.teller("solving", low, high)
            steps = Steps(probe.solve(training.label_smoothing))
            for share, _ in steps:
                solving(round(share * len(PENALTIES)), len(PENALTIES))
            features = probe.known[id(after.test)].features
            right.append(steps.result.logits(features).argmax(1) == after.test.labels)
        first, second = right
        self.now = replace(
            self.now,
            images=len(first),
            before=int(first.sum()),
            after=int(second.sum()),
            gained=int((second & ~first).sum()),
            lost=int((first & ~second).sum()),
            learned=(len(before.train), len(after.train)),
            test_cleaned=manifest.test_cleaned,
        )


def _manifest(dataset: str) -> Manifest:
    manifest = None if "/" in dataset else read_manifest(dataset_folder(dataset))
    if manifest is None:
        raise UserError(f"{dataset} was not made by a review, so there is no dataset to compare it with.")
    if file_digests(open_dataset(DatasetRef.parse(manifest.source))) != manifest.files:
        raise UserError(f"{manifest.source} has changed since {dataset} was made from it: review it again.")
    return manifest


def _kept(data: ImageSet, split: str, manifest: Manifest) -> Tensor:
    """Positions of the pictures that the new version still has."""
    assert data.source is not None
    gone = manifest.dropped(split)
    return torch.tensor([i for i, row in enumerate(data.source.tolist()) if row not in gone], dtype=torch.int64)


def _changed(data: ImageSet, split: str, manifest: Manifest) -> ImageSet:
    """The same pictures as the new version has them."""
    kept = data.subset(_kept(data, split, manifest))
    assert kept.source is not None
    new, position = manifest.relabelled(split), {name: i for i, name in enumerate(data.classes)}
    labels = [
        position[new[row]] if row in new else label
        for row, label in zip(kept.source.tolist(), kept.labels.tolist(), strict=True)
    ]
    return replace(kept, labels=torch.tensor(labels, dtype=torch.int64))
