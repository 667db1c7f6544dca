"""What Predict costs for photographs: `python benchmarks/photo_answers.py [--rounds N] [--save]`.

The photograph model on the example photographs, in this process and without the page: the answer with the features that
the class maps need, the maps of its five best classes by each method, the test of two maps with their random ones (most
of it forward passes), and pictures per second where many are classified.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.data.images import open_image
from resnet_space.explain.saliency import METHODS
from resnet_space.inference import Classifier
from resnet_space.runs import PHOTO_BACKBONE, Run

PHOTOGRAPHS = ROOT / "resnet_space" / "datasets" / "photographs"
MANY = 64


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The median of some rounds, after one to warm up."""
    work()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measured(rounds: int) -> dict[str, float]:
    """Seconds by what takes them, and pictures per second."""
    classifier = Classifier(Run.open(ROOT / "checkpoints" / PHOTO_BACKBONE))
    pictures = [open_image(path, short_side=512) for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    picture = pictures[0]
    prediction = classifier.predict(picture, features=True)
    best = prediction.indices
    found = {"answer": seconds(lambda: classifier.predict(picture, features=True), rounds)}
    for method in METHODS:

        def maps(method: str = method) -> object:
            return classifier.class_maps(prediction, best, method)

        found[f"{method} of five classes"] = seconds(maps, rounds)
    two = {method: classifier.class_maps(prediction, best[:1], method).raw[0] for method in METHODS}
    start = time.perf_counter()
    classifier.evidence(picture, best[0], two)
    found["test of two maps"] = time.perf_counter() - start
    many = (pictures * MANY)[:MANY]
    found["pictures per second"] = MANY / seconds(lambda: list(classifier.predict_many(many)), max(rounds // 5, 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what Predict costs for photographs.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--save", action="store_true", help="write the result to benchmarks/results/")
    options = parser.parse_args()
    found = measured(options.rounds)
    for name, value in found.items():
        print(f"{name}: {value:.3g}")
    if options.save:
        save("photo_answers", found)


if __name__ == "__main__":
    main()
