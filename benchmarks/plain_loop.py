"""A training loop in the manner of tutorials, for the benchmarks: prints a number for every line that it reads.

`python benchmarks/plain_loop.py DATASET ARCHITECTURE CBAM BATCH_SIZE WORKERS SEED`. The lines are "epoch", which trains
one and prints images/s, and "test", which prints the share of correct test images. A DataLoader (with workers that live
on) crops, flips and normalises PIL images one at a time; float32, NCHW, SGD at a constant rate, the loss read at every
step. A process of its own, as it shares no setting with the trainer.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.training.state import evaluate


class PILImages(Dataset[tuple[Tensor, int]]):
    """One PIL image at a time, as torchvision's CIFAR10 gives them."""

    def __init__(self, data: ImageSet, model: ModelConfig, padding: int) -> None:
        self.images, self.labels = data.images.numpy(), data.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(model.image_size, padding=padding),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(model.mean, model.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def main() -> None:
    dataset, architecture, cbam, batch_size, workers, seed = sys.argv[1:]
    model_config = ModelConfig(
        architecture,
        dataset_classes(dataset),
        options={"cbam": None if cbam == "none" else cbam},
    )
    training = TrainConfig(dataset=dataset, batch_size=int(batch_size), seed=int(seed))
    splits = load_splits(training, model_config.image_size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = DataLoader(
        PILImages(splits.train, model_config, training.crop_padding),
        batch_size=training.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=int(workers),
        persistent_workers=int(workers) > 0,
    )
    torch.manual_seed(training.seed)  # as the trainer begins
    model = model_config.build().to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=training.backbone_lr, momentum=training.momentum, weight_decay=training.weight_decay
    )
    for line in sys.stdin:
        if line.strip() == "test":
            print(evaluate(model, splits.test, model_config)[1], flush=True)
            continue
        model.train()
        started = time.perf_counter()
        running_loss = 0.0
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        print(len(loader) * training.batch_size / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
