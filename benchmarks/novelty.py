"""What is called unusual: `python benchmarks/novelty.py DATA_FOLDER [--pictures ZIP] [--save]`.

The shipped CIFAR-10 model's own score (`resnet_space.explain.ood`) beside the energy score (Liu et al. 2020) and the
highest probability, each with the limit within which 95 % of its validation images lie: the share of images called
unusual, and the AUROC against the CIFAR-10 test images. DATA_FOLDER holds `cifar10/` and `tiny-imagenet-32/`, as for
`train_shipped.py`; of the latter the classes that CIFAR-10 has too are left out. ZIP has photographs of anything else.
"""

import argparse
import io
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.data.batches import normalise
from resnet_space.data.images import open_image, to_model_size
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, split_files
from resnet_space.data.splits import load_split, load_splits
from resnet_space.explain.ood import WITHIN, recorded_means
from resnet_space.inference import Classifier
from resnet_space.runs import SHOWPIECE, Run

# Of Tiny-ImageNet, by their meaning.
ALSO_IN_CIFAR10 = set(
    """Persian cat, tabby, Egyptian cat, German shepherd, Labrador retriever, golden retriever, Yorkshire terrier,
    Chihuahua, standard poodle, sports car, convertible, beach wagon, limousine, moving van, police van, trolleybus,
    school bus, bullfrog, tailed frog, goose, albatross, king penguin, black stork, crane, gazelle, lifeboat, gondola,
    ox, jinrikisha""".replace("\n   ", "").split(", ")
)


def made_up(size: int) -> dict[str, NDArray[np.uint8]]:
    """Blank images, noise and patterns, by what they are."""
    random = np.random.default_rng(0)
    shape = (200, size, size, 3)

    def flat(levels: Any) -> NDArray[np.uint8]:
        return np.broadcast_to(np.reshape(levels, (len(levels), 1, 1, -1)), (len(levels), size, size, 3)).astype(
            np.uint8
        )

    boards = [(np.indices((size, size)) // k).sum(0) for k in (1, 2, 4, 8, 16)]
    noise = random.integers(0, 256, (50, 256, 256, 3), dtype=np.uint8)
    return {
        "black, white and grey": flat([[0], [255], [128]]),
        "one grey": flat(np.linspace(0, 255, 64)[:, None]),
        "one colour": flat(random.integers(0, 256, (200, 3))),
        "uniform noise": random.integers(0, 256, shape, dtype=np.uint8),
        "Gaussian noise, sd 64": np.clip(128 + 64 * random.standard_normal(shape), 0, 255).astype(np.uint8),
        "Gaussian noise, sd 20": np.clip(128 + 20 * random.standard_normal(shape), 0, 255).astype(np.uint8),
        "grey noise": np.repeat(random.integers(0, 256, (*shape[:3], 1), dtype=np.uint8), 3, 3),
        "uniform noise of 256 px": np.stack([_shrunk(image, size) for image in noise]),
        "checkerboards": np.stack([np.repeat((board % 2 * 255)[..., None], 3, 2).astype(np.uint8) for board in boards]),
    }


def _shrunk(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(to_model_size(Image.fromarray(pixels), size))


def scores(classifier: Classifier, images: Tensor) -> dict[str, NDArray[np.float64]]:
    """By name, the higher the stranger: [N] each, of images uint8 [N, H, W, 3]."""
    assert classifier.feature_statistics is not None
    logits, means = list[Tensor](), list[Tensor]()
    with torch.inference_mode():
        for batch in images.split(500):
            with recorded_means(classifier.model) as found:
                logits.append(classifier.model(normalise(batch, classifier.config)))
            means += found
    whole = torch.cat(logits)
    return {
        "features": classifier.feature_statistics.ood_score(torch.cat(means).numpy()).astype(np.float64),
        "energy": -whole.logsumexp(1).double().numpy(),
        "highest probability": -whole.softmax(1).amax(1).double().numpy(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_folder", type=Path)
    parser.add_argument("--pictures", type=Path, metavar="ZIP")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/novelty.json")
    arguments = parser.parse_args()
    os.environ[DATA_FOLDER_VARIABLE] = str(arguments.data_folder.resolve())

    run = Run.open(ROOT / "checkpoints" / SHOWPIECE)
    classifier, size = Classifier(run), run.config.model.image_size
    splits = load_splits(run.config.training, size)
    tiny = split_files("tiny-imagenet-32")
    other = load_split(tiny.get("validation") or tiny["valid"], size)
    unknown = torch.tensor([other.classes[label] not in ALSO_IN_CIFAR10 for label in other.labels.tolist()])
    sets = {"CIFAR-10 test": splits.test.images, "Tiny-ImageNet, other classes": other.images[unknown]}
    if arguments.pictures:
        with zipfile.ZipFile(arguments.pictures) as archive:
            files = [name for name in archive.namelist() if name.endswith(".jpg")]
            opened = [open_image(io.BytesIO(archive.read(name))) for name in files]
        sets[arguments.pictures.stem] = torch.from_numpy(
            np.stack([np.asarray(to_model_size(image, size)) for image in opened])
        )
    sets |= {name: torch.from_numpy(images) for name, images in made_up(size).items()}

    limits = {name: np.quantile(s, WITHIN) for name, s in scores(classifier, splits.validation.images).items()}
    limits["features"] = np.float64(1)
    usual = scores(classifier, sets["CIFAR-10 test"])
    results: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'':32}" + "".join(f"{name:>24}" for name in limits))
    for title, images in sets.items():
        found = scores(classifier, images)
        results[title] = {name: _judged(found[name], usual[name], limits[name]) for name in limits}
        cells = (f"{r['unusual']:11.1%} AUROC {r['auroc']:.3f}" for r in results[title].values())
        print(f"{title:32}" + "".join(f"{cell:>24}" for cell in cells) + f"   ({len(images):,})")
    if arguments.save:
        save("novelty", {"within": WITHIN, "sets": results})


def _judged(found: NDArray[np.float64], usual: NDArray[np.float64], limit: np.float64) -> dict[str, float]:
    labels = np.repeat([0, 1], [len(usual), len(found)])
    auroc: Callable[..., float] = roc_auc_score
    return {
        "unusual": round(float((found > limit).mean()), 4),
        "auroc": round(float(auroc(labels, np.concatenate([usual, found]))), 4),
    }


if __name__ == "__main__":
    main()
