"""Ways of making an ONNX file small, by size and by what they change: `python benchmarks/small_weights.py
HYMENOPTERA_ZIP [RUN_DIR=DATASET ...] [--save]`.

Each way rounds the weights of the same file, but for tiny ones. The first leaves small ones at 32 bits, the others at
16. What a way needs to know, it learns on training pictures; it is judged on test pictures, by the changes of
probabilities and of the top five. By default: the shipped EfficientNet-Lite0 on the photographs of the archive, and the
shipped ResNet-20 with CBAM on `cifar10-mini`. "12 bits" is what the app writes; for other ways, the size is computed.

- channel: 8 bits, rounded to nearest, with a scale for each output channel from its largest value.
- block: the same with a scale, of 32 bits, for every 32 weights in a row.
- least squares: a scale for each channel that makes the squared error smallest.
- compensated: GPTQ (Frantar et al. 2023), for dense layers and 1 x 1 convolutions: the weights of an output make up for
  what those before them lose, by the correlations of the layer's inputs.
- mixed: 8 bits where they change the logits of the training pictures least per byte, 16 elsewhere; as many layers as
  keep the probabilities of the training pictures to within 0.01.
- 16 bits: float16.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.config import TrainConfig
from resnet_space.data.archives import import_archive
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.hub.export import write_onnx
from resnet_space.hub.quantized import BATCH, LARGE, LAYERS, MOST, TINY, _output_axis, quantize
from resnet_space.runs import PHOTO_BACKBONE, SHOWPIECE, Run

Weights = NDArray[Any]  # floats
LEARNED, JUDGED = 128, 1_000  # pictures at most


class Network:
    """An ONNX file with its weights that can be rounded, each as a matrix [outputs, inputs]."""

    def __init__(self, file: Path) -> None:
        self.model = onnx.load(file)
        self.bytes = file.stat().st_size
        users = {name: node for node in self.model.graph.node if node.op_type in LAYERS for name in node.input}
        total = sum(np.prod(weight.dims) for weight in self.model.graph.initializer)
        self.weights: dict[str, Weights] = {}
        self.large: list[str] = []
        self.inputs: dict[str, str] = {}  # of layers whose outputs are one matrix product of their inputs
        self.axes: dict[str, int] = {}
        for weight in self.model.graph.initializer:
            node, name = users.get(weight.name), weight.name
            small = np.prod(weight.dims) < TINY * total
            if node is None or name.startswith("ood_") or len(weight.dims) < 2 or small:
                continue
            self.axes[name] = _output_axis(node, len(weight.dims))
            values = np.moveaxis(numpy_helper.to_array(weight), self.axes[name], 0)
            self.weights[name] = values.reshape(len(values), -1)
            if values.size >= LARGE * total:
                self.large.append(name)
            if node.op_type != "Conv" or (values.shape[2:] == (1, 1) and values.shape[1] > 1):
                self.inputs[name] = node.input[0]

    def logits(self, pictures: NDArray[np.uint8], rounded: dict[str, Weights]) -> Weights:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for weight in model.graph.initializer:
            if weight.name in rounded:
                axis = self.axes[weight.name]
                shape = [weight.dims[axis], *(n for i, n in enumerate(weight.dims) if i != axis)]
                values = np.moveaxis(rounded[weight.name].reshape(shape), 0, axis)
                weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), weight.name))
        return outputs(model.SerializeToString(), pictures, "logits")

    def correlations(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
        """By weight, the sum over pictures and positions of x xᵀ for its layer's inputs x."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        names = sorted({self.inputs[name] for name in self.large if name in self.inputs})
        model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        sums: dict[str, Any] = dict.fromkeys(names, 0)
        for start in range(0, len(pictures), 8):
            for name, values in zip(names, session.run(names, {"images": pictures[start : start + 8]}), strict=True):
                rows = (np.moveaxis(values, 1, -1) if values.ndim == 4 else values).astype(np.float64)
                rows = rows.reshape(-1, rows.shape[-1])
                sums[name] = sums[name] + rows.T @ rows
        return {name: sums[self.inputs[name]] for name in self.large if name in self.inputs}


def outputs(file: bytes | Path, pictures: NDArray[np.uint8], name: str) -> Weights:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    starts = range(0, len(pictures), BATCH)
    found: Weights = np.concatenate([session.run([name], {"images": pictures[i : i + BATCH]})[0] for i in starts])
    return found


def rounded(values: Weights, scale: NDArray[Any]) -> Weights:
    scale = np.where(scale > 0, scale, 1)
    found: Weights = np.clip((values / scale).round(), -127, 127) * scale
    return found


def by_channel(values: Weights) -> Weights:
    return rounded(values, np.abs(values).max(1, keepdims=True) / 127)


def by_block(values: Weights) -> Weights:
    padded = np.pad(values, ((0, 0), (0, -values.shape[1] % 32))).reshape(len(values), -1, 32)
    found = rounded(padded, np.abs(padded).max(2, keepdims=True) / 127)
    return found.reshape(len(values), -1)[:, : values.shape[1]]


def by_least_squares(values: Weights) -> Weights:
    largest = np.abs(values).max(1, keepdims=True) / 127
    tried: Weights = np.stack([rounded(values, largest * share) for share in np.linspace(0.7, 1, 31)])
    best = ((tried - values) ** 2).sum(2).argmin(0)
    found: Weights = tried[best, np.arange(len(values))]
    return found


