"""The numbers and figures of docs/studies.md: `python benchmarks/studies.py [--images N]`.

Measures the shipped runs on test images of cifar10-mini, which come with the repository. Writes
benchmarks/results/residuals.json and docs/studies/.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.by_depth import Curve, Panel, by_depth
from benchmarks.machine import save
from resnet_space.plots.figures import save_png
from resnet_space.residuals import (
    Measured,
    early_readings,
    gradients,
    last,
    lesioned,
    measure,
    probe,
    probe_batches,
    random_drops,
    single_drops,
    swaps,
)
from resnet_space.runs import BACKBONE, DEEP, PLAIN, SHALLOW, SHIPPED, SHOWPIECE, Run, last_metric

FIGURES = ROOT / "docs" / "studies"
DATASET = "cifar10-mini"
DRAWN = (1, 2, 3, 5, 8)  # blocks dropped at random

Batches = list[tuple[Tensor, Tensor]]


def rounded(values: Tensor | float) -> Any:
    """As a JSON file should have them: four digits, null where not a number."""
    if isinstance(values, Tensor):
        return [rounded(value) for value in values] if values.ndim else rounded(values.item())
    return None if values != values else float(f"{values:.4g}")


def batches_for(run: Run, images: int) -> Batches:
    return list(probe_batches(probe(DATASET, "test", images, run.config.model), run.config.model, 100))


def trained(run: Run) -> dict[str, Any]:
    """How long, and how well it does."""
    metrics = run.metrics()
    epochs = [metric for metric in metrics if metric["event"] == "epoch"]
    test, start = last_metric(metrics, "test") or {}, last_metric(metrics, "start") or {}
    return {
        "dataset": run.config.training.dataset,
        "train_images": start.get("train_images"),
        "epochs": len(epochs),
        "seconds": epochs[-1]["seconds"] if epochs else None,
        "test_accuracy": test.get("accuracy"),
    }


def study_norms(run: Run, batches: Batches) -> tuple[dict[str, Any], Measured]:
    found = last(measure(run.load_model(), (images for images, _ in batches)))
    quartiles = found.norms.ratio.double().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), dim=1).T
    numbers = {
        "images": found.images,
        "blocks": found.norms.blocks,
        "identity": found.norms.identity,
        "stages": found.stages,
        "ratio_quartiles": rounded(quartiles),
        "cosine_median": rounded(found.cosine.median(1).values),
        "layers": found.responses.layers,
        "response_std": rounded(found.responses.std),
        "response_std_mean": rounded(found.responses.std.mean()),
    }
    return numbers, found


def study_lesions(run: Run, batches: Batches) -> dict[str, Any]:
    model = run.load_model()
    droppable = single_drops(model)
    counts = [count for count in DRAWN if count < len(droppable)]
    at_random = random_drops(model, counts, draws=5)
    swapped = swaps(model)
    swapped = swapped[:: max(1, len(swapped) // 30)]  # a resnet56 has 92
    found = last(lesioned(model, batches, [*droppable, *at_random, *swapped]))
    drops = found.accuracy[: len(droppable)]
    draws = found.accuracy[len(droppable) : len(droppable) + len(at_random)].view(len(counts), -1)
    return {
        "images": found.images,
        "accuracy": found.base_accuracy,
        "blocks": [lesion.blocks[0] for lesion in droppable],
        "accuracy_without": rounded(drops),
        "accuracy_without_random": dict(zip(map(str, counts), rounded(draws.mean(1)), strict=True)),
        "swaps": len(swapped),
        "accuracy_swapped_mean": rounded(found.accuracy[len(droppable) + len(at_random) :].mean()),
    }


def study_reading(run: Run, batches: Batches) -> dict[str, Any]:
    found = last(early_readings(run.load_model(), batches))
    return {
        "blocks": found.blocks,
        "accuracy": rounded(found.accuracy),
        "final_class_probability": rounded(found.final.double().mean(1)),
    }


def study_gradients(run: Run, batches: Batches) -> dict[str, Any]:
    found = last(gradients(run.load_model(), batches))
    medians = {
        name: rounded(getattr(found, name).median(1).values) for name in ("norm", "alignment", "branches", "plain")
    }
    return {"images": found.images, "blocks": found.blocks, **medians}


def ends_of(found: Measured) -> list[int]:
    return [i for i in range(1, len(found.stages)) if found.stages[i] != found.stages[i - 1]]


def ratio_curve(label: str, found: Measured) -> Curve:
    low, middle, high = found.norms.ratio.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1).tolist()
    return Curve(label, middle, low, high)


def draw(measured: dict[str, Measured], results: dict[str, dict[str, Any]]) -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    block, ratio = "block, in forward order", "||F(x)|| / ||x||"

    def panel(title: str, names: list[str]) -> Panel:
        first = measured[names[0]]
        curves = [ratio_curve(name, measured[name]) for name in names]
        return Panel(title, ratio, block, curves, first.norms.blocks, ends_of(first), level=1)

    panels = [panel(name, [name]) for name in (SHOWPIECE, SHALLOW, DEEP)]
    save_png(by_depth(panels), FIGURES / "ratio.png")

    panels = []
    for name in (SHOWPIECE, SHALLOW, DEEP, PLAIN):
        lesions = results[name]["lesions"]
        curves = [Curve("one block dropped", [100 * a for a in lesions["accuracy_without"]])]
        whole = 100 * lesions["accuracy"]
        ends = [] if measured[name].plain else ends_of(measured[name])
        title = f"{name}: {whole:.1f} % as it is"
        panels.append(Panel(title, "accuracy (%)", "block that is dropped", curves, lesions["blocks"], ends, whole))
    save_png(by_depth(panels), FIGURES / "lesions.png")

    save_png(by_depth([panel("before and after fine-tuning", [BACKBONE, SHOWPIECE])]), FIGURES / "finetuning.png")

    responses = {name: measured[name].responses.std.tolist() for name in (SHALLOW, DEEP, PLAIN)}
    y = "standard deviation of the response"
    panels = [
        Panel("in layer order", y, "3x3 layer, by relative depth", [Curve(n, v) for n, v in responses.items()]),
        Panel(
            "sorted by size",
            y,
            "3x3 layer, from the largest to the smallest",
            [Curve(name, sorted(values, reverse=True)) for name, values in responses.items()],
        ),
    ]
    save_png(by_depth(panels), FIGURES / "responses.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000, help="of cifar10-mini's test split, which has 1,000")
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    measured: dict[str, Measured] = {}
    for name in SHIPPED:
        run = Run.open(ROOT / "checkpoints" / name)
        batches = batches_for(run, arguments.images)
        norms, measured[name] = study_norms(run, batches)
        results[name] = {"training": trained(run), "norms": norms}
        if name != BACKBONE:  # which knows other classes
            results[name] |= {"lesions": study_lesions(run, batches), "reading": study_reading(run, batches)}
            if not measured[name].plain:
                results[name]["gradients"] = study_gradients(run, batches[:3])
        print(f"{name}: measured", flush=True)
    draw(measured, results)
    save("residuals", {"dataset": DATASET, "split": "test", "runs": results})


if __name__ == "__main__":
    main()
