"""ImageNet-1k, which most pretrained weights were trained on."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

IMAGENET = "ILSVRC/imagenet-1k"  # on the Hub
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue, as most weights take them
IMAGENET_STD = (0.229, 0.224, 0.225)


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The names of its 1,000 classes, in the order that torchvision and timm have."""
    package = find_spec("torchvision")
    assert package is not None
    assert package.origin is not None
    # torchvision's list, from its file: to import torchvision takes seconds, and the file imports nothing.
    categories: list[str] = run_path(str(Path(package.origin).parent / "models" / "_meta.py"))["_IMAGENET_CATEGORIES"]
    return tuple(categories)
