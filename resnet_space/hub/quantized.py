"""A smaller ONNX file, whose large weights have 12 bits, and how much its answers differ.

Rounded to the common 8 bits, in any of the ways that `benchmarks/small_weights.py` compares, a shipped network changes
some probability by more than 0.01. Four bits more make errors of a sixteenth, for any network, and without pictures to
find out what it can bear. Each output channel has its own scale. Small weights, as of the first layers, matter most:
they get float16, and the smallest, which take no room, stay as they are.

The file has whole numbers, as int8 and half a byte, from which a runtime computes the weights once, when it loads the
file: so it is as fast as the other, and any runtime can read it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resnet_space.common.errors import UserError
from resnet_space.common.text import percent
from resnet_space.data.images import open_image
from resnet_space.data.sources import BUNDLED
from resnet_space.runs import Run
from resnet_space.training.run_images import splits_of

if TYPE_CHECKING:
    from onnx import NodeProto

TESTED, BATCH = 1_000, 32  # images
MOST = 0.01  # by which a probability may change
LARGE, TINY = 1 / 60, 1 / 1_000  # of all values: larger weights get 12 bits, smaller ones keep 32, others get 16
LAYERS = ("Conv", "Gemm", "MatMul")
LEVELS, HALF = 2047, 16  # of 12 bits with a sign, and of half a byte
HALVES = "half_bytes"  # float32 [256, 2]: what the halves of a byte stand for


@dataclass(frozen=True)
class Cost:
    """What smaller weights change.

    Attributes:
        images: on what, in words.
        accuracy: before and after, where labels are known.
        agreement: the share of images that keep their class.
        top: the share that keep their five most probable classes, in any order.
        difference: the largest change of a probability.
    """

    images: str
    accuracy: tuple[float, float] | None
    agreement: float
    top: float
    difference: float

    @property
    def words(self) -> str:
        accuracy = "The accuracy goes from {} to {}; ".format(*map(percent, self.accuracy)) if self.accuracy else ""
        kept = "" if self.difference <= MOST else f", above the {MOST:g} that this format should keep"
        return (
            f"On {self.images}, smaller weights change a probability by at most {self.difference:.4f}{kept}. {accuracy}"
            f"{percent(self.agreement)} keep their class, {percent(self.top)} their top five."
        )


def quantize(file: Path, path: Path) -> None:
    """Write the ONNX file with smaller weights to `path`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(file, load_external_data=False)
    users = {name: node for node in model.graph.node if node.op_type in LAYERS for name in node.input}
    total = sum(np.prod(weight.dims) for weight in model.graph.initializer)
    halves = np.stack(np.divmod(np.arange(HALF**2), HALF), axis=1) / HALF
    constants = [numpy_helper.from_array(halves.astype(np.float32), HALVES)]
    nodes: list[onnx.NodeProto] = []
    for weight in model.graph.initializer:
        name, node = weight.name, users.get(weight.name)
        values: NDArray[np.float32] = numpy_helper.to_array(weight)
        if node is None or name.startswith("ood_") or values.ndim < 2 or values.size < TINY * total:
            constants.append(weight)
            continue
        if values.size < LARGE * total or values.size % 2:
            parts: dict[str, NDArray[Any]] = {"float16": values.astype(np.float16)}
            nodes.append(helper.make_node("Cast", [f"{name}.float16"], [name], to=TensorProto.FLOAT))
        else:
            parts = _parts(values, _output_axis(node, values.ndim))
            nodes += [
                helper.make_node("Cast", [f"{name}.low"], [f"{name}.index"], to=TensorProto.INT32),
                helper.make_node("Gather", [HALVES, f"{name}.index"], [f"{name}.pairs"]),
                helper.make_node("Reshape", [f"{name}.pairs", f"{name}.shape"], [f"{name}.fraction"]),
                helper.make_node("Cast", [f"{name}.high"], [f"{name}.whole"], to=TensorProto.FLOAT),
                helper.make_node("Add", [f"{name}.whole", f"{name}.fraction"], [f"{name}.steps"]),
                helper.make_node("Mul", [f"{name}.steps", f"{name}.scale"], [name]),
            ]
        constants += [numpy_helper.from_array(part, f"{name}.{key}") for key, part in parts.items()]
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(constants)
    model.graph.node.extend(nodes)
    onnx.save(model, path)


def _parts(values: NDArray[np.float32], axis: int) -> dict[str, NDArray[Any]]:
    """(high + low / 16) * scale are the values: int8, one byte for the `low` of two values, float32 [.., 1, ..]."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    step = np.abs(values).max(others, keepdims=True) / LEVELS
    step = np.where(step > 0, step, 1)  # of a channel that is dead
    high, low = np.divmod((values / step).round().astype(np.int16), HALF)
    first, second = low.reshape(-1, 2).T.astype(np.uint8)
    return {
        "high": high.astype(np.int8),
        "low": first * HALF + second,
        "shape": np.array(values.shape),
        "scale": (HALF * step).astype(np.float32),
    }


def _output_axis(node: "NodeProto", axes: int) -> int:
    """The axis of a weight along which the outputs lie."""
    is_transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if node.op_type == "Conv" or is_transposed else axes - 1


def cost(run: Run, before: Path, after: Path) -> Cost:
    """Of the second file compared with the first: on test images of the run, or on the bundled ones without them."""
    import onnxruntime
    import torch

    labels = None
    try:
        test = splits_of(run).test
    except UserError:
        files = sorted(BUNDLED.rglob("*.jpg"))
        batches: Iterator[NDArray[np.uint8]] = (np.asarray(open_image(file))[None] for file in files)
        images = f"{len(files)} example pictures (the run's own test images are not at hand)"
    else:
        chosen = torch.linspace(0, len(test) - 1, min(TESTED, len(test))).round().long()
        labels = test.labels[chosen].numpy()
        batches = (test.pixels(some).numpy() for some in chosen.split(BATCH))
        images = f"{len(chosen):,} test images"
    sessions = [onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in (before, after)]
    found = [[session.run(["probabilities"], {"images": some})[0] for session in sessions] for some in batches]
    old, new = (np.concatenate(parts) for parts in zip(*found, strict=True))
    top = [np.sort(np.argsort(-values, kind="stable")[:, :5]) for values in (old, new)]
    return Cost(
        images=images,
        accuracy=None if labels is None else (_share(old.argmax(1) == labels), _share(new.argmax(1) == labels)),
        agreement=_share(old.argmax(1) == new.argmax(1)),
        top=_share((top[0] == top[1]).all(1)),
        difference=float(np.abs(old - new).max()),
    )


def _share(holds: NDArray[np.bool_]) -> float:
    return float(holds.mean())
