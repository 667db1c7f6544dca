"""Export a run to a self-contained ONNX file (https://onnx.ai) that runs in other languages, without this package.

From a shell: `python -m resnet_space.hub.export RUN_DIR FILE`.

The file's input is `images`, float32 [N, 3, H, W], and its output `logits`, float32 [N, C]; N may differ from call to
call. What else is needed is in the file's metadata, each value as JSON:

  classes              the name of each logit
  resize, image_size   in pixels: resize the short side to the former, then cut the centre square (H = W) of the latter;
                       of an odd rest, the pixel more is cut off above and on the left
  mean, std            per channel (RGB): images are (values in 0..1 - mean) / std
  temperature          probabilities are the softmax of logits / temperature
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING

from resnet_space.common.errors import UserError
from resnet_space.runs import Run, replaced_atomically

if TYPE_CHECKING:  # these take seconds to import, and only an export needs them
    from torch import Tensor
    from torch.onnx import ONNXProgram

    from resnet_space.models import Backbone, ChannelAttention

OPSET = 20  # what the exporter takes by itself; onnxruntime reads the file from its version 1.18 on
CHECKED_BATCHES = (1, 3)  # neither is the size that the model is traced with
STAGES = ("load", "translate", "check")
TOLERANCE = 1e-4  # of the largest logit; rounding makes about 1e-6, and more in networks that amplify it


@dataclass(frozen=True)
class OnnxExport:
    """A checked ONNX file.

    `largest_difference` is the largest difference from PyTorch's logits on random images, as a fraction of the largest
    absolute logit.
    """

    path: Path
    largest_difference: float


def export_onnx(run: Run, path: Path, tell: Callable[[str], None] | None = None) -> OnnxExport:
    """`write_onnx` in a process of its own, so that other threads of this one may use torch meanwhile.

    `tell` is called with each of `STAGES` as it begins.

    Raises:
        UserError: as `write_onnx`, or if that process failed or was killed.
    """
    command = [sys.executable, "-m", "resnet_space.hub.export", str(run.path), str(path.absolute())]
    folder = Path(__file__).parents[2]  # where Python finds this package
    line = ""
    with (
        tempfile.TemporaryFile("w+") as errors,  # a pipe that nobody reads would fill up
        subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in map(str.strip, process.stdout):
            if tell is not None and line in STAGES:
                tell(line)
        if process.wait():
            errors.seek(0)
            said = errors.read().strip().splitlines()
            how = f"The export of {run.name} failed with exit status {process.returncode}."
            raise UserError(said[-1] if said else how)
    return OnnxExport(path, float(line.split()[-1]))


def write_onnx(run: Run, path: Path, tell: Callable[[str], None] = lambda _stage: None) -> OnnxExport:
    """Write the run's model as a single ONNX file, replacing `path`, after checking that it gives the model's logits.

    No other thread may use torch meanwhile: tracing changes state that all threads share. Two exports at once fail, and
    so does a training, now and then.

    Raises:
        UserError: if the run has no fitting weights, or the file's logits differ from PyTorch's by more than
            `TOLERANCE` of the largest; then nothing is written.
    """
    tell(STAGES[0])
    import torch

    model = run.load_model()
    size = run.config.model.image_size
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(count, 3, size, size, generator=generator) for count in CHECKED_BATCHES]
    with torch.inference_mode():
        expected = [model(images) for images in batches]  # before the model is made ready for tracing
    tell(STAGES[1])
    program = _traced(model, size)
    program.model.metadata_props.update(_metadata(run))
    with replaced_atomically(path) as file:
        tell(STAGES[2])
        program.save(file, external_data=False)  # one file: even resnet152 has far less than the format's 2 GB
        difference = _largest_difference(file, batches, expected)
        if not difference <= TOLERANCE:  # and not ">", which NaN would pass
            raise UserError(
                f"The ONNX file of {run.name} was not kept: its logits differ from PyTorch's by {difference:.2g} of "
                f"the largest logit, above the tolerance of {TOLERANCE:g}."
            )
    return OnnxExport(path, difference)


def _metadata(run: Run) -> dict[str, str]:
    config = run.config.model
    values = {
        "classes": config.classes,
        "resize": config.stored_size,
        "image_size": config.image_size,
        "mean": config.mean,
        "std": config.std,
        "temperature": config.temperature,
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def _traced(model: "Backbone", size: int) -> "ONNXProgram":
    """The model as an ONNX program for images of this size in pixels. Leaves the model ready for tracing only."""
    import torch

    from resnet_space.models import ChannelAttention

    for module in model.modules():
        if isinstance(module, ChannelAttention):
            module.forward = MethodType(_traceable_channel_attention, module)  # type: ignore[method-assign]
        if hasattr(module, "fused_attn"):  # timm's: the exporter of torch 2.11 fails on the fused one with a mask
            setattr(module, "fused_attn", False)  # noqa: B010
    with warnings.catch_warnings():
        # torch.export copies its own tree of arguments, and torch 2.11 warns itself about how it does that.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        program = torch.onnx.export(
            model,
            (torch.zeros(2, 3, size, size),),  # with one image, tracing would fix N to 1
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is None without `dynamo` only
    # The exporter notes where in which source file each node comes from, with the paths of this machine.
    program.model.metadata_props.clear()
    program.model.graph.metadata_props.clear()
    for node in program.model.graph:
        node.metadata_props.clear()
    return program


def _traceable_channel_attention(module: "ChannelAttention", x: "Tensor") -> "Tensor":
    """As `ChannelAttention.forward`, which the exporter of torch 2.11 cannot translate for two reasons.

    It has no adaptive max-pool (pytorch/pytorch#183439), and it cannot prove for any N that half of 2N images is N.
    """
    gate: Tensor = module.gate(module.mlp(x.mean((2, 3))) + module.mlp(x.amax((2, 3))))
    return module.gain * gate[:, :, None, None]


def _largest_difference(file: Path, batches: "list[Tensor]", expected: "list[Tensor]") -> float:
    """The largest |logit - expected logit| over all images, divided by the largest |expected logit|; NaN if any is."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(["logits"], {"images": images.numpy()})[0] for images in batches])
    pytorchs = np.concatenate([batch.numpy() for batch in expected])
    largest = max(float(np.abs(pytorchs).max()), float(np.finfo(np.float32).tiny))  # they may all be zero
    return float(np.abs(logits - pytorchs).max()) / largest


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m resnet_space.hub.export", description="Export a run's model to ONNX and check the result."
    )
    parser.add_argument("run", metavar="RUN_DIR", help="folder of the run, with its weights")
    parser.add_argument("file", metavar="FILE", type=Path, help="ONNX file to write; an existing file is replaced")
    arguments = parser.parse_args()
    try:
        export = write_onnx(Run.open(arguments.run), arguments.file, lambda stage: print(stage, flush=True))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Largest difference from PyTorch's logits, as a fraction of the largest logit: {export.largest_difference}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
