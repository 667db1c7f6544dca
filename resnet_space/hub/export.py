"""Export a run to a self-contained ONNX file (https://onnx.ai) that needs nothing of this package, or to a web page.

From a shell: `python -m resnet_space.hub.export RUN_DIR FILE [--format onnx-int8]`.

The ONNX file takes pictures as they are, `images`, uint8 [N, H, W, 3] in RGB, and prepares them itself as `Classifier`
does. H and W may be any, N any number. Its outputs, k = min(5, C):

  logits             float32 [N, C], uncalibrated
  probabilities      float32 [N, C], calibrated by the run's temperature
  top_probabilities  float32 [N, k], the largest first; their classes are
  top_indices        int64 [N, k], and by name
  top_names          string [N, k]
  ood_score          float32 [N], above 1 for a picture unlike the training images; where the run has feature statistics
  maps               float32 [N, k, h, w], class maps; where the classifier is linear in the mean features
  seen               uint8 [N, S, S, 3], the pixels that the model sees; where there are no maps

Its metadata have the values that went into it, each as JSON: classes, image_size, resize, mean, std, temperature.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_space.common.command import in_one_sentence
from resnet_space.common.errors import UserError
from resnet_space.common.text import quoted
from resnet_space.hub.licence import licence_of
from resnet_space.hub.portable import MODEL_FILE, model_file, portable_config
from resnet_space.runs import (
    CARD,
    CONFIG,
    EVALUATION,
    FEATURE_STATISTICS,
    FIGURES,
    METRICS,
    NOTICE,
    WEIGHTS,
    Run,
    replaced_atomically,
)

if TYPE_CHECKING:  # these take seconds to import, and only an export needs them
    import numpy as np
    from numpy.typing import NDArray

    from resnet_space.inference import Classifier

FORMATS = {  # name -> ending of the file
    "safetensors": "zip",
    "onnx": "onnx",
    "onnx-int8": "onnx",
    "page": "zip",
    "page-int8": "zip",
}
FOLDER = (WEIGHTS, METRICS, EVALUATION, FEATURE_STATISTICS, CARD, NOTICE)  # and the figures
STAGES = ("load", "translate", "check", "quantize", "page")
CHECKED = ((1, 1.0, 1.4), (3, 2.3, 1.7))  # images, and height and width as multiples of the model's; others are traced
TOLERANCE = 1e-4  # of an output's largest value; rounding makes about 1e-6, and more in networks that amplify it
SCORE, SCORE_TOLERANCE = "ood_score", 1e-2  # a small difference of large sums, whose rounding it amplifies
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Export:
    """A checked file, and in `words` how closely it gives the run's answers."""

    path: Path
    words: str


