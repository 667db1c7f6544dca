"""What looking inside costs: `python benchmarks/measures.py [--save]`.

Times `residual_norms`, `measure` (norms, angles, gates and layer responses) and `attention_maps` beside a plain forward
pass of the same model on the same images (float32, CPU, 64 images), in interleaved rounds; reports medians and their
ratios.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.explain.attention import attention_maps
from resnet_space.models import create_model
from resnet_space.residuals import last, measure, residual_norms

IMAGES = 64
CASES = {
    "resnet20, CBAM after every stage, 32 px": ("resnet20", "stage", 32),
    "resnet20, CBAM in every block, 32 px": ("resnet20", "block", 32),
    "resnet50, CBAM after every stage, 224 px": ("resnet50", "stage", 224),
}


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def forward(model: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        model(images)


def measured(model: nn.Module, images: Tensor) -> None:
    last(measure(model, [images]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/measures.json")
    arguments = parser.parse_args()

    results = {}
    looks = ("residual_norms", "measure", "attention_maps")
    print(f"{'':42} {'forward':>10}" + "".join(f" {look:>18}" for look in looks))
    for title, (name, cbam, size) in CASES.items():
        model = create_model(name, 10, cbam=cbam).eval()
        # As the app has them: normalised images come in channels_last.
        images = torch.randn(IMAGES, 3, size, size).to(memory_format=torch.channels_last)

        calls: dict[str, Callable[[], object]] = {
            "forward": partial(forward, model, images),
            "residual_norms": partial(residual_norms, model, images),
            "measure": partial(measured, model, images),
            "attention_maps": partial(attention_maps, model, images),
        }
        times: dict[str, list[float]] = {call: [] for call in calls}
        for round_number in range(arguments.rounds + 1):
            for call, function in calls.items():
                spent = seconds(function)
                if round_number:  # the first round warms up
                    times[call].append(spent)
        median = {call: statistics.median(spent) for call, spent in times.items()}
        ratio = {call: median[call] / median["forward"] for call in median}
        results[title] = {"median_seconds": median, "ratio_to_forward": ratio}
        print(
            f"{title:42} {median['forward'] * 1e3:7.1f} ms"
            + "".join(f" {median[call] * 1e3:8.1f} ms x{ratio[call]:4.2f}" for call in looks)
        )
    if arguments.save:
        save("measures", {"images": IMAGES, "rounds": arguments.rounds, "cases": results})


if __name__ == "__main__":
    main()
