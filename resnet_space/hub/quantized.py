"""An ONNX file with weights of 8 bits, a third of the size, and what that costs in accuracy.

Only large weights are rounded, each output channel by its own scale: small ones, as of the first layers, matter most
and take no room. Activations of 8 bits would need training images to measure their ranges, and cost more.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resnet_space.common.errors import UserError
from resnet_space.common.text import percent
from resnet_space.runs import Run
from resnet_space.training.run_images import splits_of

if TYPE_CHECKING:
    from onnx import NodeProto

TESTED, BATCH = 1_000, 32  # images
LEAST = 1 / 60  # of all values; smaller weights keep their 32 bits
LAYERS = ("Conv", "Gemm", "MatMul")
LEVELS = 127


@dataclass(frozen=True)
class Cost:
    """What 8 bits change, on some test images.

    Attributes:
        images: how many.
        before, after: the accuracy.
        agreement: the share of images that keep their class.
        difference: the mean over images of the largest change of a probability.
    """

    images: int
    before: float
    after: float
    agreement: float
    difference: float

    @property
    def words(self) -> str:
        return (
            f"On {self.images:,} test images, 8-bit weights change the accuracy from {percent(self.before)} to "
            f"{percent(self.after)}; {percent(self.agreement)} of the images keep their class, and a probability "
            f"changes by up to {self.difference:.3f} on average."
        )


def quantize(file: Path, path: Path) -> None:
    """Write the ONNX file with 8-bit weights to `path`."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(file, load_external_data=False)
    users = {name: node for node in model.graph.node if node.op_type in LAYERS for name in node.input}
    least = LEAST * sum(np.prod(weight.dims) for weight in model.graph.initializer)
    dequantized = []
    for weight in list(model.graph.initializer):
        node = users.get(weight.name)
        if node is None or weight.name.startswith("ood_") or len(weight.dims) < 2 or np.prod(weight.dims) < least:
            continue
        values: NDArray[np.float32] = numpy_helper.to_array(weight)
        axis = _output_axis(node, values.ndim)
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = np.abs(values).max(others, keepdims=True) / LEVELS
        scale = np.where(scale > 0, scale, 1).astype(np.float32)  # of a channel that is dead
        rounded, scales = f"{weight.name}_8_bits", f"{weight.name}_scale"
        model.graph.initializer.remove(weight)
        model.graph.initializer.append(numpy_helper.from_array((values / scale).round().astype(np.int8), rounded))
        model.graph.initializer.append(numpy_helper.from_array(scale.ravel(), scales))
        dequantized.append(helper.make_node("DequantizeLinear", [rounded, scales], [weight.name], axis=axis))
    nodes = [*dequantized, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


def _output_axis(node: "NodeProto", axes: int) -> int:
    """The axis of a weight along which the outputs lie."""
    is_transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if node.op_type == "Conv" or is_transposed else axes - 1


def cost_words(run: Run, before: Path, after: Path) -> str:
    """What the second file costs in accuracy compared with the first, as far as that can be told."""
    try:
        return _cost(run, before, after).words
    except UserError:
        dataset = run.config.training.dataset
        return f"The images of {dataset} are not on this machine, so what 8-bit weights cost in accuracy is not known."


def _cost(run: Run, before: Path, after: Path) -> Cost:
    import onnxruntime
    import torch

    test = splits_of(run).test
    chosen = torch.linspace(0, len(test) - 1, min(TESTED, len(test))).round().long()
    labels = test.labels[chosen].numpy()
    sessions = [onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in (before, after)]
    parts: list[list[Any]] = [[], []]
    for some in chosen.split(BATCH):
        images = test.pixels(some).numpy()
        for session, found in zip(sessions, parts, strict=True):
            found += session.run(["probabilities"], {"images": images})
    old, new = map(np.concatenate, parts)
    return Cost(
        images=len(labels),
        before=float((old.argmax(1) == labels).mean()),
        after=float((new.argmax(1) == labels).mean()),
        agreement=float((old.argmax(1) == new.argmax(1)).mean()),
        difference=float(np.abs(old - new).max(1).mean()),
    )