def export(run: Run, path: Path, kind: str = "onnx", tell: Tell | None = None) -> Export:
    """`write` in a process of its own, so that other threads of this one may use torch meanwhile.

    `tell` is called with each of `STAGES` as it begins.

    Raises:
        UserError: as `write`, or if that process failed or was killed.
    """
    command = [sys.executable, "-m", "resnet_space.hub.export", str(run.path), str(path.absolute())]
    folder = Path(__file__).parents[2]  # where Python finds this package
    line = ""
    with (
        tempfile.TemporaryFile("w+") as errors,  # a pipe that nobody reads would fill up
        subprocess.Popen(
            [*command, f"--format={kind}"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
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
    return Export(path, line)


def write(run: Run, path: Path, kind: str = "onnx", tell: Tell = lambda _stage: None) -> Export:
    """Write the run in one of `FORMATS`, replacing `path`, after checking that it gives the run's answers.

    No other thread may use torch meanwhile: tracing changes state that all threads share. Two exports at once fail, and
    so does a training, now and then.

    Raises:
        UserError: as `write_onnx` and `page_files`, or if the run has no weights; then nothing is written.
    """
    if not run.has_weights:  # before anything heavy is imported
        raise UserError(f"{run.name} has no {WEIGHTS} yet: train it for at least one epoch first.")
    if kind == "safetensors":
        return _write_folder(run, path)
    with replaced_atomically(path) as file, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        onnx, small = Path(folder) / "model.onnx", Path(folder) / "small.onnx"
        difference = write_onnx(run, onnx, tell)
        by = f"by at most {difference:.0e} of their largest value" if difference else "by nothing"
        words = f"On random pictures, the answers of the exported model differ from PyTorch's {by}."
        if kind.endswith("-int8"):
            from resnet_space.hub.quantized import cost, quantize

            tell("quantize")
            quantize(onnx, small)
            words = f"{words} {cost(run, onnx, small).words}"
            onnx = small
        if kind.startswith("page"):
            from resnet_space.hub.page import page_files

            tell("page")
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in page_files(run, onnx).items():
                    archive.writestr(f"{run.name}/{name}", content)
        else:
            onnx.replace(file)
    return Export(path, words)


def ending_of(kind: object) -> str:
    """Of a file in one of `FORMATS`. Raises UserError for another one."""
    if kind not in FORMATS:
        raise UserError(f"The format must be one of {', '.join(FORMATS)}, not {quoted(kind)}.")
    return FORMATS[str(kind)]


def _write_folder(run: Run, path: Path) -> Export:
    """What a push uploads, as a zip. Unpacked, it is a run again, and loads elsewhere as a pushed one does."""
    figures = [f"{FIGURES}/{file.name}" for file in sorted((run.path / FIGURES).glob("*.png"))]
    with replaced_atomically(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{run.name}/{CONFIG}", portable_config(run.config, licence_of(run)))
        if source := model_file(run.config.model):
            archive.writestr(f"{run.name}/{MODEL_FILE}", source)
        for name in (*FOLDER, *figures):
            if (there := run.existing(name)) is not None:
                archive.write(there, f"{run.name}/{name}")
    return Export(path, "The zip has the weights as safetensors, the configuration, metrics, figures and model card.")


def write_onnx(run: Run, path: Path, tell: Tell = lambda _stage: None) -> float:
    """Write the run as a single ONNX file, replacing `path`, after checking that it gives the answers of `Classifier`.

    Returns:
        The largest difference from PyTorch's values on random pictures, of all outputs but the names and the
        out-of-distribution score, as a fraction of each output's largest absolute value.

    Raises:
        UserError: if the run has no fitting weights, or the difference is above `TOLERANCE`, or that of the score above
            `SCORE_TOLERANCE`; then nothing is written.
    """
    tell("load")
    import numpy as np

    from resnet_space.hub.graph import WholeNetwork, traced
    from resnet_space.inference import Classifier

    classifier = Classifier(run)
    generator = np.random.default_rng(0)
    size = run.config.model.image_size
    batches = [
        generator.integers(0, 256, (count, round(high * size), round(wide * size), 3), dtype=np.uint8)
        for count, high, wide in CHECKED
    ]
    network = WholeNetwork(run.load_model(), run.config.model, classifier.feature_statistics)
    expected = [_answers(classifier, images, network.outputs) for images in batches]
    tell("translate")
    program = traced(network, run.config.model.classes)
    program.model.metadata_props.update(_metadata(run))
    with replaced_atomically(path) as file:
        tell("check")
        program.save(file, external_data=False)  # one file: even resnet152 has far less than the format's 2 GB
        differences = _differences(file, batches, expected)
        for name, difference in differences.items():
            tolerance = SCORE_TOLERANCE if name == SCORE else TOLERANCE
            if not difference <= tolerance:  # and not ">", which NaN would pass
                raise UserError(
                    f"The ONNX file of {run.name} was not kept: its {name} differ from PyTorch's by {difference:.2g} "
                    f"of the largest value, above the tolerance of {tolerance:g}."
                )
    return max(difference for name, difference in differences.items() if name != SCORE)


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


def _answers(
    classifier: "Classifier", images: "NDArray[np.uint8]", names: Sequence[str]
) -> "dict[str, NDArray[np.float32]]":
    """What a `Classifier` gives for pictures [N, H, W, 3], by those of the file's outputs that it has, too."""
    import numpy as np
    from PIL import Image

    predictions = [classifier.predict(Image.fromarray(image), features=True) for image in images]
    found: dict[str, list[Any]] = {
        "logits": [prediction.logits.numpy() for prediction in predictions],
        "top_probabilities": [prediction.probabilities for prediction in predictions],
    }
    if SCORE in names:
        found[SCORE] = [prediction.ood_score for prediction in predictions]
    if "maps" in names:
        found["maps"] = [classifier.class_maps(prediction, prediction.indices).raw for prediction in predictions]
    return {name: np.array(values, dtype=np.float32) for name, values in found.items()}


def _differences(
    file: Path, batches: "list[NDArray[np.uint8]]", expected: "list[dict[str, NDArray[np.float32]]]"
) -> dict[str, float]:
    """By output, the largest |value - expected value|, divided by the largest |expected value|; NaN if any value is."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = list(expected[0])
    found = [dict(zip(names, session.run(names, {"images": images}), strict=True)) for images in batches]
    differences = {}
    for name in names:
        values, own = (np.concatenate([one[name] for one in some]) for some in (found, expected))
        largest = max(float(np.abs(own).max()), float(np.finfo(np.float32).tiny))  # they may all be zero
        differences[name] = float(np.abs(values - own).max()) / largest
    return differences


@in_one_sentence
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m resnet_space.hub.export", description="Export a run and check the result."
    )
    parser.add_argument("run", metavar="RUN_DIR", help="folder of the run, with its weights")
    parser.add_argument("file", metavar="FILE", type=Path, help="file to write; an existing file is replaced")
    parser.add_argument(
        "--format",
        default="onnx",
        choices=FORMATS,
        help="ONNX or a zip with a web page that runs the model in the browser, each also with 12-bit weights (-int8)",
    )
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    print(write(run, arguments.file, arguments.format, lambda stage: print(stage, flush=True)).words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
