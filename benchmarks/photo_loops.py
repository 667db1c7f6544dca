"""Two ways in which others fine-tune on photographs, for `benchmarks/photos.py`: the tutorials' loop, and fastai's.

`python benchmarks/photo_loops.py tutorial|fastai ZIP WEIGHTS.safetensors SECONDS`. Prints a JSON line with the accuracy
on the validation photographs after each epoch, and ends with the first after so many seconds. Both have the ImageNet
weights of timm's tf_efficientnet_lite0, float32, 224 pixels, and nothing of this package.
"""

import json
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ARCHITECTURE = "tf_efficientnet_lite0"
BATCH, WORKERS = 64, 2
FROZEN_EPOCHS, EPOCHS = 5, 40  # of the tutorials
FASTAI_EPOCHS = 5


def say(accuracy: float) -> None:
    print(json.dumps({"accuracy": accuracy}), flush=True)


def unpacked(archive: Path, folder: Path) -> Path:
    """The folder in which train/ and val/ are."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    return next(path.parent for path in folder.rglob("train") if path.is_dir())


def weights(file: Path) -> dict[str, torch.Tensor]:
    """Without the head."""
    return {name: value.float() for name, value in load_file(file).items() if not name.startswith("classifier.")}


def tutorial(data: Path, file: Path, deadline: float) -> None:
    """Freeze all but the head, Adam at 1e-3; after five epochs unfreeze all, at 1e-4."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    finish = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    jitter = transforms.ColorJitter(0.2, 0.2, 0.2)
    augment = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), jitter, *finish]
    look = [transforms.Resize(256), transforms.CenterCrop(224), *finish]
    train_set = ImageFolder(str(data / "train"), transforms.Compose(augment))
    validation_set = ImageFolder(str(data / "val"), transforms.Compose(look))
    train = DataLoader(train_set, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    validation = DataLoader(validation_set, BATCH, num_workers=WORKERS, persistent_workers=True)
    model = timm.create_model(ARCHITECTURE, num_classes=len(train_set.classes))
    model.load_state_dict(weights(file), strict=False)
    for epoch in range(EPOCHS):
        if epoch in (0, FROZEN_EPOCHS):
            frozen = epoch == 0
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(not frozen or name.startswith("classifier."))
            learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
            optimizer = torch.optim.Adam(learned, lr=1e-3 if frozen else 1e-4, weight_decay=1e-4)
        model.train()
        for images, labels in train:
            optimizer.zero_grad()  # pyrefly: ignore[unbound-name]  # the first epoch makes it
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for images, labels in validation:
                right += int((model(images).argmax(1) == labels).sum())
        say(right / len(validation_set))
        if time.monotonic() > deadline:
            return


def fastai(data: Path, file: Path, deadline: float) -> None:
    """`vision_learner(...).fine_tune(...)` with its defaults: one epoch with a frozen body, then all of it."""
    from fastai.vision import all as vision

    class Tell(vision.Callback):
        order = 60  # after the recorder

        def after_epoch(self) -> None:
            say(float(self.recorder.values[-1][-1]))
            if time.monotonic() > deadline:
                raise vision.CancelFitException

    dls: Any = vision.ImageDataLoaders.from_folder(
        data,
        train="train",
        valid="val",
        item_tfms=vision.Resize(256),
        batch_tfms=[*vision.aug_transforms(size=224), vision.Normalize.from_stats(MEAN, STD)],
        bs=BATCH,
        num_workers=WORKERS,
    )
    learner = vision.vision_learner(
        dls, ARCHITECTURE, pretrained=False, normalize=False, metrics=vision.accuracy, cbs=[Tell()]
    )
    missing = learner.model[0].model.load_state_dict(weights(file), strict=False).missing_keys
    if missing:
        raise RuntimeError(f"fastai's body lacks {missing[:3]}")
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(FASTAI_EPOCHS)


def main() -> None:
    which, archive, file, seconds = sys.argv[1:]
    deadline = time.monotonic() + float(seconds)
    with tempfile.TemporaryDirectory() as folder:
        data = unpacked(Path(archive), Path(folder))
        (tutorial if which == "tutorial" else fastai)(data, Path(file), deadline)


if __name__ == "__main__":
    main()