def compensated(values: Weights, correlations: NDArray[np.float64]) -> Weights:
    """GPTQ, inputs in the order of their size."""
    order = np.argsort(-np.diag(correlations))
    left = values[:, order].astype(np.float64)
    scale = np.abs(values).max(1) / 127
    damped = correlations[np.ix_(order, order)] + 0.01 * np.diag(correlations).mean() * np.eye(len(order))
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    found = np.empty_like(left)
    for i in range(len(order)):
        found[:, i] = rounded(left[:, i], scale)
        lost = (left[:, i] - found[:, i]) / factor[i, i]
        left[:, i:] -= np.outer(lost, factor[i, i:])
    return found[:, np.argsort(order)]


def softmax(logits: Weights, temperature: float) -> Weights:
    found: Weights = torch.from_numpy(logits / temperature).softmax(1).numpy()
    return found


def pictures_of(images: ImageSet, most: int) -> NDArray[np.uint8]:
    chosen = torch.linspace(0, len(images) - 1, min(most, len(images))).round().long()
    found: NDArray[np.uint8] = images.pixels(chosen).numpy()
    return found


def measured(run: Run, dataset: str) -> list[dict[str, Any]]:
    config = run.config.model
    splits = load_splits(TrainConfig(dataset=dataset), config.stored_size)
    learned, judged = pictures_of(splits.train, LEARNED), pictures_of(splits.test, JUDGED)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file, small = Path(folder) / "model.onnx", Path(folder) / "small.onnx"
        write_onnx(run, file)
        quantize(file, small)
        network = Network(file)
        large, weights = network.large, network.weights
        before = outputs(file, judged, "probabilities")
        half = {name: values.astype(np.float16).astype(np.float32) for name, values in weights.items()}

        def row(way: str, after: Weights, size: float) -> None:
            changes = np.abs(after - before).max(1)
            top = [np.sort(np.argsort(-values, kind="stable")[:, :5]) for values in (before, after)]
            rows.append(
                {
                    "run": run.name,
                    "dataset": dataset,
                    "pictures": len(judged),
                    "way": way,
                    "share_of_size": round(size / network.bytes, 3),
                    "largest_change": round(float(changes.max()), 4),
                    "mean_change": round(float(changes.mean()), 5),
                    "same_class": round(float((before.argmax(1) == after.argmax(1)).mean()), 4),
                    "same_top_five": round(float((top[0] == top[1]).all(1).mean()), 4),
                }
            )
            print(rows[-1], flush=True)

        def judge(way: str, some: dict[str, Weights], bits: float, *, others: float = 16) -> None:
            after = softmax(network.logits(judged, (half if others == 16 else {}) | some), config.temperature)
            share = {name: bits if name in some else others for name in weights}
            row(way, after, network.bytes - sum(weights[n].size * (32 - b) / 8 for n, b in share.items()))

        channel = {name: by_channel(weights[name]) for name in large}
        judge("channel, others 32 bits", channel, 8, others=32)
        judge("channel", channel, 8)
        judge("block", {name: by_block(weights[name]) for name in large}, 9)
        judge("least squares", {name: by_least_squares(weights[name]) for name in large}, 8)
        sums = network.correlations(learned)
        judge("compensated", channel | {name: compensated(weights[name], sums[name]) for name in sums}, 8)
        chosen = mixed(network, channel, half, learned, config.temperature)
        judge("mixed", {name: channel[name] for name in chosen}, 8)
        judge("16 bits", {}, 16)
        row("12 bits", outputs(small, judged, "probabilities"), small.stat().st_size)
    return rows


def mixed(
    network: Network,
    channel: dict[str, Weights],
    half: dict[str, Weights],
    learned: NDArray[np.uint8],
    temperature: float,
) -> list[str]:
    """The layers that get 8 bits."""
    before = network.logits(learned, {})

    def harm(name: str) -> float:
        changes = network.logits(learned, {name: channel[name]}) - before
        return float((changes**2).mean() / channel[name].size)

    order = sorted(channel, key=harm)
    for count in range(len(order), 0, -1):
        after = network.logits(learned, half | {name: channel[name] for name in order[:count]})
        if np.abs(softmax(after, temperature) - softmax(before, temperature)).max() <= MOST:
            return order[:count]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways of rounding weights.")
    parser.add_argument("archive", type=Path, metavar="HYMENOPTERA_ZIP")
    parser.add_argument("more", nargs="*", metavar="RUN_DIR=DATASET", help="of the bundled ones or a data folder's")
    parser.add_argument("--save", action="store_true", help="store the numbers in results/small_weights.json")
    given = parser.parse_args()
    shipped = ROOT / "checkpoints"
    pairs = [(shipped / PHOTO_BACKBONE, "hymenoptera"), (shipped / SHOWPIECE, "cifar10-mini")]
    pairs += [(Path(path), dataset) for path, _, dataset in (pair.rpartition("=") for pair in given.more)]
    with tempfile.TemporaryDirectory() as data:
        os.environ[DATA_FOLDER_VARIABLE] = data
        import_archive(given.archive, Path(data) / "hymenoptera")
        rows = [row for path, dataset in pairs for row in measured(Run.open(path), dataset)]
    if given.save:
        save("small_weights", {"rows": rows})


if __name__ == "__main__":
    main()
